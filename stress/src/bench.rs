//! `run=bench`: what a thread costs, from its spawn to its joiner's return, in cycles; under `-icount`, instructions.
//!
//! One cycle is: `Builder::spawn` of a closure that captures nothing, the switch to it, its `thread::exit`, the switch back,
//! and `JoinHandle::join`. On one CPU a cycle also reaps the stack that the one before left behind, so in the long run each
//! cycle pays for one unmapping, one shootdown and the freeing of one stack, if its stacks are not cached.

use crate::failure;
use alloc::vec::Vec;
use kernel::thread::{self, Builder, Death};
use kernel::{println, record, time};
use wire::Record;

/// Cycles that are measured, after as many that are not.
const SAMPLES: usize = 1001;

/// A way to give threads their stacks, with the name of what is measured.
type Way = (&'static str, fn() -> Builder<'static>);

const WAYS: &[Way] = &[("guarded", Builder::new), ("guarded-1-page", || Builder::new().stack_pages(1))];

/// Measures all ways.
///
/// # Errors
/// The promise that broke.
pub fn run() -> Result<(), &'static str> {
    for (name, builder) in WAYS {
        let mut samples = Vec::with_capacity(SAMPLES);
        (0..SAMPLES).for_each(|_| _ = cycle(*builder));
        (0..SAMPLES).for_each(|_| samples.push(cycle(*builder)));
        samples.sort_unstable();
        tell(name, "smallest", samples[0]);
        tell(name, "median", samples[SAMPLES / 2]);
        tell(name, "p99", samples[SAMPLES * 99 / 100]);
        tell(name, "largest", samples[SAMPLES - 1]);
    }
    thread::quiesce();
    failure::verdict()
}

fn cycle(builder: fn() -> Builder<'static>) -> u64 {
    let builder = builder();
    let begun = time::now();
    let end = builder.spawn(|| thread::exit()).map(|handle: thread::JoinHandle<()>| handle.join());
    let took = time::now() - begun;
    failure::check(end == Ok(Err(Death::Exited)), "a thread ends itself", format_args!("{end:?}"));
    took
}

fn tell(name: &str, what: &str, cycles: u64) {
    println!("{name} {what} {cycles}");
    record::send(&Record::Count { name, value: cycles });
}
