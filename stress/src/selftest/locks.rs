//! Locks: what they cost, and what the checks of their use see.

use super::Test;
use crate::failure::check;
use crate::workload::Context;
use alloc::boxed::Box;
use kernel::thread::Builder;
use kernel::{SpinLock, misdeed, println, time};

pub const TESTS: &[Test] = &[
    ("a-lock-costs-few-instructions", cost),
    ("orders-that-close-a-circle-are-told", circle),
    ("two-locks-of-one-class-are-told", twins),
    ("a-lock-that-is-held-is-not-dropped", dropped),
];

/// Pairs of taking and giving up in a row.
const PAIRS: u64 = 1000;
/// The most that a pair may cost, in instructions.
const LIMIT: u64 = 90;

/// To be run where a cycle is an instruction (`--accel icount`).
fn cost(_: &Context) {
    static OUTER: SpinLock<u64> = SpinLock::new("outer", 0);
    static INNER: SpinLock<u64> = SpinLock::new("inner", 0);
    let alone = cycles_of(|| *OUTER.lock() += 1);
    let nested = cycles_of(|| {
        let mut outer = OUTER.lock();
        *INNER.lock() += 1;
        *outer += 1;
    });
    let nested = nested.saturating_sub(alone);
    println!("a lock and its unlock take {alone} instructions, inside another lock {nested}");
    check(alone.max(nested) <= LIMIT, "a lock costs few instructions", format_args!("{alone} and {nested}"));
}

/// The cycles of one call, the fewest of some rows: the first one warms up, and other rows have a tick in between.
fn cycles_of(f: impl Fn()) -> u64 {
    let row = || {
        let begun = time::now();
        for _ in 0..PAIRS {
            f();
        }
        (time::now() - begun) / PAIRS
    };
    misdeed::with_interrupts_masked(|| (0..5).map(|_| row()).min().unwrap_or(0))
}

/// Three orders that cannot all be kept, seen one after the other in threads that never meet: nothing ever waits.
fn circle(context: &Context) {
    static LOCKS: [SpinLock<()>; 3] =
        [SpinLock::new("scissors", ()), SpinLock::new("paper", ()), SpinLock::new("stone", ())];
    for (cpu, first) in context.cpus.cycle().zip(0..LOCKS.len()) {
        let both = move || {
            let _outer = LOCKS[first].lock();
            let _inner = LOCKS[(first + 1) % LOCKS.len()].lock();
        };
        let thread = Builder::new().name("takes-two").on(cpu).spawn(both);
        check(thread.map(|handle| handle.join()) == Ok(Ok(())), "a thread may take two locks", format_args!("{first}"));
    }
}

/// What is known of the locks that a CPU holds would be of memory that is somebody else's.
fn dropped(_: &Context) {
    let lock = Box::new(SpinLock::new("forgotten", 0));
    core::mem::forget(lock.lock());
    drop(lock);
}

fn twins(_: &Context) {
    static TWINS: [SpinLock<()>; 2] = [const { SpinLock::new("twin", ()) }; 2];
    let _first = TWINS[0].lock();
    let _second = TWINS[1].lock();
}
