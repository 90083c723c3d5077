//! The kernel's lock: `spin`'s mutex with interrupts off while it is held, a name, and an owner.
//!
//! Lock order, outermost first: `heap`, `page tables`, `frames`; a thread's `join`, then a `run queue`. The others
//! (`sleepers`, `reaper`, `slots`, `serial 1`, `serial 2`) are taken last, and alone.

use super::irq::IrqsOff;
use crate::trace::{Event, emit};
use crate::{cpu, time};
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};
use wire::trace::event::text;

/// No CPU.
const NOBODY: u32 = u32::MAX;

/// A lock that spins, with interrupts off while it is held. Nobody waits for another CPU with one in hand.
pub struct SpinLock<T> {
    name: &'static str,
    /// Who has it, for reports and to tell recursion from contention.
    owner: AtomicU32,
    inner: spin::Mutex<T>,
}

impl<T> SpinLock<T> {
    /// A lock around `value`, called `name` in reports.
    pub const fn new(name: &'static str, value: T) -> Self {
        Self { name, owner: AtomicU32::new(NOBODY), inner: spin::Mutex::new(value) }
    }

    /// Takes the lock.
    ///
    /// # Panics
    /// If this CPU has it already, or nobody gives it up for as long as the command line's `patience=` allows.
    pub fn lock(&self) -> Guard<'_, T> {
        let irqs = IrqsOff::new();
        let me = irqs.cpu().id().index() as u32;
        let inner = self.inner.try_lock().unwrap_or_else(|| self.contended(me));
        self.owner.store(me, Ordering::Relaxed);
        irqs.cpu().held.push(&self.name);
        Guard { lock: self, inner: ManuallyDrop::new(inner), irqs }
    }

    #[cold]
    fn contended(&self, me: u32) -> spin::MutexGuard<'_, T> {
        let mine = cfg!(target_os = "none") && self.owner.load(Ordering::Relaxed) == me;
        assert!(!mine, "the lock '{}' is taken twice by this CPU", self.name);
        let lock = text(self.name);
        emit(Event::Contended { owner: self.owner.load(Ordering::Relaxed), lock });
        let (mut since, mut turns) = (None, 0u32);
        loop {
            if let Some(guard) = self.inner.try_lock() {
                emit(Event::Acquired { lock });
                return guard;
            }
            core::hint::spin_loop();
            turns = turns.wrapping_add(1);
            if turns.is_multiple_of(1024) {
                let now = time::now();
                if now.saturating_sub(*since.get_or_insert(now)) > time::patience() {
                    let owner = self.owner.load(Ordering::Relaxed);
                    panic!("nobody gives up the lock '{}'; CPU {owner} took it last", self.name);
                }
            }
        }
    }

    /// The value, whoever has the lock.
    ///
    /// # Safety
    /// No other CPU runs any more (a panic has stopped them), or this is the only one that ever ran.
    #[expect(clippy::mut_from_ref, reason = "that is the point, and the caller's promise makes it sound")]
    pub(crate) unsafe fn steal(&self) -> &mut T {
        // SAFETY: whoever had the lock does not run any more, by the caller's promise.
        unsafe { self.inner.force_unlock() };
        spin::MutexGuard::leak(self.inner.lock())
    }
}

impl<T> smp::reaper::Lock<T> for SpinLock<T> {
    fn new(value: T) -> Self {
        Self::new("reaper", value)
    }

    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.lock())
    }
}

/// The lock is held.
#[must_use = "the lock is given up when the guard is dropped"]
pub struct Guard<'a, T> {
    lock: &'a SpinLock<T>,
    inner: ManuallyDrop<spin::MutexGuard<'a, T>>,
    irqs: IrqsOff,
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.lock.owner.store(NOBODY, Ordering::Relaxed);
        self.irqs.cpu().held.pop(&self.lock.name);
        // SAFETY: `inner` is not used after this, and this runs once. Interrupts come back only after it, when the
        // field `irqs` is dropped.
        unsafe { ManuallyDrop::drop(&mut self.inner) }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// Asserts that this CPU may wait for another one: no lock held, no interrupts masked, not inside an interrupt. What for
/// is a place in [`wire::trace::event::WAITS`].
///
/// # Panics
/// If it may not; a wait could then close a circle.
#[track_caller]
pub(crate) fn assert_may_wait(what: u64) {
    let depth = cpu::masked_depth();
    if depth > 0 || cpu::in_interrupt() {
        emit(Event::Wait { masked: depth, what });
    }
    assert!(depth == 0, "waits for other CPUs with a lock held or interrupts masked ({depth} deep)");
    assert!(!cpu::in_interrupt(), "waits for other CPUs inside an interrupt handler");
}
