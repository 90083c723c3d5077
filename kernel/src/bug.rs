//! Faults that can be put back on purpose with `bug=`, those of the kernel here and those of the protocols in
//! [`smp::bug`]. An image without the cargo feature `seeded-bugs` has none of them, and refuses the word.

use wire::cmdline::Bug;

/// Puts `bug` back.
///
/// # Errors
/// If this image has no seeded bugs.
#[cfg(not(feature = "seeded-bugs"))]
pub(crate) fn arm(_bug: Bug) -> Result<(), &'static str> {
    Err("this image has no seeded bugs; build it with the feature 'seeded-bugs'")
}

/// Whether `bug` was put back.
#[cfg(not(feature = "seeded-bugs"))]
#[inline]
pub(crate) const fn armed(_bug: Bug) -> bool {
    false
}

#[cfg(feature = "seeded-bugs")]
mod seeded {
    use super::Bug;
    use core::sync::atomic::{AtomicU8, Ordering};

    static ARMED: AtomicU8 = AtomicU8::new(u8::MAX);

    /// Puts `bug` back.
    ///
    /// # Errors
    /// None in this image.
    pub(crate) fn arm(bug: Bug) -> Result<(), &'static str> {
        match bug {
            Bug::SkipShootdown => smp::bug::arm(smp::bug::Bug::SkipShootdown),
            Bug::FreeBeforeAck => smp::bug::arm(smp::bug::Bug::FreeBeforeAck),
            Bug::DropIpi => smp::bug::arm(smp::bug::Bug::DropIpi),
            Bug::LostPending => smp::bug::arm(smp::bug::Bug::LostPending),
            Bug::PublishBeforeSwitch | Bug::JoinBeforeOffStack | Bug::ShootdownUnderLock => {}
            Bug::LockOrder | Bug::LockRecursion | Bug::IrqUnsafe | Bug::TurnInInterrupt => {}
        }
        ARMED.store(bug as u8, Ordering::Relaxed);
        Ok(())
    }

    /// Whether `bug` was put back.
    pub(crate) fn armed(bug: Bug) -> bool {
        ARMED.load(Ordering::Relaxed) == bug as u8
    }
}

#[cfg(feature = "seeded-bugs")]
pub(crate) use seeded::{arm, armed};
