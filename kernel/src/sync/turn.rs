//! A turn: what one thread at a time may do for long, with interrupts on. Whoever waits for it gives way.

use super::checks;
use crate::thread::{Shield, give_way_to_all};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

/// A value that one thread at a time may use, for as long as it takes.
pub(crate) struct Turn<T> {
    name: &'static str,
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `taken` sees to it that one at a time has the value, which may be any thread's.
unsafe impl<T: Send> Sync for Turn<T> {}

impl<T> Turn<T> {
    /// A turn at `value`, called `name` in reports.
    pub(crate) const fn new(name: &'static str, value: T) -> Self {
        Self { name, taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Runs `f` when it is this thread's turn; in a thread, with nothing held. An abort waits until it is over.
    ///
    /// # Panics
    /// If it would have to wait where that cannot be done; in an image that checks the use of locks, even if not.
    #[track_caller]
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        checks::in_a_thread(self.name);
        let _shield = Shield::new();
        let (mut f, mut turns) = (Some(f), 0u32);
        loop {
            match self.try_with(|value| f.take().expect("run once")(value)) {
                Some(result) => return result,
                None => give_way_to_all(turns),
            }
            turns = turns.wrapping_add(1);
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
