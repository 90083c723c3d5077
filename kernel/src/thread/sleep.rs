//! Waiting for a time, to the precision of a timer tick.

use super::{Shield, switch};
use crate::cpu;
use crate::time;
use core::sync::atomic::Ordering;
use core::time::Duration;

/// Waits for at least `duration`; an abort ends it.
pub fn sleep(duration: Duration) {
    let _shield = Shield::new();
    let thread = cpu::current();
    let until = time::now().saturating_add(time::cycles(duration));
    thread.wake_at.store(until, Ordering::Relaxed);
    let home = cpu::current_id();
    let sleepers = &cpu::get(home).expect("this CPU is up").sleepers;
    sleepers.add(thread);
    while time::now() < until && !thread.abort_pending() {
        switch::park();
        // Woken too early by an unpark meant for something else: it may have been taken off the list.
        if time::now() < until && !thread.abort_pending() {
            sleepers.remove(thread);
            sleepers.add(thread);
        }
    }
    sleepers.remove(thread);
}
