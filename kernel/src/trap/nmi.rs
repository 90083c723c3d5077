//! The NMI: asks a CPU where it is, or stops it for good. It can come at any instruction, so it takes no lock, prints
//! nothing, and touches only atomics.

use super::panic;
use crate::cpu::entry::Frame;
use crate::cpu::{self, REACHABLE};
use crate::trace::{self, Event};
use core::sync::atomic::Ordering;
use x86_64::instructions::{hlt, interrupts};

pub(super) fn handle(frame: &Frame) {
    let cpu = cpu::this_racy();
    trace::emit_in_nmi(Event::Nmi { rip: frame.rip });
    // A fault in here, by the walk of a broken stack, is none of the thread that was interrupted.
    let depth = cpu.interrupt_depth.get();
    cpu.interrupt_depth.set(depth + 1);
    cpu.snapshot.take(frame);
    cpu.interrupt_depth.set(depth);
    if panic::somebody_panicked() {
        stop();
    }
}

/// Stops this CPU for good. Whoever waits for its answer sees that it cannot give one.
pub(super) fn stop() -> ! {
    REACHABLE.remove(cpu::current_id(), Ordering::SeqCst);
    interrupts::disable();
    loop {
        hlt();
    }
}
