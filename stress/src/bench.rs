//! `run=bench`: what a thread costs, from its spawn to its joiner's return, in cycles; under `-icount`, instructions.
//!
//! One cycle is: `Builder::spawn` of a closure that captures nothing, the switch to it, its `thread::exit`, the switch back,
//! and `JoinHandle::join`. On one CPU a cycle also reaps the stack that the one before left behind, so in the long run each
//! cycle pays for one unmapping, one shootdown and the freeing of one stack, if its stacks are not cached.

use crate::failure;
use alloc::vec::Vec;
use kernel::mem::Fill;
use kernel::thread::{self, Builder, Death, StackMemory};
use kernel::{println, record, time};
use wire::Record;

static MEMORY: StackMemory<4> = StackMemory::new();

/// Cycles that are measured, after as many that are not.
const SAMPLES: usize = 1001;

/// A way to give threads their stacks: the name of what is measured, how many stacks each CPU's cache keeps, and the builder.
type Way = (&'static str, u32, fn() -> Builder<'static>);

const WAYS: &[Way] = &[
    ("guarded", 0, Builder::new),
    ("guarded-1-page", 0, || Builder::new().stack_pages(1)),
    ("cached", 4, Builder::new),
    ("cached-as-left", 4, || Builder::new().fill(Fill::AsIs)),
    ("bare", 0, || Builder::new().on_bare(&MEMORY)),
];

/// Measures all ways.
///
/// # Errors
/// The promise that broke.
pub fn run() -> Result<(), &'static str> {
    for (name, cache, builder) in WAYS {
        thread::set_stack_cache(*cache);
        let mut samples = Vec::with_capacity(SAMPLES);
        (0..SAMPLES).for_each(|_| _ = cycle(*builder));
        (0..SAMPLES).for_each(|_| samples.push(cycle(*builder)));
        samples.sort_unstable();
        let at = |part: usize| samples[(SAMPLES - 1) * part / 1000];
        println!("{name}: smallest {}, median {}, 99 % {}, largest {}", at(0), at(500), at(990), at(1000));
        for (what, part) in [("smallest", 0), ("median", 500), ("p99", 990), ("largest", 1000)] {
            let mut text = Words::new();
            record::send(&Record::Count { name: text.join(name, what), value: at(part) });
        }
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

/// Room for a name with what is told of it behind: `guarded.median`.
struct Words([u8; 64]);

impl Words {
    const fn new() -> Self {
        Self([0; 64])
    }

    fn join(&mut self, name: &str, what: &str) -> &str {
        let bytes = name.bytes().chain(*b".").chain(what.bytes());
        let length = self.0.iter_mut().zip(bytes).map(|(to, byte)| *to = byte).count();
        core::str::from_utf8(&self.0[..length]).unwrap_or("")
    }
}
