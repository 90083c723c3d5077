//! What stacks and addresses are, and what goes on at their edges.

use super::{Expect, GuestTest, holds, test};

pub(super) const ROWS: &[GuestTest] = &[
    holds("stacks::owners", "run=test test=every-address-has-its-owner"),
    holds("stacks::physical-addresses", "run=test test=every-mapped-address-has-its-physical-one"),
    holds("stacks::watermarks", "run=test test=watermarks-tell-what-was-used watermark=on").on_each(),
    holds("stacks::without-watermarks", "run=test test=without-watermarks-there-is-a-bound").on_each(),
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
    holds("edges::absurd-sizes", "run=test test=absurd-sizes-are-errors").on_each(),
    holds("edges::drops-that-wait", "run=test test=what-a-thread-owned-is-dropped-where-it-may-wait"),
    holds("edges::a-shielded-join", "run=test test=a-join-under-a-shield-outlasts-an-abort"),
    holds("edges::a-busy-cpu-is-not-idle", "run=test test=a-cpu-that-runs-a-thread-is-not-idle"),
    // Stacks that their owners keep.
    holds("stacks::lent", "run=test test=a-lent-stack-comes-back-and-is-refused-while-it-is-busy").on_each(),
    holds("stacks::lent-and-dropped", "run=test test=a-lent-stack-that-is-dropped-is-freed-when-it-is-left").on_each(),
    holds("stacks::freed", "run=test test=a-freed-stack-is-nobodys").on_each(),
    holds("stacks::run-out", "run=test test=stacks-that-run-out-are-an-error").on_each(),
    holds("stacks::same-address", "run=test test=threads-that-come-and-go-have-the-same-stack").on_each(),
    holds("stacks::a-view", "run=test test=memory-is-lent-as-a-view-between-guards").on_each(),
    holds("stacks::a-view-quiescent", "run=test test=memory-is-lent-as-a-view-between-guards protocol=quiescent"),
    holds("stacks::bare", "run=test test=bare-memory-is-lent-as-it-is").on_each(),
    holds("stacks::wrong-sizes", "run=test test=stacks-that-cannot-be-are-errors").on_each(),
    holds("stacks::thresholds", "run=test test=a-stack-is-within-a-threshold-or-not watermark=on").on_each(),
    holds("stacks::offsets", "run=test test=threads-begin-at-offsets-of-their-own stack-offset=256").on_each(),
    holds("stacks::small-offsets", "run=test test=threads-begin-at-offsets-of-their-own stack-offset=40"),
    holds("stacks::no-offsets", "run=test test=threads-begin-at-the-top-unless-asked").on_each(),
    holds("stacks::the-cpus-own-have-room", "run=test test=the-cpus-own-stacks-have-room-to-spare watermark=on")
        .on_each(),
];
