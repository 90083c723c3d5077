//! The shipped protocols under shuttle.
#![cfg(feature = "shuttle")]

mod model;
