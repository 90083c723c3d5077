//! Waiting for a time, to the precision of a timer tick.

use super::{Shield, switch};
use crate::cpu;
use crate::time;
use core::sync::atomic::Ordering;
use core::time::Duration;

/// Waits for at least `duration`; an abort ends it.
pub fn sleep(duration: Duration) {
    let _shield = Shield::new();
    let until = time::now().saturating_add(time::cycles(duration));
    while time::now() < until && !cpu::current().abort_pending() {
        park_until(until);
    }
}

/// Parks until this time at most, in cycles. May return early, as [`switch::park`] may. The caller holds aborts off.
pub(super) fn park_until(until: u64) {
    let thread = cpu::current();
    thread.wake_at.store(until, Ordering::Relaxed);
    let sleepers = &cpu::get(cpu::current_id()).expect("this CPU is up").sleepers;
    sleepers.add(thread);
    switch::park();
    // It is still there, if it was woken by an unpark.
    sleepers.remove(thread);
}
