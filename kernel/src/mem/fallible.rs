//! Heap memory that may be missing: allocations that give an error where `Box::new` and `Arc::new` would end the machine.
//! For what stable Rust has no name for; [`alloc::vec::Vec::try_reserve`] does for vectors.

use super::heap;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::fmt;
use core::sync::atomic::AtomicUsize;

/// The heap is used up, and no frame is left for it to grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfHeap;

impl fmt::Display for OutOfHeap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the heap is used up")
    }
}

impl core::error::Error for OutOfHeap {}

/// `length` values on the heap, each made by `value`.
///
/// # Errors
/// [`OutOfHeap`]; then `value` was not called.
pub(crate) fn try_slice<T>(length: usize, value: impl FnMut() -> T) -> Result<Box<[T]>, OutOfHeap> {
    let mut values = Vec::new();
    values.try_reserve_exact(length).map_err(|_| OutOfHeap)?;
    values.extend(core::iter::repeat_with(value).take(length));
    Ok(values.into_boxed_slice())
}

/// `value` on the heap, shared.
///
/// # Errors
/// [`OutOfHeap`]; then `value` was dropped.
pub(crate) fn try_arc<T>(value: T) -> Result<Arc<T>, OutOfHeap> {
    /// What `Arc` allocates: two counts and the value. If that is not so any more, [`heap::with_promised`] says so.
    #[repr(C)]
    struct Shared<T>(AtomicUsize, AtomicUsize, T);
    heap::with_promised(Layout::new::<Shared<T>>(), || Arc::new(value))
}
