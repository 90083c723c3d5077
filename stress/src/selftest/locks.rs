//! Locks: what they cost, and what the checks of their use see.

use super::Test;
use crate::failure::check;
use crate::workload::Context;
use kernel::{SpinLock, misdeed, println, time};

pub const TESTS: &[Test] = &[("a-lock-costs-few-instructions", cost)];

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
