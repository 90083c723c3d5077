//! Locks, the masking of interrupts that they need, and the checks of how they are used.

pub(crate) mod checks;
pub(crate) mod irq;
pub(crate) mod order;
pub(crate) mod site;
mod spinlock;
pub(crate) mod turn;

pub(crate) use spinlock::may_wait;
pub use spinlock::{SpinLock, SpinLockGuard};
