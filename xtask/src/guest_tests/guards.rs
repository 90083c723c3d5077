//! Guards of every stack there is.

use super::{Expect, GuestTest, beside, holds, sees, test};

pub(super) const ROWS: &[GuestTest] = &[
    holds("guards::exact-to-the-byte", "run=test test=a-guard-is-exact-to-the-byte").on_each(),
    holds("guards::on-every-cpu-the-thread-dies-alone", "run=test test=an-overflow-on-every-cpu-ends-its-thread-alone")
        .on_each(),
    holds("guards::on-all-cpus-at-once", "run=test test=overflows-on-all-cpus-at-once"),
    holds("guards::a-large-frame-cannot-step-over", "run=test test=a-large-frame-cannot-step-over-the-guard"),
    holds(
        "guards::a-kernel-call-with-too-little-stack",
        "run=test test=a-kernel-call-with-too-little-stack-is-an-overflow",
    ),
    holds("guards::ending-itself-with-no-stack-left", "run=test test=a-thread-can-end-itself-with-no-stack-left"),
    holds("guards::a-wild-pointer-is-no-overflow", "run=test test=a-wild-pointer-is-no-overflow"),
    holds("guards::interrupts-at-the-edge", "run=test test=interrupts-at-the-edge-of-the-stack-are-not-lost"),
    // Stacks of every kind.
    holds("guards::of-stacks-of-all-sizes", "run=test test=threads-stacks-of-all-sizes-are-exact-to-the-byte")
        .on_each(),
    holds("guards::the-cpus-own-stacks", "run=test test=the-cpus-own-stacks-are-exact-to-the-byte").on_each(),
    holds("guards::of-other-stacks", "run=test test=who-touches-another-stacks-guard-has-not-overflowed"),
    holds("guards::a-worker-faults-twice", "run=test test=a-worker-faults-twice-and-works-in-between").on_each(),
    holds("guards::a-rain-of-nmis", "run=test test=nmis-rain-on-threads-that-overflow").on_each(),
    holds("guards::a-rain-of-nmis-on-a-broken-frame", "run=test test=nmis-rain-on-a-broken-frame-pointer"),
    test(
        "guards::the-interrupt-stack-overflows",
        "run=test test=an-overflow-of-the-interrupt-stack",
        Expect::Fail("double fault in the kernel: overflow of the interrupt stack of CPU 3: "),
    ),
    test(
        "guards::the-interrupt-stack-overflows-on-1-cpu",
        "run=test test=an-overflow-of-the-interrupt-stack",
        Expect::Fail("double fault in the kernel: overflow of the interrupt stack of CPU 0: "),
    )
    .smp(1),
    test(
        "guards::the-nmi-stack-overflows",
        "run=test test=an-overflow-of-the-nmi-stack",
        Expect::Fail("double fault in the kernel: overflow of the NMI stack of CPU 1: "),
    )
    .smp(2),
    test(
        "guards::the-double-fault-stack-overflows",
        "run=test test=an-overflow-of-the-double-fault-stack",
        Expect::Fail("double fault in the kernel: overflow of the #DF stack of CPU 3: "),
    ),
    test(
        "guards::the-machine-check-stack-overflows",
        "run=test test=an-overflow-of-the-machine-check-stack",
        Expect::Fail("double fault in the kernel: overflow of the #MC stack of CPU 7: "),
    )
    .smp(8),
    test(
        "guards::the-idle-stack-overflows",
        "run=test test=an-overflow-of-the-idle-stack",
        Expect::Fail("double fault in the kernel: overflow of the idle stack of CPU 3: "),
    ),
    beside(
        "guards::one-byte-below-the-interrupt-stack",
        "run=test test=a-write-below-the-interrupt-stack",
        "kernel: overflow of the interrupt stack of CPU 1: … is 1 bytes below the stack, in its front guard",
    ),
    beside(
        "guards::one-byte-above-the-interrupt-stack",
        "run=test test=a-write-above-the-interrupt-stack",
        "kernel: underflow of the interrupt stack of CPU 1: … is 1 bytes above the stack, in its rear guard",
    ),
    beside(
        "guards::one-byte-below-the-nmi-stack",
        "run=test test=a-write-below-the-nmi-stack",
        "kernel: overflow of the NMI stack of CPU 1: … is 1 bytes below the stack, in its front guard",
    ),
    beside(
        "guards::one-byte-above-the-nmi-stack",
        "run=test test=a-write-above-the-nmi-stack",
        "kernel: underflow of the NMI stack of CPU 1: … is 1 bytes above the stack, in its rear guard",
    ),
    beside(
        "guards::one-byte-below-the-double-fault-stack",
        "run=test test=a-write-below-the-double-fault-stack",
        "kernel: overflow of the #DF stack of CPU 1: … is 1 bytes below the stack, in its front guard",
    ),
    beside(
        "guards::one-byte-above-the-double-fault-stack",
        "run=test test=a-write-above-the-double-fault-stack",
        "kernel: underflow of the #DF stack of CPU 1: … is 1 bytes above the stack, in its rear guard",
    ),
    beside(
        "guards::one-byte-below-the-machine-check-stack",
        "run=test test=a-write-below-the-machine-check-stack",
        "kernel: overflow of the #MC stack of CPU 1: … is 1 bytes below the stack, in its front guard",
    ),
    beside(
        "guards::one-byte-above-the-machine-check-stack",
        "run=test test=a-write-above-the-machine-check-stack",
        "kernel: underflow of the #MC stack of CPU 1: … is 1 bytes above the stack, in its rear guard",
    ),
    beside(
        "guards::one-byte-below-the-idle-stack",
        "run=test test=a-write-below-the-idle-stack",
        "kernel: overflow of the idle stack of CPU 1: … is 1 bytes below the stack, in its front guard",
    ),
    beside(
        "guards::one-byte-above-the-idle-stack",
        "run=test test=a-write-above-the-idle-stack",
        "kernel: underflow of the idle stack of CPU 1: … is 1 bytes above the stack, in its rear guard",
    ),
    sees(
        "guards::the-boot-stack-overflows",
        "run=test test=boot bug=boot-overflow",
        "double fault in the kernel: overflow of the boot stack of CPU 0: ",
    ),
];
