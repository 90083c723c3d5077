//! Checks of how locks are used, while they are used: the same lock twice, two of one class, an order and its opposite,
//! an interrupt under a lock, a thread's lock in a handler. Each panics, and names the locks and where they were taken.
//!
//! In images with the cargo feature `lock-checks` and with debug assertions; in others [`ON`] is false at compile time
//! and nothing of this is in the image. The way through that every lock takes is a few instructions; whatever is seen for
//! the first time goes by [`learn`].
//!
//! **Two locks of one class** are never held by one CPU, in whatever order: nothing would say in which. Locks that have to
//! be nested have two names.

use super::order::{CLASSES, Class, Order};
use super::site::Place;
use crate::cpu::held::Held;
use crate::cpu::{self, Cpu};
use crate::trap;
use core::panic::Location;
use core::sync::atomic::{AtomicU8, Ordering};

/// Whether the checks are in this image. Not on a host, where all threads would be one CPU.
pub(crate) const ON: bool = cfg!(all(target_os = "none", any(feature = "lock-checks", debug_assertions)));

static ORDER: Order = Order::new();

/// The class that was learnt for a lock, 0 if none was.
#[inline(always)]
pub(super) fn class_of(lock: &AtomicU8) -> Class {
    // Relaxed: it is set to one value, whoever sets it.
    if ON { lock.load(Ordering::Relaxed) } else { 0 }
}

/// Whether a lock of this class is known to be taken with all in hand that this CPU holds. If it is not, [`learn`].
#[inline(always)]
pub(super) fn knows(cpu: &Cpu, class: Class) -> bool {
    class != 0 && ORDER.knows(cpu.held.classes(), class)
}

/// Checks that this CPU may take the lock whose name lies at `name` now, before it waits for it; `class` keeps the name's class.
///
/// # Panics
/// If it may not.
pub(super) fn learn(held: &Held, name: &&'static str, class: &AtomicU8, site: &'static Location<'static>) {
    // Who panics may do so inside a check, and takes locks as they come.
    if !ON || trap::somebody_panicked() {
        return;
    }
    let known = ORDER.class_of(name);
    let Some(known) = known else { panic!("more than {} names of locks: '{name}' is one too many", CLASSES - 1) };
    class.store(known, Ordering::Relaxed);
    assert!(!held.is_incomplete(), "more locks are held at once than are remembered: {held}, and others");
    let site = Place(Some(site));
    if held.classes() >> known & 1 == 1 {
        let first = held.place_of(name);
        assert!(!held.has(name), "the lock '{name}' is taken twice by this CPU: at {first}, and again at {site}");
        panic!("two locks of the class '{name}' are taken by this CPU: one at {first}, the other at {site}");
    }
    for (outer, place) in held.each() {
        let outer = ORDER.class_of(outer).unwrap_or(0);
        if let Err(cycle) = ORDER.note((outer, place), (known, site)) {
            panic!("locks are taken in two orders: {cycle}");
        }
    }
}

/// Checks that no lock is held; inside an interrupt, which those that a lock masks are not.
///
/// # Panics
/// If one is.
#[inline(always)]
pub(crate) fn at_interrupt(cpu: &Cpu, vector: u64, before_panic: impl FnOnce()) {
    if ON && !cpu.held.is_empty() {
        before_panic();
        panic!("interrupt {vector:#x} comes with a lock held, under which somebody enabled interrupts: {}", cpu.held);
    }
}

/// Checks that this is a thread that holds nothing: what is called `name` is used with interrupts on.
///
/// # Panics
/// If it is not.
#[track_caller]
#[inline(always)]
pub(super) fn in_a_thread(name: &'static str) {
    // While it boots, a CPU has nobody to give way to.
    if ON && (cpu::in_interrupt() || cpu::masked_depth() > 0 && cpu::this_racy().runs_threads.get()) {
        refuse(name);
    }
}

#[cold]
#[track_caller]
fn refuse(name: &'static str) -> ! {
    let site = Place(Some(Location::caller()));
    assert!(!cpu::in_interrupt(), "'{name}', which is for threads, is taken inside an interrupt handler at {site}");
    panic!("'{name}' is taken at {site} with interrupts masked; locks held: {}", cpu::this_racy().held)
}
