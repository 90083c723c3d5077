//! Stacks that CPUs keep, many threads at once, and what threads cost.

use super::{Expect, GuestTest, holds, sees, test};
use crate::artifacts::Kind;
use crate::options::Accel;

pub(super) const ROWS: &[GuestTest] = &[
    // Stacks that CPUs keep.
    holds("cache::maps-nothing-with-one-place", "run=test test=a-spawn-after-an-exit-maps-nothing cache=1").smp(1),
    holds("cache::maps-nothing", "run=test test=a-spawn-after-an-exit-maps-nothing cache=4").on_each(),
    holds("cache::maps-nothing-with-16-places", "run=test test=a-spawn-after-an-exit-maps-nothing cache=16").smp(8),
    holds("cache::size", "run=test test=a-cpu-keeps-no-more-stacks-than-it-may").on_each(),
    holds("cache::size-by-the-command-line", "run=test test=a-cpu-keeps-no-more-stacks-than-it-may cache=4"),
    holds("cache::contents", "run=test test=what-a-stack-held-is-cleared cache=4").on_each(),
    holds("cache::contents-with-one-place", "run=test test=what-a-stack-held-is-cleared cache=1").smp(2),
    holds("cache::contents-with-watermarks", "run=test test=what-a-stack-held-is-cleared cache=4 watermark=on"),
    sees(
        "cache::contents-kept-are-seen",
        "run=test test=what-a-stack-held-is-cleared cache=4 bug=cache-keeps-contents",
        "nothing is left of the thread before",
    ),
    holds("cache::memory-pressure", "run=test test=stacks-that-are-kept-are-no-memory-lost cache=8").mem(64).on_each(),
    holds("cache::mixed", "run=stress rounds=14 seed=1 cache=4"),
    holds("cache::mixed-perturbed-with-oracle", "run=stress rounds=7 seed=2 cache=4 perturb=1 oracle=on"),
    holds("cache::mixed-quiescent", "run=stress rounds=7 seed=3 cache=4 protocol=quiescent reaping=per-cpu"),
    holds("cache::abort-storm", "run=stress workload=abort-storm rounds=50 seed=1 cache=4"),
    holds("cache::abort-storm-with-oracle", "run=stress workload=abort-storm rounds=20 seed=2 cache=4 oracle=on"),
    holds("cache::abort-storm-perturbed", "run=stress workload=abort-storm rounds=20 seed=3 cache=4 perturb=2"),
    holds("cache::abort-storm-on-1-cpu", "run=stress workload=abort-storm rounds=50 seed=4 cache=4").smp(1),
    holds("cache::abort-storm-on-8-cpus", "run=stress workload=abort-storm rounds=20 seed=5 cache=2")
        .smp(8)
        .limit_s(120),
    // Many threads at once. Eight stacks a shootdown, where ten thousand of them are reaped.
    holds("many::10000-in-256-mib", "run=stress workload=many rounds=1 threads=10000 reaping=per-cpu").limit_s(120),
    holds(
        "many::10000-with-watermarks",
        "run=stress workload=many rounds=1 threads=10000 reaping=per-cpu watermark=on",
    )
    .limit_s(120),
    holds("many::2000-in-64-mib", "run=stress workload=many rounds=2 threads=2000").mem(64).limit_s(120),
    holds("many::2000-on-1-cpu", "run=stress workload=many rounds=1 threads=2000").smp(1).mem(64),
    test(
        "many::more-than-memory-has-room-for-is-told",
        "run=stress workload=many rounds=1 threads=20000",
        // A frame for its stack, or memory for its object, as it comes.
        Expect::Fail("threads can be started: no …is left"),
    )
    .mem(64)
    .limit_s(120),
    // What threads cost, in instructions: the limits are in stress/src/bench/.
    holds("bench::a-thread-is-cheap", "run=test test=a-thread-costs-few-instructions trace=off")
        .smp(1)
        .accel(Accel::Icount)
        .kind(Kind::Lean),
];
