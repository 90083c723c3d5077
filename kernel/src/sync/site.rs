//! A place in the source, kept where others may look at any time: who took a lock, who saw an order first.

use core::fmt;
use core::panic::Location;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

/// A cell for a place, or none. What it points to is in the image and never changes, so relaxed accesses suffice.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Site(AtomicPtr<Location<'static>>);

impl Site {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    #[inline(always)]
    pub(crate) fn set(&self, place: &'static Location<'static>) {
        self.0.store(ptr::from_ref(place).cast_mut(), Ordering::Relaxed);
    }

    /// Takes what `other` has.
    pub(crate) fn copy(&self, other: &Self) {
        self.0.store(other.0.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Place {
        // SAFETY: null, or a `&'static Location`.
        Place(unsafe { self.0.load(Ordering::Relaxed).as_ref() })
    }
}

/// A place in the source, if it is known.
#[derive(Clone, Copy)]
pub(crate) struct Place(pub(crate) Option<&'static Location<'static>>);

impl Place {
    pub(crate) const NONE: Self = Self(None);

    /// File and line; none is an empty file.
    pub(crate) fn parts(self) -> (&'static str, u32) {
        self.0.map_or(("", 0), |place| (place.file(), place.line()))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(place) => write!(f, "{}:{}", place.file(), place.line()),
            None => f.write_str("a place that was not kept"),
        }
    }
}
