//! A CPU that takes no timer tick for too long is stuck with interrupts masked. Each CPU watches over the next one, at
//! its own tick, as Linux's buddy detector does (`kernel/watchdog_buddy.c`); who finds its neighbour stuck panics, and
//! the report says where that one is.

use crate::cpu::cell::Own;
use crate::cpu::{self, Cpu, REACHABLE};
use crate::time;
use core::sync::atomic::Ordering;
use smp::CpuSet;

/// What a CPU knows of the one that it watches over.
#[derive(Debug)]
pub(crate) struct Watchdog {
    /// Interrupts that it had taken when it was last seen to take one.
    seen: Own<u64>,
    /// When that was.
    since: Own<u64>,
}

impl Watchdog {
    pub(crate) const fn new() -> Self {
        Self { seen: Own::<u64>::new(0), since: Own::<u64>::new(0) }
    }
}

/// Looks after the next CPU; at a timer tick.
pub(crate) fn look(me: &Cpu, now: u64) {
    let mut others = REACHABLE.load(Ordering::Relaxed);
    let lowest = others.lowest();
    let next = others.find(|cpu| cpu.index() > me.id().index()).or(lowest).filter(|next| *next != me.id());
    let Some(neighbour) = next.and_then(cpu::get) else { return };
    let dog = &me.watchdog;
    let taken = neighbour.interrupts.get();
    if taken != dog.seen.get() || dog.since.get() == 0 {
        dog.seen.set(taken);
        dog.since.set(now);
        return;
    }
    // Half as long again, and twice that in a shootdown: whoever waits for that CPU knows what for, and is to speak first.
    let (late, patience) = (now.saturating_sub(dog.since.get()), time::patience() + time::patience() / 2);
    if late > patience && (late > 2 * patience || !is_asked_to_flush(neighbour)) {
        panic!("{} takes no interrupt for more than {} s", neighbour.id(), time::patience_seconds());
    }
}

/// Whether a shootdown that is not over waits for this CPU.
fn is_asked_to_flush(cpu: &Cpu) -> bool {
    let asks =
        |other: &Cpu| other.request.get() != 0 && CpuSet::from_bits(other.request_targets.get()).contains(cpu.id());
    cpu::all().any(asks)
}
