//! How threads come to their end: by aborts, from handlers too, waited for by joins, and what becomes of their objects.

use super::{Expect, GuestTest, holds, test};

pub(super) const ROWS: &[GuestTest] = &[
    // Functions in interrupt handlers.
    holds("interrupts::on-any-cpu", "run=test test=a-function-runs-in-a-handler-on-any-cpu").on_each(),
    holds("interrupts::posted-once-or-refused", "run=test test=what-is-posted-runs-once-or-is-refused").on_each(),
    test(
        "interrupts::a-fault-in-a-handler",
        "run=test test=a-fault-in-a-handler-is-a-panic",
        Expect::Fail("page fault in the kernel: page fault at 0x40, in the null page"),
    )
    .on_each(),
    test(
        "interrupts::an-unmap-in-a-handler",
        "run=test test=an-unmap-in-a-handler-is-a-panic",
        Expect::Fail("waits for other CPUs inside an interrupt handler"),
    )
    .on_each(),
    test(
        "interrupts::a-call-in-a-handler",
        "run=test test=a-call-inside-a-handler-is-a-panic",
        Expect::Fail("waits for other CPUs inside an interrupt handler"),
    )
    .smp(1),
    // Aborts.
    holds("aborts::of-oneself", "run=test test=a-thread-that-aborts-itself-ends-there").on_each(),
    holds("aborts::repeatedly", "run=test test=an-abort-is-no-more-when-asked-for-again").on_each(),
    holds("aborts::delayed", "run=test test=an-abort-can-come-late-and-from-anybody").on_each(),
    holds(
        "aborts::of-whom-a-handler-interrupts",
        "run=test test=a-thread-that-a-handler-interrupts-can-be-aborted-by-it",
    )
    .on_each(),
    holds("aborts::of-another-by-a-handler", "run=test test=a-handler-aborts-any-thread-and-its-object-is-used-again")
        .on_each(),
    holds("aborts::while-the-aborter-waits", "run=test test=who-is-aborted-ends-while-its-aborter-waits").on_each(),
    holds("aborts::of-idle-threads", "run=test test=idle-threads-do-not-end").on_each(),
    test(
        "aborts::of-an-essential-thread",
        "run=test test=an-essential-threads-abort-is-a-panic",
        Expect::Fail("the essential thread 'heart' ends: Aborted"),
    )
    .on_each(),
    test(
        "aborts::of-an-essential-thread-by-a-handler",
        "run=test test=an-essential-threads-abort-by-a-handler-is-a-panic",
        Expect::Fail("the essential thread 'heart' ends: Aborted"),
    )
    .on_each(),
    holds("aborts::in-a-ring", "run=test test=a-ring-of-handlers-that-abort-each-others-threads-ends").on_each(),
    holds("aborts::in-a-ring-on-3-cpus", "run=test test=a-ring-of-handlers-that-abort-each-others-threads-ends").smp(3),
    holds(
        "aborts::in-a-ring-perturbed",
        "run=test test=a-ring-of-handlers-that-abort-each-others-threads-ends perturb=3 oracle=on",
    ),
    holds(
        "aborts::in-a-ring-quiescent",
        "run=test test=a-ring-of-handlers-that-abort-each-others-threads-ends protocol=quiescent lazy-idle=on reaping=per-cpu",
    ),
    // Joins.
    holds("joins::of-oneself", "run=test test=a-thread-does-not-wait-for-its-own-end").on_each(),
    holds("joins::in-a-handler", "run=test test=a-handler-joins-nobody").on_each(),
    holds("joins::in-a-circle", "run=test test=threads-that-wait-for-each-other-in-a-circle-are-told").on_each(),
    holds("joins::in-vain", "run=test test=a-join-that-takes-too-long-gives-the-handle-back").on_each(),
    holds("joins::of-the-finished", "run=test test=a-join-of-a-finished-thread-returns-at-once").on_each(),
    holds("joins::a-fault-on-another-cpu", "run=test test=a-fault-on-another-cpu-is-told-to-the-joiner").on_each(),
    // Objects that their owner keeps.
    holds("objects::again-at-once", "run=test test=an-object-is-used-again-at-once").on_each(),
    holds(
        "objects::again-at-once-quiescent",
        "run=test test=an-object-is-used-again-at-once protocol=quiescent reaping=per-cpu",
    ),
    holds("objects::in-use", "run=test test=an-object-in-use-is-refused").on_each(),
    holds("objects::of-the-detached", "run=test test=the-object-of-an-aborted-thread-that-nobody-joins-is-used-again")
        .on_each(),
    holds("objects::two-overflows", "run=test test=a-thread-overflows-twice-in-a-row-in-one-object").on_each(),
    holds(
        "objects::two-overflows-of-a-user-thread",
        "run=test test=a-user-thread-overflows-twice-in-a-row-in-one-object",
    )
    .on_each(),
];
