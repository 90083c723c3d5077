//! `run=bench`: what a thread costs, from its spawn to its joiner's return, in cycles; under `-icount`, instructions.
//!
//! One cycle is, if its way ([`ways`]) says nothing else: `Builder::spawn` of a closure that captures nothing, the switch to it, its
//! `thread::exit`, the switch back, and `JoinHandle::join`. On one CPU a cycle also reaps the stack that the one before left
//! behind, so in the long run each cycle pays for one unmapping, one shootdown and the freeing of one stack, if its way has stacks
//! that are unmapped.

mod figures;
mod ways;

use crate::failure::{self, check};
use alloc::vec::Vec;
use figures::Figures;
use kernel::{println, record, thread};
use ways::{Grounds, WAYS, Way};
use wire::Record;

/// Cycles that are measured, after as many that are not.
const SAMPLES: usize = 1001;

/// The most instructions that the median cycle of a way may take, in an image without lock checks, with `trace=off`, on one CPU.
const LIMITS: [(&str, u64); 2] = [("guarded", 1500), ("cached-as-left", 800)];

/// Measures all ways, and sends what came of it.
///
/// # Errors
/// The promise that broke.
pub fn run() -> Result<(), &'static str> {
    record::send(&Record::Count { name: "bench.cycles", value: SAMPLES as u64 });
    let grounds = Grounds::new();
    for way in WAYS {
        let figures = measure(way, &grounds);
        println!("{}: {figures}", way.name);
        figures.send(way.name);
    }
    failure::verdict()
}

/// Measures those ways that have a limit, and breaks a promise where one is exceeded.
pub fn check_limits() {
    let grounds = Grounds::new();
    for (name, limit) in LIMITS {
        let way = WAYS.iter().find(|way| way.name == name);
        let median = way.map(|way| measure(way, &grounds).median());
        let holds = median.is_some_and(|median| median <= limit);
        check(holds, "a thread costs few instructions", format_args!("{name}: {median:?}, not {limit} at most"));
    }
}

fn measure(way: &Way, grounds: &Grounds) -> Figures {
    thread::set_stack_cache(way.cache);
    let cycle = || (way.cycle)((way.builder)(grounds));
    let mut samples = Vec::with_capacity(SAMPLES);
    (0..SAMPLES).for_each(|_| _ = cycle());
    (0..SAMPLES).for_each(|_| samples.push(cycle()));
    thread::set_stack_cache(0);
    thread::quiesce();
    Figures::of(samples)
}
