//! A trace as one self-contained page.
