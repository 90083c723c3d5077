//! Exits, locks, scheduling, and what is seen of threads; and that events of all of it are recorded.

use super::{Expect, GuestTest, holds, sees, test};
use crate::options::Accel;

pub(super) const ROWS: &[GuestTest] = &[
    // Traces.
    holds("tracing::events-of-all-cpus", "run=test test=events-of-all-cpus-are-recorded"),
    holds("tracing::off", "run=stress rounds=3 seed=7 trace=off"),
    holds("tracing::stream", "run=stress rounds=3 seed=8 trace=stream"),
    holds("tracing::lossless", "run=stress rounds=3 seed=9 trace=lossless").limit_s(120),
    // Exits.
    holds("exits::all-cpus-at-once-delay-1", "run=test test=all-cpus-abort-at-once delay=1"),
    holds("exits::all-cpus-at-once-delay-100000", "run=test test=all-cpus-abort-at-once delay=100000"),
    sees(
        "exits::publish-before-switch-is-seen-delay-1",
        "run=test test=all-cpus-abort-at-once delay=1 bug=publish-before-switch rounds=20000",
        " in the kernel: …at rip 0x", // a double fault, nearly always; or the stack is another's already, and anything faults
    )
    .limit_s(120),
    sees(
        "exits::publish-before-switch-is-seen-delay-100000",
        // The oracle keeps what is unmapped aside: the stack that a CPU comes back to is nobody else's yet.
        "run=test test=all-cpus-abort-at-once delay=100000 bug=publish-before-switch rounds=2000 oracle=on",
        "double fault in the kernel",
    ),
    holds("exits::a-joined-thread-can-be-used-again", "run=test test=a-joined-thread-can-be-used-again-at-once")
        .on_each(),
    sees(
        "exits::join-before-off-stack-is-seen",
        "run=test test=a-joined-thread-can-be-used-again-at-once bug=join-before-off-stack delay=1000",
        "joined a thread that still stands on its stack",
    ),
    holds("exits::10000-by-self", "run=test test=ten-thousand-threads-that-end-themselves-leave-nothing").limit_s(120),
    holds("exits::10000-by-others", "run=test test=ten-thousand-threads-aborted-by-others-leave-nothing").limit_s(120),
    holds("exits::the-last-pending-stack-is-reaped", "run=test test=the-last-pending-stack-is-reaped").on_each(),
    sees(
        "exits::lost-pending-is-seen",
        "run=test test=ten-thousand-threads-that-end-themselves-leave-nothing bug=lost-pending patience=3",
        "stacks of dead threads",
    )
    .limit_s(120),
    holds("exits::reaper-and-masked-spinner", "run=test test=a-reaper-and-a-masked-spinner-do-not-deadlock"),
    sees(
        "exits::shootdown-under-lock-is-seen",
        "run=test test=a-reaper-and-a-masked-spinner-do-not-deadlock bug=shootdown-under-lock",
        "waits for other CPUs with a lock held: 'reaper' (taken at smp/src/reaper.rs:",
    ),
    holds("exits::abort-in-every-state", "run=test test=a-thread-can-be-aborted-in-every-state").on_each(),
    holds("exits::two-abort-each-other", "run=test test=two-threads-abort-each-other").on_each(),
    holds("exits::what-was-never-run-is-dropped", "run=test test=what-was-never-run-is-dropped").on_each(),
    // Locks. The control of each that sees a bug is the row of the same test without it.
    holds("locks::a-lock-is-cheap", "run=test test=a-lock-costs-few-instructions").accel(Accel::Icount),
    test(
        "locks::a-circle-of-three-is-told",
        "run=test test=orders-that-close-a-circle-are-told",
        Expect::Fail("locks are taken in two orders: 'stone' (taken at stress/src/selftest/locks.rs:"),
    ),
    test(
        "locks::two-of-one-class-are-told",
        "run=test test=two-locks-of-one-class-are-told",
        Expect::Fail("two locks of the class 'twin' are taken by this CPU: one at stress/src/selftest/locks.rs:"),
    ),
    test(
        "locks::one-that-is-held-is-not-dropped",
        "run=test test=a-lock-that-is-held-is-not-dropped",
        Expect::Fail("the lock 'forgotten' is dropped while it is held"),
    ),
    sees(
        "locks::lock-order-is-seen",
        "run=test test=no-cpu-reads-what-was-unmapped bug=lock-order",
        "locks are taken in two orders: 'page tables' (taken at kernel/src/mem/paging/entries.rs:",
    ),
    sees(
        "locks::lock-recursion-is-seen",
        "run=test test=values-come-back-by-join bug=lock-recursion",
        "the lock 'threads' is taken twice by this CPU: at kernel/src/thread/table.rs:",
    ),
    sees(
        "locks::irq-unsafe-is-seen",
        "run=test test=a-sleeper-wakes-not-too-early bug=irq-unsafe",
        "under which somebody enabled interrupts: 'sleepers' (taken at kernel/src/thread/sleepers.rs:",
    ),
    sees(
        "locks::turn-in-interrupt-is-seen",
        "run=test test=boot bug=turn-in-interrupt",
        "'serial 2', which is for threads, is taken inside an interrupt handler at kernel/src/trap/mod.rs:",
    ),
    // Scheduling.
    holds("scheduling::preemption", "run=test test=threads-that-never-give-way-take-turns").on_each(),
    holds("scheduling::sleep", "run=test test=a-sleeper-wakes-not-too-early"),
    holds("scheduling::many-sleepers", "run=test test=of-many-sleepers-each-wakes-when-it-is-due").on_each(),
    holds("scheduling::unpark-is-never-lost", "run=test test=an-unpark-is-never-lost"),
    holds("scheduling::unpark-in-a-wait", "run=test test=an-unpark-outlasts-the-kernels-waits").on_each(),
    holds("scheduling::quiet", "run=test test=who-waits-for-quiet-lets-the-less-urgent-go-on").on_each(),
    holds("scheduling::stealing", "run=test test=idle-cpus-take-work-from-busy-ones"),
    holds("scheduling::pinning", "run=test test=a-thread-stays-where-it-was-pinned").on_each(),
    holds("scheduling::values-come-back", "run=test test=values-come-back-by-join"),
    holds(
        "scheduling::urgent-at-once-here",
        "run=test test=a-more-urgent-thread-runs-at-once-on-its-starters-cpu tick-hz=1",
    )
    .on_each(),
    holds(
        "scheduling::urgent-at-once-there",
        "run=test test=a-more-urgent-thread-runs-at-once-on-another-cpu tick-hz=1",
    )
    .on_several(),
    holds("scheduling::in-order", "run=test test=the-most-urgent-run-first-and-equals-in-turn").on_each(),
    holds("scheduling::less-urgent-waits", "run=test test=a-less-urgent-thread-waits").on_each(),
    holds("scheduling::cpu-masks", "run=test test=threads-keep-to-their-cpu-masks").on_each(),
    holds("scheduling::torture", "run=test test=switches-under-torture-lose-nothing").on_each(),
    holds(
        "scheduling::torture-perturbed",
        "run=test test=switches-under-torture-lose-nothing rounds=400 perturb=5 oracle=on",
    )
    .limit_s(120),
    // What is seen of threads, and what they have of their own.
    holds("threads::listed", "run=test test=every-thread-is-listed-with-its-name-and-state").on_several(),
    holds("threads::turns", "run=test test=turns-are-counted").on_each(),
    holds("threads::data", "run=test test=a-thread-has-a-word-for-others-to-see").on_each(),
    holds("threads::locals", "run=test test=thread-locals-are-each-threads-own").on_each(),
    // What is lent, and who waits for whom.
    holds(
        "lending::dropped-under-its-thread",
        "run=test test=a-stack-dropped-under-its-thread-is-freed-when-it-is-left perturb=1 oracle=on",
    )
    .on_each(),
    holds(
        "lending::dropped-into-the-cache",
        "run=test test=a-stack-dropped-under-its-thread-is-freed-when-it-is-left perturb=1 cache=4",
    )
    .on_each(),
    holds("lending::to-one-at-a-time", "run=test test=what-is-lent-comes-back-at-once-and-to-one perturb=1 oracle=on")
        .on_each(),
    holds("lending::a-contended-object", "run=test test=an-object-that-many-want-goes-to-one perturb=1").on_each(),
    holds(
        "lending::an-aborted-waiter-on-one-cpu",
        "run=test test=who-is-aborted-and-waits-on-lets-the-less-urgent-run",
    )
    .smp(1),
    holds("lending::a-turn-on-one-cpu", "run=test test=who-waits-for-a-turn-lets-the-less-urgent-who-has-it-run")
        .smp(1),
    holds("lending::detached-threads", "run=test test=a-detached-threads-handle-is-that-threads").on_each(),
    holds("lending::crossing-joins", "run=test test=joins-that-time-out-and-aborts-cross-each-other").on_each(),
    holds("lending::a-clean-cache", "run=test test=a-stack-from-the-cache-holds-zeros perturb=1"),
];
