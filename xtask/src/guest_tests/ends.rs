//! How threads come to their end: by aborts, from handlers too, waited for by joins, and what becomes of their objects.

use super::{Expect, GuestTest, holds, test};

pub(super) const ROWS: &[GuestTest] = &[
    // Functions in interrupt handlers.
    holds("interrupts::on-any-cpu-on-1-cpu", "run=test test=a-function-runs-in-a-handler-on-any-cpu").smp(1),
    holds("interrupts::on-any-cpu-on-2-cpus", "run=test test=a-function-runs-in-a-handler-on-any-cpu").smp(2),
    holds("interrupts::on-any-cpu", "run=test test=a-function-runs-in-a-handler-on-any-cpu"),
    holds("interrupts::on-any-cpu-on-8-cpus", "run=test test=a-function-runs-in-a-handler-on-any-cpu").smp(8),
    holds("interrupts::posted-once-or-refused-on-2-cpus", "run=test test=what-is-posted-runs-once-or-is-refused")
        .smp(2),
    holds("interrupts::posted-once-or-refused", "run=test test=what-is-posted-runs-once-or-is-refused"),
    holds("interrupts::posted-once-or-refused-on-8-cpus", "run=test test=what-is-posted-runs-once-or-is-refused")
        .smp(8),
    test(
        "interrupts::a-fault-in-a-handler",
        "run=test test=a-fault-in-a-handler-is-a-panic",
        Expect::Fail("page fault in the kernel: page fault at 0x40, in the null page"),
    ),
    test(
        "interrupts::an-unmap-in-a-handler",
        "run=test test=an-unmap-in-a-handler-is-a-panic",
        Expect::Fail("waits for other CPUs inside an interrupt handler"),
    ),
    test(
        "interrupts::a-call-in-a-handler",
        "run=test test=a-call-inside-a-handler-is-a-panic",
        Expect::Fail("waits for other CPUs inside an interrupt handler"),
    )
    .smp(1),
    // Aborts.
    holds("aborts::of-oneself-on-1-cpu", "run=test test=a-thread-that-aborts-itself-ends-there").smp(1),
    holds("aborts::of-oneself", "run=test test=a-thread-that-aborts-itself-ends-there"),
    holds("aborts::repeatedly-on-1-cpu", "run=test test=an-abort-is-no-more-when-asked-for-again").smp(1),
    holds("aborts::repeatedly-on-2-cpus", "run=test test=an-abort-is-no-more-when-asked-for-again").smp(2),
    holds("aborts::repeatedly", "run=test test=an-abort-is-no-more-when-asked-for-again"),
    holds("aborts::delayed-on-1-cpu", "run=test test=an-abort-can-come-late-and-from-anybody").smp(1),
    holds("aborts::delayed", "run=test test=an-abort-can-come-late-and-from-anybody"),
    holds(
        "aborts::of-whom-a-handler-interrupts-on-1-cpu",
        "run=test test=a-thread-that-a-handler-interrupts-can-be-aborted-by-it",
    )
    .smp(1),
    holds(
        "aborts::of-whom-a-handler-interrupts-on-2-cpus",
        "run=test test=a-thread-that-a-handler-interrupts-can-be-aborted-by-it",
    )
    .smp(2),
    holds(
        "aborts::of-whom-a-handler-interrupts",
        "run=test test=a-thread-that-a-handler-interrupts-can-be-aborted-by-it",
    ),
    holds(
        "aborts::of-whom-a-handler-interrupts-on-8-cpus",
        "run=test test=a-thread-that-a-handler-interrupts-can-be-aborted-by-it",
    )
    .smp(8),
    holds(
        "aborts::of-another-by-a-handler-on-1-cpu",
        "run=test test=a-handler-aborts-any-thread-and-its-object-is-used-again",
    )
    .smp(1),
    holds(
        "aborts::of-another-by-a-handler-on-2-cpus",
        "run=test test=a-handler-aborts-any-thread-and-its-object-is-used-again",
    )
    .smp(2),
    holds("aborts::of-another-by-a-handler", "run=test test=a-handler-aborts-any-thread-and-its-object-is-used-again"),
    holds(
        "aborts::of-another-by-a-handler-on-8-cpus",
        "run=test test=a-handler-aborts-any-thread-and-its-object-is-used-again",
    )
    .smp(8),
    holds("aborts::while-the-aborter-waits-on-1-cpu", "run=test test=who-is-aborted-ends-while-its-aborter-waits")
        .smp(1),
    holds("aborts::while-the-aborter-waits-on-2-cpus", "run=test test=who-is-aborted-ends-while-its-aborter-waits")
        .smp(2),
    holds("aborts::while-the-aborter-waits", "run=test test=who-is-aborted-ends-while-its-aborter-waits"),
    holds("aborts::while-the-aborter-waits-on-8-cpus", "run=test test=who-is-aborted-ends-while-its-aborter-waits")
        .smp(8),
    holds("aborts::of-idle-threads-on-1-cpu", "run=test test=idle-threads-do-not-end").smp(1),
    holds("aborts::of-idle-threads", "run=test test=idle-threads-do-not-end"),
    test(
        "aborts::of-an-essential-thread",
        "run=test test=an-essential-threads-abort-is-a-panic",
        Expect::Fail("the essential thread 'heart' ends: Aborted"),
    ),
    test(
        "aborts::of-an-essential-thread-by-a-handler",
        "run=test test=an-essential-threads-abort-by-a-handler-is-a-panic",
        Expect::Fail("the essential thread 'heart' ends: Aborted"),
    ),
    holds("aborts::in-a-ring-on-1-cpu", "run=test test=a-ring-of-handlers-that-abort-each-others-threads-ends").smp(1),
    holds("aborts::in-a-ring-on-2-cpus", "run=test test=a-ring-of-handlers-that-abort-each-others-threads-ends").smp(2),
    holds("aborts::in-a-ring-on-3-cpus", "run=test test=a-ring-of-handlers-that-abort-each-others-threads-ends").smp(3),
    holds("aborts::in-a-ring", "run=test test=a-ring-of-handlers-that-abort-each-others-threads-ends"),
    holds("aborts::in-a-ring-on-8-cpus", "run=test test=a-ring-of-handlers-that-abort-each-others-threads-ends").smp(8),
    holds(
        "aborts::in-a-ring-perturbed",
        "run=test test=a-ring-of-handlers-that-abort-each-others-threads-ends perturb=3 oracle=on",
    ),
    holds(
        "aborts::in-a-ring-quiescent",
        "run=test test=a-ring-of-handlers-that-abort-each-others-threads-ends protocol=quiescent lazy-idle=on reaping=per-cpu",
    ),
    // Joins.
    holds("joins::of-oneself-on-1-cpu", "run=test test=a-thread-does-not-wait-for-its-own-end").smp(1),
    holds("joins::of-oneself", "run=test test=a-thread-does-not-wait-for-its-own-end"),
    holds("joins::in-a-handler-on-1-cpu", "run=test test=a-handler-joins-nobody").smp(1),
    holds("joins::in-a-handler", "run=test test=a-handler-joins-nobody"),
    holds("joins::in-a-circle-on-1-cpu", "run=test test=threads-that-wait-for-each-other-in-a-circle-are-told").smp(1),
    holds("joins::in-a-circle-on-2-cpus", "run=test test=threads-that-wait-for-each-other-in-a-circle-are-told").smp(2),
    holds("joins::in-a-circle", "run=test test=threads-that-wait-for-each-other-in-a-circle-are-told"),
    holds("joins::in-a-circle-on-8-cpus", "run=test test=threads-that-wait-for-each-other-in-a-circle-are-told").smp(8),
    holds("joins::in-vain-on-1-cpu", "run=test test=a-join-that-takes-too-long-gives-the-handle-back").smp(1),
    holds("joins::in-vain", "run=test test=a-join-that-takes-too-long-gives-the-handle-back"),
    holds("joins::of-the-finished-on-1-cpu", "run=test test=a-join-of-a-finished-thread-returns-at-once").smp(1),
    holds("joins::of-the-finished", "run=test test=a-join-of-a-finished-thread-returns-at-once"),
    holds("joins::a-fault-on-another-cpu-on-1-cpu", "run=test test=a-fault-on-another-cpu-is-told-to-the-joiner")
        .smp(1),
    holds("joins::a-fault-on-another-cpu-on-2-cpus", "run=test test=a-fault-on-another-cpu-is-told-to-the-joiner")
        .smp(2),
    holds("joins::a-fault-on-another-cpu", "run=test test=a-fault-on-another-cpu-is-told-to-the-joiner"),
    holds("joins::a-fault-on-another-cpu-on-8-cpus", "run=test test=a-fault-on-another-cpu-is-told-to-the-joiner")
        .smp(8),
    // Objects that their owner keeps.
    holds("objects::again-at-once-on-1-cpu", "run=test test=an-object-is-used-again-at-once").smp(1),
    holds("objects::again-at-once-on-2-cpus", "run=test test=an-object-is-used-again-at-once").smp(2),
    holds("objects::again-at-once", "run=test test=an-object-is-used-again-at-once"),
    holds("objects::again-at-once-on-8-cpus", "run=test test=an-object-is-used-again-at-once").smp(8),
    holds(
        "objects::again-at-once-quiescent",
        "run=test test=an-object-is-used-again-at-once protocol=quiescent reaping=per-cpu",
    ),
    holds("objects::in-use-on-1-cpu", "run=test test=an-object-in-use-is-refused").smp(1),
    holds("objects::in-use", "run=test test=an-object-in-use-is-refused"),
    holds(
        "objects::of-the-detached-on-1-cpu",
        "run=test test=the-object-of-an-aborted-thread-that-nobody-joins-is-used-again",
    )
    .smp(1),
    holds(
        "objects::of-the-detached-on-2-cpus",
        "run=test test=the-object-of-an-aborted-thread-that-nobody-joins-is-used-again",
    )
    .smp(2),
    holds("objects::of-the-detached", "run=test test=the-object-of-an-aborted-thread-that-nobody-joins-is-used-again"),
    holds(
        "objects::of-the-detached-on-8-cpus",
        "run=test test=the-object-of-an-aborted-thread-that-nobody-joins-is-used-again",
    )
    .smp(8),
    holds("objects::two-overflows-on-1-cpu", "run=test test=a-thread-overflows-twice-in-a-row-in-one-object").smp(1),
    holds("objects::two-overflows", "run=test test=a-thread-overflows-twice-in-a-row-in-one-object"),
    holds(
        "objects::two-overflows-of-a-user-thread-on-1-cpu",
        "run=test test=a-user-thread-overflows-twice-in-a-row-in-one-object",
    )
    .smp(1),
    holds(
        "objects::two-overflows-of-a-user-thread-on-2-cpus",
        "run=test test=a-user-thread-overflows-twice-in-a-row-in-one-object",
    )
    .smp(2),
    holds(
        "objects::two-overflows-of-a-user-thread",
        "run=test test=a-user-thread-overflows-twice-in-a-row-in-one-object",
    ),
];
