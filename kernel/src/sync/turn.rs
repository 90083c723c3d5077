//! A turn: what one thread at a time may do for long, with interrupts on. Whoever waits for it gives way.

use crate::thread::{Shield, yield_now};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

/// A value that one thread at a time may use, for as long as it takes.
pub(crate) struct Turn<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `taken` sees to it that one at a time has the value, which may be any thread's.
unsafe impl<T: Send> Sync for Turn<T> {}

impl<T> Turn<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Runs `f` when it is this thread's turn; in a thread, with nothing held. An abort waits until it is over.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        let _shield = Shield::new();
        let mut f = Some(f);
        loop {
            match self.try_with(|value| f.take().expect("run once")(value)) {
                Some(result) => return result,
                None => yield_now(),
            }
        }
    }

    /// Runs `f` if nobody has the turn.
    pub(crate) fn try_with<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        // Acquire: pairs with the release below; what the one before did is seen.
        if self.taken.swap(true, Ordering::Acquire) {
            return None;
        }
        // SAFETY: nobody else has it.
        let result = f(unsafe { &mut *self.value.get() });
        self.taken.store(false, Ordering::Release);
        Some(result)
    }

    /// The value, whoever has the turn.
    ///
    /// # Safety
    /// No other CPU runs any more, or this is the only one that ever ran.
    #[expect(clippy::mut_from_ref, reason = "that is the point, and the caller's promise makes it sound")]
    pub(crate) unsafe fn steal(&self) -> &mut T {
        // SAFETY: whoever had it does not run any more, by the caller's promise.
        unsafe { &mut *self.value.get() }
    }
}
