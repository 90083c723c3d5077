//! `trace-cost`: what recording costs. The same rounds of `mixed` with it and without, in turn, so that whatever
//! the host does to one it does to the other; and single events with nothing around them.

use super::{Context, mixed};
use core::sync::atomic::{AtomicU64, Ordering};
use kernel::{misdeed, time, trace};

/// Single events in a row.
const EVENTS: u64 = 1000;

static WITH: AtomicU64 = AtomicU64::new(0);
static WITHOUT: AtomicU64 = AtomicU64::new(0);
static RECORDED: AtomicU64 = AtomicU64::new(0);
/// Cycles of the fastest row of single events, with recording and without.
static FASTEST: [AtomicU64; 2] = [const { AtomicU64::new(u64::MAX) }; 2];

pub fn round(context: &Context, round: u64) {
    // Twice in each order: what comes second profits from what came first.
    let with_first = round.is_multiple_of(2);
    for with in [with_first, !with_first] {
        trace::set_recording(with);
        let (begun, recorded) = (time::now(), trace::recorded());
        mixed(context, round / 2); // each kind of round with recording first, and second
        let took = time::now() - begun;
        if with { &WITH } else { &WITHOUT }.fetch_add(took, Ordering::Relaxed);
        RECORDED.fetch_add(trace::recorded() - recorded, Ordering::Relaxed);
    }
    for with in [false, true] {
        trace::set_recording(with);
        let took = misdeed::with_interrupts_masked(|| {
            let begun = time::now();
            for event in 0..EVENTS {
                trace::mark(0, event);
            }
            time::now() - begun
        });
        FASTEST[usize::from(with)].fetch_min(took, Ordering::Relaxed);
    }
}

/// Tells what came of all rounds.
pub fn send(count: impl Fn(&str, u64)) {
    let [with, without, recorded] = [&WITH, &WITHOUT, &RECORDED].map(|sum| sum.load(Ordering::Relaxed));
    if with == 0 {
        return;
    }
    count("trace.rounds-with-ns", time::nanoseconds(with));
    count("trace.rounds-without-ns", time::nanoseconds(without));
    count("trace.events", recorded);
    let [off, on] = [&FASTEST[0], &FASTEST[1]].map(|fastest| fastest.load(Ordering::Relaxed));
    count("trace.event-cycles", (on - off.min(on)) / EVENTS);
    count("trace.event-off-cycles", off / EVENTS);
}
