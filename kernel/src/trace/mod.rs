//! Tracing: every CPU writes what it does into a ring of its own.
//!
//! ```text
//!   emit ──▶ ring of this CPU ──▶ (nothing: the latest events are there when something goes wrong)   trace=ring
//!                            ├──▶ drain ──▶ records on serial 2                                      trace=stream, lossless
//!                            └──▶ the host reads guest RAM                                           trace=ram
//! ```
//! Writing is lock-free and safe in NMIs: a place is taken by one instruction that no interrupt can split, then filled,
//! then stamped ([`wire::trace::Entry::words`]). What the events are is said in [`wire::trace::event`].

mod drain;
pub(crate) mod ring;
mod write;

pub(crate) use drain::{finish, finish_in_panic, start};
pub(crate) use ring::init;
pub(crate) use write::{put_off, stops_later};

use crate::cpu::{self, Cpu};
use crate::time;
use core::sync::atomic::{AtomicU32, Ordering};
use wire::trace::{Categories, Entry};

pub use wire::trace::Event;

/// Categories that are recorded; none before the rings are there.
static RECORDED: AtomicU32 = AtomicU32::new(0);

/// Records an event of the thread that runs.
#[inline(always)]
pub(crate) fn emit(event: Event) {
    if records(event) {
        let (kind, a, b) = event.raw();
        // SAFETY: recording is on.
        unsafe { write::record(u64::from(kind) << 32, u64::from(a) << 32, b) }
    }
}

/// Records an event that speaks for another thread.
#[inline(always)]
pub(crate) fn emit_for(thread: u32, event: Event) {
    if records(event) {
        let (kind, a, b) = event.raw();
        // SAFETY: recording is on.
        unsafe { write::record_for(thread, u64::from(kind) << 32, u64::from(a) << 32, b) }
    }
}

/// Records an event inside an NMI, which does nothing besides: it may have interrupted just that.
pub(crate) fn emit_in_nmi(event: Event) {
    if records(event) {
        let cpu = cpu::this_racy();
        let index = cpu.trace.take();
        cpu.trace.fill(index, &Entry { time: time::stamp(), thread: cpu.current_number.get(), event });
    }
}

#[inline(always)]
fn records(event: Event) -> bool {
    RECORDED.load(Ordering::Relaxed) & event.category().bits() != 0
}

/// Records a timer tick, unless nothing was recorded here since the one before: a CPU that hangs keeps in its ring what
/// it did before it hung.
pub(crate) fn tick(cpu: &Cpu) {
    if cpu.trace.head() == cpu.trace.after_tick.get() {
        cpu.trace.quiet_ticks.set(cpu.trace.quiet_ticks.get() + 1);
    } else {
        emit(Event::Tick { quiet: cpu.trace.quiet_ticks.get() });
        cpu.trace.quiet_ticks.set(0);
        cpu.trace.after_tick.set(cpu.trace.head());
    }
}

/// Sets a mark: a number and a value that mean something to whoever sets it.
pub fn mark(mark: u32, value: u64) {
    emit(Event::Mark { mark, value });
}

/// Marks the begin of a round of a workload.
pub fn round(round: u64) {
    emit(Event::Round { round });
}

/// Turns recording on or off; what it is, where, and of what stays as the command line says. For measuring its cost.
pub fn set_recording(on: bool) {
    let options = crate::options();
    let categories = if on && ring::is_there() { options.trace_events } else { Categories::empty() };
    RECORDED.store(categories.bits(), Ordering::Relaxed);
}

/// Events recorded so far, on all CPUs.
#[must_use]
pub fn recorded() -> u64 {
    cpu::all().map(|cpu| cpu.trace.head()).sum()
}
