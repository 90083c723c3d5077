//! Locks, and the masking of interrupts that they need.

pub(crate) mod irq;
mod spinlock;
pub(crate) mod turn;

pub use spinlock::SpinLock;
pub(crate) use spinlock::assert_may_wait;
