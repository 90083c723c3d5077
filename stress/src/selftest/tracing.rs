//! Traces: what is recorded, and that it is recorded whatever comes between.

use super::Test;
use crate::failure::check;
use crate::workload::Context;
use alloc::vec::Vec;
use kernel::thread::Builder;
use kernel::trace;

pub const TESTS: &[Test] = &[("events-of-all-cpus-are-recorded", recorded), ("a-trace-fails-with-its-events", fails)];

/// Threads on all CPUs record as fast as they can, preempted and interrupted meanwhile: no event is lost in the counting.
fn recorded(context: &Context) {
    const EACH: u64 = 20_000;
    let before = trace::recorded();
    let marking: Vec<_> = context
        .cpus
        .flat_map(|cpu| [cpu; 2])
        .filter_map(|cpu| {
            Builder::new()
                .name("marks")
                .on(cpu)
                .spawn(move || {
                    for event in 0..EACH {
                        trace::mark(cpu.index() as u32, event);
                    }
                })
                .ok()
        })
        .collect();
    let threads = marking.len() as u64;
    for handle in marking {
        check(handle.join().is_ok(), "a thread that records lives", format_args!("it died"));
    }
    let recorded = trace::recorded() - before;
    check(recorded >= threads * EACH, "every event takes a place", format_args!("{recorded} of {}", threads * EACH));
}

/// What a run that fails leaves: marks to be found in it.
fn fails(_: &Context) {
    for event in 0..100 {
        trace::mark(77, event);
    }
    check(false, "this one breaks on purpose", format_args!("to see its trace"));
}
