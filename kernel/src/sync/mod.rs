//! Locks, and the masking of interrupts that they need.

pub(crate) mod irq;
mod spinlock;

pub use spinlock::SpinLock;
pub(crate) use spinlock::assert_may_wait;
