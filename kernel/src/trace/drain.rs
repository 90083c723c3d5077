//! From the rings to the second serial port.
//!
//! * `trace=stream`: a thread takes what the rings hold, piece by piece. It gives way like any other; what comes faster
//!   than the port can carry is overwritten, and shows as a gap in the numbers.
//! * `trace=lossless`: a CPU whose ring is three quarters full sends it itself, there and then, interrupts masked.
//! * At the end, and when something went wrong: all that the rings hold; but with `trace=ram`, where the host has it.

use super::ring::{Found, Ring};
use super::{RECORDED, emit, ring};
use crate::cpu::{self, Cpu};
use crate::record::{self, Line};
use crate::thread::{self, Builder, SpawnError};
use crate::time;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use wire::cmdline::{Trace, TraceDump};
use wire::trace::Event;
use wire::trace::pack::Packer;
use wire::{Options, Record};

/// Between two looks at rings that were found empty: no event wakes the thread, since recording must not cost that.
const LOOK: Duration = Duration::from_millis(5);

static ENDED: AtomicBool = AtomicBool::new(false);

/// Begins to record, and to send if that is what `trace=` says.
///
/// # Errors
/// [`SpawnError`] if there is no memory for the thread.
pub(crate) fn start(options: &Options<'_>) -> Result<(), SpawnError> {
    let Some(words) = ring::table() else { return Ok(()) };
    record::send(&Record::Rings { words });
    RECORDED.store(options.trace_events.bits(), Ordering::Relaxed);
    if matches!(options.trace, Trace::Stream | Trace::Lossless) {
        Builder::new().name("trace").stack_pages(4).spawn(run)?;
    }
    Ok(())
}

fn run() {
    while !ENDED.load(Ordering::Relaxed) {
        let mut any = false;
        for cpu in cpu::all() {
            any |= record::with_line(|line| send_piece(line, cpu, false));
        }
        if !any {
            thread::sleep(LOOK);
        }
    }
}

/// Sends what this CPU's ring holds, in the middle of whatever it does.
#[cold]
pub(super) fn relieve(cpu: &Cpu) {
    // Not from inside the sending itself, and not in the reports of a panic.
    record::with_line_here(|line| while send_piece(line, cpu, false) {});
}

/// Ends the recording; sends what the rings hold, if that is wanted for a run that `passed`.
pub(crate) fn finish(passed: bool) {
    let options = crate::options();
    RECORDED.store(0, Ordering::Relaxed);
    ENDED.store(true, Ordering::Relaxed);
    // CPUs that are in the middle of writing an event still run, and are done in some instructions; if the host holds
    // one up, later. In a run that failed one may stand still for good.
    let (since, limit) = (time::now(), if passed { time::patience() } else { time::tsc_hz() });
    while cpu::all().any(|cpu| !cpu.trace.is_settled()) && time::now() - since < limit {
        core::hint::spin_loop();
    }
    if ring::is_there() && options.trace != Trace::Ram && (wants_all(options) || !passed) {
        for cpu in cpu::all() {
            record::with_line(|line| send_rest(line, cpu));
        }
    }
}

/// As [`finish`], when a CPU panicked.
///
/// # Safety
/// No other CPU runs any more.
pub(crate) unsafe fn finish_in_panic() {
    emit(Event::Panic {});
    RECORDED.store(0, Ordering::Relaxed);
    if ring::is_there() && crate::options().trace != Trace::Ram {
        for cpu in cpu::all() {
            // SAFETY: by the caller's promise.
            unsafe { record::with_line_in_panic(|line| send_rest(line, cpu)) }
        }
    }
}

const fn wants_all(options: &Options<'_>) -> bool {
    matches!(options.trace, Trace::Stream | Trace::Lossless) || matches!(options.trace_dump, TraceDump::Always)
}

fn send_rest(line: &mut Line, cpu: &Cpu) {
    while send_piece(line, cpu, true) {}
    line.send(&Record::TraceEnd { cpu: cpu.id().index() as u16, events: cpu.trace.sent() });
}

/// Sends the next events of a CPU's ring, as many as one record holds; whether there were any. At the end of a run a
/// place that was taken and never filled is passed over.
fn send_piece(line: &mut Line, cpu: &Cpu, at_end: bool) -> bool {
    let from: &Ring = &cpu.trace;
    let head = from.head();
    // What was overwritten before it was sent is lost. Those that are next to be are not worth the race.
    let margin = if at_end { 0 } else { from.capacity() / 4 };
    let mut index = from.sent();
    if head - index > from.capacity() {
        index = head - from.capacity() + margin;
    }
    let first = loop {
        if index >= head {
            from.set_sent(index);
            return false;
        }
        match from.find(index) {
            Found::Entry(entry) => break entry,
            Found::NotYet if !at_end => {
                from.set_sent(index);
                return false;
            }
            Found::NotYet => index += 1,
            Found::Overwritten => index = (head - from.capacity() + margin).max(index + 1),
        }
    };
    let number = index;
    line.send_packed(
        |buffer| {
            let mut packer = Packer::new(buffer, first.time);
            while index < head
                && let Found::Entry(entry) = from.find(index)
                && packer.push(&entry)
            {
                index += 1;
            }
            packer.packed().len()
        },
        |packed| Record::Trace { cpu: cpu.id().index() as u16, first: number, time: first.time, packed },
    );
    from.set_sent(index);
    true
}
