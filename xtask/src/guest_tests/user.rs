//! User threads.

use super::{Expect, GuestTest, holds, sees, test};

pub(super) const ROWS: &[GuestTest] = &[
    test(
        "user::an-image-without-modules-is-told",
        "run=stress workload=user-storm rounds=1 seed=1",
        Expect::Fail("the image has no modules: no user programs came with the kernel"),
    )
    .without_modules(),
    holds("user::a-program-prints", "run=test test=a-program-prints-and-ends-with-its-code").on_each(),
    holds("user::stacks", "run=test test=a-user-stack-is-told-from-a-privileged-one").on_each(),
    test(
        "user::a-user-stacks-overflow-is-told",
        "run=test test=a-user-thread-overflows-and-the-run-fails",
        Expect::Fail("thread 'misdeeds'…ended by user stack overflow: 0x"),
    ),
    test(
        "user::a-privileged-stacks-overflow-is-told",
        "run=test test=a-user-thread-overflows-and-the-run-fails",
        Expect::Fail("thread 'misdeeds'…ended by privileged stack overflow: 0x"),
    ),
    holds("user::the-kernels-memory", "run=test test=user-code-cannot-touch-the-kernel").on_each(),
    holds("user::others-memory", "run=test test=user-code-cannot-touch-what-is-anothers").on_each(),
    holds("user::access-rights", "run=test test=a-program-keeps-to-its-access-rights").on_each(),
    holds("user::privileged-instructions", "run=test test=privileged-instructions-end-the-thread-alone"),
    holds("user::software-interrupts", "run=test test=software-interrupts-are-refused"),
    holds("user::odd-registers", "run=test test=what-a-program-leaves-in-registers-does-no-harm"),
    holds("user::nothing-stale", "run=test test=no-cpu-reads-what-a-program-unmapped").on_each(),
    holds("user::nothing-stale-with-oracle", "run=test test=no-cpu-reads-what-a-program-unmapped oracle=on"),
    // The cache: see `shootdown::skip-shootdown-is-seen`.
    sees(
        "user::skip-shootdown-is-seen",
        "run=test test=no-cpu-reads-what-a-program-unmapped bug=skip-shootdown cache=16",
        "no CPU reads what a program unmapped",
    ),
    holds("user::an-unmap-asks-few", "run=test test=an-unmap-asks-only-the-cpus-of-its-process"),
    holds("user::fuzz", "run=test test=system-calls-with-any-arguments-are-answered"),
    holds("user::fuzz-on-1-cpu", "run=test test=system-calls-with-any-arguments-are-answered seed=2").smp(1),
    holds("user::fuzz-on-8-cpus", "run=test test=system-calls-with-any-arguments-are-answered seed=3").smp(8),
    holds("user::fuzz-with-oracle", "run=test test=system-calls-with-any-arguments-are-answered seed=4 oracle=on"),
    holds("user::abort-anywhere", "run=test test=a-user-thread-can-be-aborted-wherever-it-is").on_each(),
    holds("user::nothing-is-left", "run=test test=processes-leave-nothing-behind"),
    holds("user::nothing-is-left-on-2-cpus", "run=test test=processes-leave-nothing-behind lazy-idle=on").smp(2),
    holds("user::limits", "run=test test=a-process-has-its-limits").on_each(),
    holds("user::registers", "run=test test=registers-are-kept-and-are-nobody-elses").on_each(),
    holds("user::nmis", "run=test test=nmis-hit-user-threads-anywhere"),
];
