//! The atomics that everything in this crate is made of: the hardware's, or those of a model checker.
//!
//! With the cargo feature `loom` or `shuttle` the same protocol code runs under that checker, which decides every
//! interleaving and, with loom, every value that a weakly ordered load may give. The shape follows crossbeam's.

#[cfg(not(any(feature = "loom", feature = "shuttle")))]
pub use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
#[cfg(feature = "loom")]
pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
#[cfg(all(feature = "shuttle", not(feature = "loom")))]
pub use shuttle::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// A constructor that is `const`, except under loom, whose atomics are made at run time.
macro_rules! constructor {
    ($(#[$meta:meta])* $vis:vis const fn $($rest:tt)*) => {
        #[cfg(not(feature = "loom"))]
        $(#[$meta])* $vis const fn $($rest)*
        #[cfg(feature = "loom")]
        $(#[$meta])* $vis fn $($rest)*
    };
}
pub(crate) use constructor;
