//! Waiting for a time, to the precision of a timer tick.

use super::{Home, Shield, Thread, park, switch};
use crate::cpu;
use crate::time;
use core::sync::atomic::Ordering;
use core::time::Duration;

/// Waits for at least `duration`; an abort ends it.
///
/// # Panics
/// Where the caller may not wait: in a handler, with a lock held, with interrupts masked, with preemption off.
pub fn sleep(duration: Duration) {
    let _shield = Shield::new();
    let until = time::now().saturating_add(time::cycles(duration));
    while time::now() < until && !cpu::current().abort_pending() {
        park_until(until);
    }
}

/// Waits as [`park`](super::park) does, for `limit` at most, to the precision of a timer tick.
///
/// # Panics
/// Where the caller may not wait: in a handler, with a lock held, with interrupts masked, with preemption off.
pub fn park_timeout(limit: Duration) {
    let _shield = Shield::new();
    park_among_sleepers(time::now().saturating_add(time::cycles(limit)), |_| park::park());
}

/// Gives way in this turn of a loop that waits for what another thread does. Now and then that is until the next tick: the other may be
/// less urgent, and have no other CPU to run on. The caller holds aborts off, and none ends it.
pub(crate) fn give_way_to_all(turn: u32) {
    /// Turns of which one lasts until the next tick: nearly all that is waited for comes before.
    const TURNS: u32 = 64;
    // Idle threads do not park: their CPUs have nothing else to run.
    let may_park = cpu::current().home != Home::Cpu;
    if may_park && turn % TURNS == TURNS - 1 { park_for_a_tick() } else { switch::yield_now() }
}

/// Parks until the next tick at most, aborted or not. The caller holds aborts off.
pub(super) fn park_for_a_tick() {
    park_among_sleepers(time::now(), park::park_regardless);
}

/// Parks until this time at most, in cycles, for a wait of the kernel's. May return early. The caller holds aborts off.
pub(super) fn park_until(until: u64) {
    park_among_sleepers(until, park::park_shielded);
}

fn park_among_sleepers(until: u64, park: impl FnOnce(&'static Thread)) {
    let thread = cpu::current();
    thread.wake_at.store(until, Ordering::Relaxed);
    let sleepers = &cpu::get(cpu::current_id()).expect("this CPU is up").sleepers;
    sleepers.add(thread);
    park(thread);
    // It is still there, if it was woken by an unpark.
    sleepers.remove(thread);
}
