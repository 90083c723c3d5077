//! Ways in which a thread gets its stack, and ends. To add one: a row here, and its words in `xtask/src/cmd/bench/icount.rs`.

use crate::failure::check;
use kernel::mem::Fill;
use kernel::misdeed;
use kernel::thread::{self, Builder, Death, GuardedStack, JoinHandle, StackMemory};
use kernel::time;

/// Memory of this module's, for stacks.
static MEMORY: StackMemory<4> = StackMemory::new();

/// What ways need that is not made anew for each thread.
pub struct Grounds {
    stack: GuardedStack,
}

impl Grounds {
    /// # Panics
    /// If there is no memory for a stack.
    pub fn new() -> Self {
        Self { stack: GuardedStack::new(4, 1).expect("memory for a stack") }
    }
}

/// A way.
pub struct Way {
    /// The name of what is measured.
    pub name: &'static str,
    /// How many stacks the CPU keeps.
    pub cache: u32,
    /// Made before the cycle begins.
    pub builder: fn(&Grounds) -> Builder<'_>,
    /// A cycle, and what it took.
    pub cycle: fn(Builder<'_>) -> u64,
}

const fn way(name: &'static str, builder: fn(&Grounds) -> Builder<'_>) -> Way {
    Way { name, cache: 0, builder, cycle: exits }
}

impl Way {
    const fn cache(mut self, stacks: u32) -> Self {
        self.cache = stacks;
        self
    }

    const fn cycle(mut self, cycle: fn(Builder<'_>) -> u64) -> Self {
        self.cycle = cycle;
        self
    }
}

/// All of them.
pub const WAYS: &[Way] = &[
    way("guarded", |_| Builder::new()),
    way("guarded-1-page", |_| Builder::new().stack_pages(1)),
    way("cached", |_| Builder::new()).cache(4),
    way("cached-as-left", |_| Builder::new().fill(Fill::AsIs)).cache(4),
    way("bare", |_| misdeed::on_bare(Builder::new(), &MEMORY)),
    way("lent", |grounds| Builder::new().on_stack(&grounds.stack)),
    way("view", |_| Builder::new().on_view_of(&MEMORY)),
    way("returns", |_| Builder::new()).cycle(returns),
    way("aborted", |_| Builder::new()).cycle(aborted),
];

fn exits(builder: Builder<'_>) -> u64 {
    let begun = time::now();
    let end = builder.spawn(|| thread::exit()).map(|handle: JoinHandle<()>| handle.join());
    let took = time::now() - begun;
    check(end == Ok(Err(Death::Exited)), "a thread ends itself", format_args!("{end:?}"));
    took
}

fn returns(builder: Builder<'_>) -> u64 {
    let begun = time::now();
    let end = builder.spawn(|| 7u64).map(JoinHandle::join);
    let took = time::now() - begun;
    check(end == Ok(Ok(7)), "values come back", format_args!("{end:?}"));
    took
}

/// The thread has run and is parked when it is aborted.
fn aborted(builder: Builder<'_>) -> u64 {
    let begun = time::now();
    let end = builder.spawn(park_for_ever).map(|handle| {
        thread::yield_now();
        handle.abort();
        handle.join()
    });
    let took = time::now() - begun;
    check(end == Ok(Err(Death::Aborted)), "a thread is ended by another", format_args!("{end:?}"));
    took
}

fn park_for_ever() {
    loop {
        thread::park();
    }
}
