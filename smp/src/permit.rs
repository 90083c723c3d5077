//! Permission to wait for other CPUs, as a value that a lock can be lent.
//!
//! Whoever waits for other CPUs with a lock in hand may wait for one that spins for that lock. So waiting takes
//! [`MayWait`], exclusively, and so does a lock that is taken on the way to a wait ([`Lock::lend`]): while it is held, the permission
//! is lent, and the wait does not compile.
//!
//! [`Lock::lend`]: crate::reaper::Lock::lend

use core::marker::PhantomData;

/// The caller holds no lock, and interrupts reach its CPU, or it serves its own inbox. Stays on its CPU's stack.
#[derive(Debug)]
pub struct MayWait(PhantomData<*mut ()>);

impl MayWait {
    /// States that it is so: for the one place that has checked it.
    #[must_use]
    pub const fn checked() -> Self {
        Self(PhantomData)
    }
}
