//! The kernel's lock: `spin`'s mutex with interrupts off while it is held, a name that is its class, and an owner.
//!
//! Lock order, outermost first: the boot image's own; `heap`, `page tables`, `frames`. The kernel's others are taken last:
//! no other one is taken while one of them is held. [`super::checks`] sees to it that no order is ever seen both ways.

use super::checks;
use super::irq::IrqsOff;
use super::order::Class;
use super::site::Place;
use crate::cpu;
use crate::time;
use crate::trace::{Event, emit};
use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::panic::Location;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use smp::MayWait;
use wire::trace::event::text;

/// No CPU.
const NOBODY: u32 = u32::MAX;

/// A lock that spins, with interrupts off while it is held. Nobody waits for another CPU with one in hand.
///
/// ```
/// use kernel::SpinLock;
///
/// static SEEN: SpinLock<[u64; 2]> = SpinLock::new("seen", [0; 2]);
/// SEEN.lock()[1] += 1;
/// assert_eq!(*SEEN.lock(), [0, 1]);
/// ```
pub struct SpinLock<T> {
    name: &'static str,
    /// Who has it, for reports and to tell recursion from contention.
    owner: AtomicU32,
    /// The class of its name; 0 until it is first taken.
    class: AtomicU8,
    inner: spin::Mutex<T>,
}

impl<T> SpinLock<T> {
    /// A lock around `value`, called `name` in reports. Locks with one name are of one class: where any of them stands in
    /// the order of locks, all do, and no CPU ever holds two of them.
    #[must_use]
    pub const fn new(name: &'static str, value: T) -> Self {
        Self { name, owner: AtomicU32::new(NOBODY), class: AtomicU8::new(0), inner: spin::Mutex::new(value) }
    }

    /// Takes the lock.
    ///
    /// # Panics
    /// If this CPU has it already, or nobody gives it up for as long as the command line's `patience=` allows. In an image
    /// that checks the use of locks, also if this CPU holds a lock of the same name, or one that was seen to be taken
    /// after this one, directly or by way of others.
    #[track_caller]
    #[cfg_attr(not(any(feature = "lock-checks", debug_assertions)), inline(always))]
    pub fn lock(&self) -> SpinLockGuard<'_, T> {
        let (irqs, site) = (IrqsOff::new(), Location::caller());
        let class = checks::class_of(&self.class);
        if (!checks::ON || checks::knows(irqs.cpu(), class))
            && let Some(inner) = self.inner.try_lock()
        {
            return self.taken(inner, irqs, class, site);
        }
        self.lock_slowly(irqs, site)
    }

    /// The rest of [`lock`](Self::lock), called last of all, so that the way that is mostly gone saves no registers.
    #[cold]
    #[inline(never)]
    fn lock_slowly(&self, irqs: IrqsOff, site: &'static Location<'static>) -> SpinLockGuard<'_, T> {
        let cpu = irqs.cpu();
        checks::learn(&cpu.held, &self.name, &self.class, site);
        let inner = self.inner.try_lock().unwrap_or_else(|| self.contended(cpu.id().index() as u32, site));
        self.taken(inner, irqs, checks::class_of(&self.class), site)
    }

    #[inline(always)]
    fn taken<'a>(
        &'a self,
        inner: spin::MutexGuard<'a, T>,
        irqs: IrqsOff,
        class: Class,
        site: &'static Location<'static>,
    ) -> SpinLockGuard<'a, T> {
        self.owner.store(cpu::number_here(), Ordering::Relaxed);
        if checks::ON {
            irqs.cpu().held.push(&self.name, class, site);
        }
        SpinLockGuard { lock: self, inner: ManuallyDrop::new(inner), irqs }
    }

    fn contended(&self, me: u32, site: &'static Location<'static>) -> spin::MutexGuard<'_, T> {
        let mine = cfg!(target_os = "none") && self.owner.load(Ordering::Relaxed) == me;
        let place = Place(Some(site));
        assert!(!mine, "the lock '{}' is taken twice by this CPU, now at {place}", self.name);
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
                    panic!("nobody gives up the lock '{}', wanted at {place}; CPU {owner} took it last", self.name);
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

/// Reports, and what is known of the locks that a CPU holds, have the name from here.
impl<T> Drop for SpinLock<T> {
    fn drop(&mut self) {
        assert!(*self.owner.get_mut() == NOBODY, "the lock '{}' is dropped while it is held", self.name);
    }
}

impl<T> smp::reaper::Lock<T> for SpinLock<T> {
    fn new(value: T) -> Self {
        Self::new("reaper", value)
    }

    #[track_caller]
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.lock())
    }
}

impl<T> fmt::Debug for SpinLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpinLock '{}'", self.name)
    }
}

/// The lock is held.
#[must_use = "the lock is given up when the guard is dropped"]
pub struct SpinLockGuard<'a, T> {
    lock: &'a SpinLock<T>,
    inner: ManuallyDrop<spin::MutexGuard<'a, T>>,
    irqs: IrqsOff,
}

impl<T: fmt::Debug> fmt::Debug for SpinLockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T> Drop for SpinLockGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.lock.owner.store(NOBODY, Ordering::Relaxed);
        if checks::ON {
            self.irqs.cpu().held.pop(&self.lock.name, checks::class_of(&self.lock.class));
        }
        // SAFETY: `inner` is not used after this, and this runs once. Interrupts come back only after it, when the
        // field `irqs` is dropped.
        unsafe { ManuallyDrop::drop(&mut self.inner) }
    }
}

impl<T> Deref for SpinLockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for SpinLockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// The permission to wait for other CPUs, once it is asserted that this one may: no lock held, no interrupts masked, not inside an interrupt. What for
/// is a place in [`wire::trace::event::WAITS`].
///
/// # Panics
/// If it may not; a wait could then close a circle.
#[track_caller]
pub(crate) fn may_wait(what: u64) -> MayWait {
    let depth = cpu::masked_depth();
    if depth > 0 || cpu::in_interrupt() {
        emit(Event::Wait { masked: depth, what });
        may_not_wait(depth);
    }
    MayWait::checked()
}

#[cold]
#[track_caller]
fn may_not_wait(depth: u32) -> ! {
    let held = &cpu::this_racy().held;
    assert!(held.is_empty(), "waits for other CPUs with a lock held: {held}");
    assert!(depth == 0, "waits for other CPUs with interrupts masked ({depth} deep)");
    panic!("waits for other CPUs inside an interrupt handler");
}
