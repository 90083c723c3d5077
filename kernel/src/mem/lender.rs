//! Memory that its owner lends, to one at a time: who has it says so, until no CPU can use it any more.
//!
//! ```text
//!   free ──(1) take──▶ taken ──(2) its thread has left it──▶ leaving ──(3) unmapped, and every CPU has said so──▶ free
//!                        └────────────────(3) it was never mapped──────────────────────────────────────────────────┘
//! ```

use core::sync::atomic::{AtomicU8, Ordering};

const FREE: u8 = 0;
const TAKEN: u8 = 1;
const LEAVING: u8 = 2;

/// Whether memory is lent.
#[derive(Debug)]
pub(crate) struct Lender(AtomicU8);

impl Lender {
    pub(crate) const fn new() -> Self {
        Self(AtomicU8::new(FREE))
    }

    /// (1) Takes it; false if somebody has it.
    pub(crate) fn take(&self) -> bool {
        // Acquire: pairs with `give_back`; what the one before did there is done.
        self.0.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// (2) Only what is left of its mapping keeps it from being free.
    pub(crate) fn leave(&self) {
        self.0.store(LEAVING, Ordering::Relaxed);
    }

    /// (3) Nobody uses it any more.
    pub(crate) fn give_back(&self) {
        self.0.store(FREE, Ordering::Release);
    }

    /// Whether somebody has it.
    pub(crate) fn is_lent(&self) -> bool {
        self.0.load(Ordering::Acquire) != FREE
    }

    /// Whether it comes free without anybody's doing but the reaper's.
    pub(crate) fn is_leaving(&self) -> bool {
        self.0.load(Ordering::Acquire) == LEAVING
    }
}
