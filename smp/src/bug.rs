//! Faults that can be put back on purpose, so that it can be shown that the tests see them.
//!
//! Without the cargo feature `seeded-bugs`, [`armed`] is `false` at compile time and nothing of them is in the image.

#[cfg(feature = "seeded-bugs")]
use core::sync::atomic::{AtomicU8, Ordering};

/// A fault in the protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Bug {
    /// What was unmapped comes free without any CPU being asked.
    SkipShootdown = 1,
    /// What was unmapped comes free before the CPUs have acknowledged.
    FreeBeforeAck,
    /// Now and then an interrupt is not sent.
    DropIpi,
    /// Now and then a pending stack is forgotten.
    LostPending,
}

#[cfg(feature = "seeded-bugs")]
static ARMED: AtomicU8 = AtomicU8::new(0);

/// Puts `bug` back, from now on.
#[cfg(feature = "seeded-bugs")]
pub fn arm(bug: Bug) {
    ARMED.store(bug as u8, Ordering::Relaxed);
}

/// Whether `bug` was put back.
#[must_use]
#[inline]
pub fn armed(bug: Bug) -> bool {
    #[cfg(feature = "seeded-bugs")]
    return ARMED.load(Ordering::Relaxed) == bug as u8;
    #[cfg(not(feature = "seeded-bugs"))]
    {
        let _ = bug;
        false
    }
}
