//! The boot image's logic.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

/// What the image does.
///
/// # Errors
/// The promise that broke.
pub fn main() -> Result<(), &'static str> {
    kernel::println!("hello from main");
    Ok(())
}
