//! What stacks and addresses are, and what goes on at their edges.

use super::{Expect, GuestTest, holds, test};

pub(super) const ROWS: &[GuestTest] = &[
    holds("stacks::owners", "run=test test=every-address-has-its-owner"),
    holds("stacks::physical-addresses", "run=test test=every-mapped-address-has-its-physical-one"),
    holds("stacks::watermarks", "run=test test=watermarks-tell-what-was-used watermark=on"),
    holds("stacks::without-watermarks", "run=test test=without-watermarks-there-is-a-bound"),
    holds("stacks::watermarks-under-stress", "run=stress rounds=3 seed=4 watermark=on"),
    holds("edges::kernel-calls-at-every-distance", "run=test test=kernel-calls-at-every-distance-from-the-edge"),
    holds(
        "edges::kernel-calls-at-every-distance-lossless",
        "run=test test=kernel-calls-at-every-distance-from-the-edge trace=lossless trace-events=mark",
    ),
    holds("edges::a-broken-frame-pointer", "run=test test=a-fault-with-a-broken-frame-pointer-ends-its-thread-alone"),
    test(
        "edges::a-panic-beside-a-broken-frame-pointer",
        "run=test test=a-panic-stops-cpus-with-broken-frame-pointers",
        Expect::Fail("CPU 1: running, thread 'broken'"),
    ),
    holds("edges::owned-mappings", "run=test test=what-is-owned-is-not-unmapped-by-its-address"),
    holds("edges::the-kernels-own-memory", "run=test test=the-kernels-own-memory-is-not-mapped"),
    holds("edges::absurd-sizes", "run=test test=absurd-sizes-are-errors"),
    holds("edges::drops-that-wait", "run=test test=what-a-thread-owned-is-dropped-where-it-may-wait"),
    holds("edges::a-shielded-join", "run=test test=a-join-under-a-shield-outlasts-an-abort"),
    holds("edges::a-busy-cpu-is-not-idle", "run=test test=a-cpu-that-runs-a-thread-is-not-idle"),
];
