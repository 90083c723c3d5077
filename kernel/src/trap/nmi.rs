//! The NMI: asks a CPU where it is, or stops it for good. It can come at any instruction, so it takes no lock, prints
//! nothing, and touches only atomics.

use super::panic;
use crate::cpu::entry::Frame;
use crate::cpu::{self, Cpu, REACHABLE};
use crate::mem::StackKind;
use crate::misdeed;
use crate::trace::{self, Event};
use core::sync::atomic::Ordering;
use x86_64::instructions::{hlt, interrupts};

/// On the NMI's own stack, which the caller has counted.
pub(super) fn handle(cpu: &Cpu, frame: &Frame) {
    trace::emit_in_nmi(Event::Nmi { rip: frame.rip });
    misdeed::passes(StackKind::Nmi);
    cpu.snapshot.take(frame);
    // In the middle of recording it goes on to the event's end, and stops there.
    if panic::another_panicked(cpu.id()) && !trace::stops_later(cpu, frame.rip) {
        stop();
    }
}

/// Stops this CPU for good. Whoever waits for its answer sees that it cannot give one.
pub(crate) fn stop() -> ! {
    REACHABLE.remove(cpu::current_id(), Ordering::SeqCst);
    interrupts::disable();
    loop {
        hlt();
    }
}
