//! The in-QEMU tests: for each promise, the machine to boot, the words to give the kernel, and what has to come of it.
//!
//! To add one: write the check in `stress/src/selftest/`, then its row here. A row with a `bug` shows that the test above
//! it can fail.

use crate::artifacts::Kind;
use crate::options::{Accel, Machine};
use std::time::Duration;

/// What has to come of a test.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    /// Every promise held.
    Pass,
    /// A promise broke, and the guest said this in one line; an ellipsis stands for anything.
    Fail(&'static str),
    /// The guest refused to run, and said this.
    CannotRun(&'static str),
}

/// A test in QEMU.
#[derive(Clone, Copy, Debug)]
pub struct GuestTest {
    /// Its name: the promise.
    pub name: &'static str,
    /// The kernel's command line.
    pub words: &'static str,
    /// CPUs.
    pub smp: u32,
    /// MiB of memory.
    pub mem: u32,
    /// What executes it.
    pub accel: Accel,
    /// Which image.
    pub kind: Kind,
    /// Seconds after which it is taken to hang, on a host of two cores.
    pub limit: u64,
    /// What has to come of it.
    pub expect: Expect,
    /// Given to the direct loader in place of the kernel file. It must say why that is none in one line.
    pub no_kernel: Option<&'static [u8]>,
    /// The direct loader gets the bare kernel file, without any module.
    pub bare: bool,
}

impl GuestTest {
    /// The machine.
    #[must_use]
    pub fn machine(&self) -> Machine {
        Machine { smp: self.smp, mem: self.mem, accel: self.accel, ..Machine::default() }
    }

    /// The limit.
    #[must_use]
    pub const fn limit(&self) -> Duration {
        Duration::from_secs(self.limit)
    }

    const fn smp(mut self, smp: u32) -> Self {
        self.smp = smp;
        self
    }

    const fn mem(mut self, mem: u32) -> Self {
        self.mem = mem;
        self
    }

    const fn accel(mut self, accel: Accel) -> Self {
        self.accel = accel;
        self
    }

    const fn without_modules(mut self) -> Self {
        self.bare = true;
        self
    }

    const fn limit_s(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }
}

const fn test(name: &'static str, words: &'static str, expect: Expect) -> GuestTest {
    GuestTest {
        name,
        words,
        smp: 4,
        mem: 256,
        accel: Accel::Tcg,
        kind: Kind::Release,
        limit: 60,
        expect,
        no_kernel: None,
        bare: false,
    }
}

/// A promise that holds.
const fn holds(name: &'static str, words: &'static str) -> GuestTest {
    test(name, words, Expect::Pass)
}

/// A file that is no kernel, and what the direct loader says of it.
const fn refuses(name: &'static str, contents: &'static [u8], says: &'static str) -> GuestTest {
    let mut test = test(name, "", Expect::CannotRun(says));
    test.no_kernel = Some(contents);
    test
}

/// A fault put back, and what the guest says of it.
const fn sees(name: &'static str, words: &'static str, says: &'static str) -> GuestTest {
    let mut test = test(name, words, Expect::Fail(says));
    test.kind = Kind::SeededBugs;
    test
}

/// A promise that holds, asked of an image in which allocations can be made to fail.
const fn holds_injected(name: &'static str, words: &'static str) -> GuestTest {
    let mut test = holds(name, words);
    test.kind = Kind::SeededBugs;
    test
}

/// A CPU writes a byte beside a stack of its own, while it is on it, and what the guest says of it.
const fn beside(name: &'static str, words: &'static str, says: &'static str) -> GuestTest {
    test(name, words, Expect::Fail(says)).smp(2)
}

/// All of them.
pub const ALL: &[GuestTest] = &[
    // Boot.
    holds("boot::on-1-cpu", "run=test test=boot").smp(1),
    holds("boot::on-2-cpus", "run=test test=boot").smp(2),
    holds("boot::on-3-cpus", "run=test test=boot").smp(3),
    holds("boot::on-4-cpus", "run=test test=boot"),
    holds("boot::on-8-cpus", "run=test test=boot").smp(8),
    holds("boot::on-64-cpus", "run=test test=boot").smp(64).limit_s(120),
    holds("boot::with-70-cpus-64-are-used", "run=test test=boot").smp(70).limit_s(120),
    holds("boot::in-64-mib", "run=test test=boot").mem(64),
    holds("boot::in-5-gib", "run=test test=boot").mem(5 << 10),
    holds("boot::write-xor-execute", "run=test test=write-xor-execute"),
    refuses("loader::a-torn-archive-is-no-kernel", b"070701000", "archive: truncated or malformed: no header at 0x0"),
    refuses("loader::a-text-is-no-kernel", b"#!/bin/sh\necho I am no kernel, whatever my name\n", "not an ELF"),
    refuses("loader::an-empty-file-is-no-kernel", b"", "palisade-loader: "),
    refuses("loader::a-torn-kernel-is-no-kernel", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0", "palisade-loader: "),
    // Command line and exit codes.
    test(
        "cmdline::an-unknown-word-is-named",
        "run=stress colour=blue",
        Expect::CannotRun("unknown word 'colour=blue'"),
    ),
    test(
        "cmdline::a-bad-value-is-named",
        "seconds=never",
        Expect::CannotRun("bad value in 'seconds=never', expected 1 to"),
    ),
    test("cmdline::a-test-needs-a-name", "run=test", Expect::CannotRun("'run=test' needs 'test=NAME'")),
    test("cmdline::an-unknown-test-fails", "run=test test=no-such", Expect::Fail("there is no such test")),
    test("cmdline::the-release-image-has-no-bugs", "bug=drop-ipi", Expect::CannotRun("this image has no seeded bugs")),
    test(
        "ends::a-broken-promise-fails-the-run",
        "run=test test=a-broken-promise-fails-the-run",
        Expect::Fail("as it should"),
    ),
    test(
        "ends::a-panic-stops-all-and-fails-the-run",
        "run=test test=a-panic-stops-all-and-fails-the-run",
        Expect::Fail("on purpose"),
    ),
    test(
        "ends::an-overflow-with-a-lock-held-is-a-panic",
        "run=test test=an-overflow-with-a-lock-held-is-a-panic",
        Expect::Fail("double fault in the kernel: stack overflow"),
    ),
    // Hangs and crashes: found, and told with what every CPU is at.
    test(
        "hangs::a-cpu-that-masks-interrupts-for-ever",
        "run=test test=a-cpu-that-masks-interrupts-for-ever patience=2",
        Expect::Fail("CPU 3: running, thread 'deaf'"),
    ),
    test(
        "hangs::nobody-gives-up-a-lock",
        "run=test test=nobody-gives-up-a-lock patience=2",
        Expect::Fail("holds 'misdeed' (taken at kernel/src/misdeed.rs:"),
    ),
    test(
        "hangs::all-cpus-with-a-lock-held",
        "run=test test=all-cpus-hang-one-with-a-lock",
        Expect::Fail("holds 'misdeed' (taken at kernel/src/misdeed.rs:"),
    )
    .limit_s(10),
    test("hangs::a-triple-fault", "run=test test=a-triple-fault", Expect::Fail("CPU 0: running, thread 'main'")),
    // Guards.
    holds("guards::exact-to-the-byte", "run=test test=a-guard-is-exact-to-the-byte"),
    holds("guards::on-every-cpu-the-thread-dies-alone", "run=test test=an-overflow-on-every-cpu-ends-its-thread-alone"),
    holds("guards::on-8-cpus-the-thread-dies-alone", "run=test test=an-overflow-on-every-cpu-ends-its-thread-alone")
        .smp(8),
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
    holds("guards::of-stacks-of-all-sizes", "run=test test=threads-stacks-of-all-sizes-are-exact-to-the-byte"),
    holds("guards::the-cpus-own-stacks-on-1-cpu", "run=test test=the-cpus-own-stacks-are-exact-to-the-byte").smp(1),
    holds("guards::the-cpus-own-stacks-on-2-cpus", "run=test test=the-cpus-own-stacks-are-exact-to-the-byte").smp(2),
    holds("guards::the-cpus-own-stacks", "run=test test=the-cpus-own-stacks-are-exact-to-the-byte"),
    holds("guards::the-cpus-own-stacks-on-8-cpus", "run=test test=the-cpus-own-stacks-are-exact-to-the-byte").smp(8),
    holds("guards::of-other-stacks", "run=test test=who-touches-another-stacks-guard-has-not-overflowed"),
    holds("guards::a-worker-faults-twice", "run=test test=a-worker-faults-twice-and-works-in-between"),
    holds("guards::a-rain-of-nmis-on-1-cpu", "run=test test=nmis-rain-on-threads-that-overflow").smp(1),
    holds("guards::a-rain-of-nmis", "run=test test=nmis-rain-on-threads-that-overflow"),
    holds("guards::a-rain-of-nmis-on-8-cpus", "run=test test=nmis-rain-on-threads-that-overflow").smp(8),
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
        "double fault in the kernel",
    )
    .limit_s(120),
    sees(
        "exits::publish-before-switch-is-seen-delay-100000",
        "run=test test=all-cpus-abort-at-once delay=100000 bug=publish-before-switch",
        "double fault in the kernel",
    ),
    holds("exits::a-joined-thread-can-be-used-again", "run=test test=a-joined-thread-can-be-used-again-at-once"),
    sees(
        "exits::join-before-off-stack-is-seen",
        "run=test test=a-joined-thread-can-be-used-again-at-once bug=join-before-off-stack delay=1000",
        "joined a thread that still stands on its stack",
    ),
    holds("exits::10000-by-self", "run=test test=ten-thousand-threads-that-end-themselves-leave-nothing").limit_s(120),
    holds("exits::10000-by-others", "run=test test=ten-thousand-threads-aborted-by-others-leave-nothing").limit_s(120),
    holds("exits::the-last-pending-stack-is-reaped", "run=test test=the-last-pending-stack-is-reaped"),
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
    holds("exits::abort-in-every-state", "run=test test=a-thread-can-be-aborted-in-every-state"),
    holds("exits::two-abort-each-other", "run=test test=two-threads-abort-each-other"),
    holds("exits::what-was-never-run-is-dropped", "run=test test=what-was-never-run-is-dropped"),
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
    sees(
        "locks::lock-order-is-seen",
        "run=test test=no-cpu-reads-what-was-unmapped bug=lock-order",
        "locks are taken in two orders: 'page tables' (taken at kernel/src/mem/paging.rs:",
    ),
    sees(
        "locks::lock-recursion-is-seen",
        "run=test test=values-come-back-by-join bug=lock-recursion",
        "the lock 'threads' is taken twice by this CPU: at kernel/src/thread/table.rs:",
    ),
    sees(
        "locks::irq-unsafe-is-seen",
        "run=test test=a-sleeper-wakes-not-too-early bug=irq-unsafe",
        "under which somebody enabled interrupts: 'sleepers' (taken at kernel/src/thread/queue.rs:",
    ),
    sees(
        "locks::turn-in-interrupt-is-seen",
        "run=test test=boot bug=turn-in-interrupt",
        "'serial 2', which is for threads, is taken inside an interrupt handler at kernel/src/trap/mod.rs:",
    ),
    // Scheduling.
    holds("scheduling::preemption", "run=test test=threads-that-never-give-way-take-turns"),
    holds("scheduling::sleep", "run=test test=a-sleeper-wakes-not-too-early"),
    holds("scheduling::unpark-is-never-lost", "run=test test=an-unpark-is-never-lost"),
    holds("scheduling::stealing", "run=test test=idle-cpus-take-work-from-busy-ones"),
    holds("scheduling::pinning", "run=test test=a-thread-stays-where-it-was-pinned"),
    holds("scheduling::values-come-back", "run=test test=values-come-back-by-join"),
    // What is lent, and who waits for whom.
    holds(
        "lending::dropped-under-its-thread",
        "run=test test=a-stack-dropped-under-its-thread-is-freed-when-it-is-left perturb=1 oracle=on",
    ),
    holds("lending::to-one-at-a-time", "run=test test=what-is-lent-comes-back-at-once-and-to-one perturb=1 oracle=on"),
    holds("lending::a-contended-object", "run=test test=an-object-that-many-want-goes-to-one perturb=1"),
    holds(
        "lending::an-aborted-waiter-on-one-cpu",
        "run=test test=who-is-aborted-and-waits-on-lets-the-less-urgent-run",
    )
    .smp(1),
    holds("lending::a-turn-on-one-cpu", "run=test test=who-waits-for-a-turn-lets-the-less-urgent-who-has-it-run")
        .smp(1),
    holds("lending::detached-threads", "run=test test=a-detached-threads-handle-is-that-threads"),
    holds("lending::crossing-joins", "run=test test=joins-that-time-out-and-aborts-cross-each-other").limit_s(120),
    holds("lending::a-clean-cache", "run=test test=a-stack-from-the-cache-holds-zeros perturb=1"),
    // Mappings.
    holds("mappings::between-guards", "run=test test=a-mapping-lies-between-guards"),
    holds("mappings::wrong-arguments", "run=test test=wrong-arguments-are-errors-and-change-nothing"),
    holds("mappings::exhaustion", "run=test test=memory-that-runs-out-is-an-error"),
    // Mappings by address.
    holds("mappings::not-executed", "run=test test=mapped-memory-is-not-executed-unless-asked-for"),
    holds("mappings::source-stays-writable", "run=test test=a-source-stays-writable-when-it-is-mapped-read-only"),
    holds("mappings::unmapped-faults", "run=test test=what-is-unmapped-faults"),
    holds("mappings::unmapped-faults-on-1-cpu", "run=test test=what-is-unmapped-faults").smp(1),
    holds("mappings::unmapped-faults-quiescent", "run=test test=what-is-unmapped-faults protocol=quiescent"),
    sees(
        "mappings::what-is-unmapped-and-readable-is-seen",
        "run=test test=what-is-unmapped-faults bug=skip-shootdown",
        "what is unmapped faults",
    )
    .limit_s(20), // what comes after that is anybody's guess
    holds("mappings::both-guards", "run=test test=both-guards-of-a-mapping-fault"),
    holds("mappings::same-address", "run=test test=the-same-address-is-handed-out-again"),
    holds("mappings::cleared", "run=test test=fresh-memory-is-cleared"),
    holds("mappings::wrong-flags-and-ranges", "run=test test=wrong-flags-and-ranges-are-errors"),
    holds("mappings::addresses-of-others", "run=test test=addresses-of-others-are-not-unmapped"),
    holds("mappings::unmapped-at-once-on-1-cpu", "run=test test=of-those-who-unmap-at-once-one-succeeds").smp(1),
    holds("mappings::unmapped-at-once-on-2-cpus", "run=test test=of-those-who-unmap-at-once-one-succeeds").smp(2),
    holds("mappings::unmapped-at-once-on-4-cpus", "run=test test=of-those-who-unmap-at-once-one-succeeds"),
    holds("mappings::unmapped-at-once-on-8-cpus", "run=test test=of-those-who-unmap-at-once-one-succeeds").smp(8),
    holds("mappings::guards-take-no-frames", "run=test test=guards-take-no-frames"),
    holds("mappings::fresh-interrupts-nobody-on-2-cpus", "run=test test=what-is-fresh-interrupts-nobody").smp(2),
    holds("mappings::fresh-interrupts-nobody-on-4-cpus", "run=test test=what-is-fresh-interrupts-nobody"),
    holds("mappings::fresh-interrupts-nobody-on-8-cpus", "run=test test=what-is-fresh-interrupts-nobody").smp(8),
    holds("mappings::one-request-a-stack-on-1-cpu", "run=test test=a-dead-stack-costs-one-request-at-most").smp(1),
    holds("mappings::one-request-a-stack-on-4-cpus", "run=test test=a-dead-stack-costs-one-request-at-most"),
    holds("mappings::one-request-a-stack-on-8-cpus", "run=test test=a-dead-stack-costs-one-request-at-most").smp(8),
    holds("mappings::addresses-run-out", "run=test test=addresses-that-run-out-are-an-error"),
    holds("mappings::frames-run-out", "run=test test=frames-that-run-out-are-an-error"),
    holds("mappings::frames-run-out-in-64-mib", "run=test test=frames-that-run-out-are-an-error").mem(64),
    holds("mappings::heap-runs-out-in-64-mib", "run=test test=a-heap-that-runs-out-is-an-error").mem(64),
    // Every allocation fails in turn.
    holds_injected("in-turn::mappings", "run=test test=every-allocation-of-a-mapping-fails-in-turn"),
    holds_injected("in-turn::mappings-on-1-cpu", "run=test test=every-allocation-of-a-mapping-fails-in-turn").smp(1),
    holds_injected("in-turn::spawns", "run=test test=every-allocation-of-a-spawn-fails-in-turn"),
    holds_injected("in-turn::spawns-on-1-cpu", "run=test test=every-allocation-of-a-spawn-fails-in-turn").smp(1),
    holds_injected("in-turn::spawns-on-8-cpus", "run=test test=every-allocation-of-a-spawn-fails-in-turn").smp(8),
    holds_injected("in-turn::spaces", "run=test test=every-allocation-of-a-space-fails-in-turn"),
    holds_injected("in-turn::heap", "run=test test=every-allocation-of-a-growing-heap-fails-in-turn"),
    holds_injected("in-turn::the-askers-alone", "run=test test=failures-that-were-asked-for-are-the-askers-alone"),
    // Shootdown.
    holds("shootdown::nothing-stale", "run=test test=no-cpu-reads-what-was-unmapped"),
    holds("shootdown::nothing-stale-broadcast", "run=test test=no-cpu-reads-what-was-unmapped protocol=broadcast"),
    holds("shootdown::nothing-stale-counter", "run=test test=no-cpu-reads-what-was-unmapped protocol=counter"),
    holds("shootdown::all-to-all-counter", "run=test test=all-cpus-unmap-at-once protocol=counter"),
    sees(
        "shootdown::free-before-ack-is-seen-counter",
        "run=test test=an-unmap-waits-for-cpus-that-mask-interrupts protocol=counter bug=free-before-ack",
        "an unmap waits for every acknowledgement",
    ),
    holds("shootdown::nothing-stale-in-turn", "run=test test=no-cpu-reads-what-was-unmapped").accel(Accel::TcgSingle),
    sees(
        "shootdown::skip-shootdown-is-seen",
        "run=test test=no-cpu-reads-what-was-unmapped bug=skip-shootdown",
        "no stale translation after an unmap",
    )
    .limit_s(20), // what comes after that is anybody's guess; often it hangs
    holds("shootdown::waits-for-masked-cpus", "run=test test=an-unmap-waits-for-cpus-that-mask-interrupts"),
    sees(
        "shootdown::free-before-ack-is-seen",
        "run=test test=an-unmap-waits-for-cpus-that-mask-interrupts bug=free-before-ack",
        "an unmap waits for every acknowledgement",
    ),
    holds("shootdown::all-to-all", "run=test test=all-cpus-unmap-at-once"),
    holds("shootdown::all-to-all-on-8-cpus", "run=test test=all-cpus-unmap-at-once").smp(8),
    holds("shootdown::nothing-stale-batched", "run=test test=no-cpu-reads-what-was-unmapped protocol=batched"),
    holds("shootdown::nothing-stale-quiescent", "run=test test=no-cpu-reads-what-was-unmapped protocol=quiescent"),
    holds("shootdown::all-to-all-batched", "run=test test=all-cpus-unmap-at-once protocol=batched"),
    holds("shootdown::all-to-all-quiescent", "run=test test=all-cpus-unmap-at-once protocol=quiescent"),
    holds("shootdown::all-to-all-broadcast", "run=test test=all-cpus-unmap-at-once protocol=broadcast"),
    sees(
        "shootdown::drop-ipi-is-seen",
        "run=test test=all-cpus-unmap-at-once bug=drop-ipi patience=3",
        "a TLB shootdown is not answered by",
    ),
    holds("shootdown::strays", "run=test test=stray-interrupts-do-not-answer-for-others"),
    test(
        "shootdown::a-deaf-cpu-is-named",
        "run=test test=a-cpu-that-does-not-answer-is-named patience=2",
        Expect::Fail("a TLB shootdown is not answered by {3}"),
    ),
    test(
        "cmdline::pcids-that-are-not-there-are-refused",
        "run=test test=boot pcid=on",
        Expect::CannotRun("'pcid=on' needs a processor with PCIDs"),
    ),
    test(
        "cmdline::an-instruction-that-is-not-there-is-refused",
        "run=test test=boot protocol=invlpgb",
        Expect::CannotRun("'protocol=invlpgb' needs a processor with INVLPGB"),
    ),
    // Address spaces.
    holds("spaces::own-memory", "run=test test=each-space-has-its-own-memory"),
    holds("spaces::wrong-ranges", "run=test test=wrong-ranges-of-a-space-are-errors"),
    holds("spaces::end", "run=test test=a-space-ends-with-its-last-thread"),
    holds("spaces::end-lazy-idle", "run=test test=a-space-ends-with-its-last-thread lazy-idle=on oracle=on perturb=1"),
    holds("spaces::run-out", "run=test test=spaces-that-run-out-are-an-error"),
    sees(
        "spaces::lazy-no-flush-is-seen",
        "run=stress workload=space-storm seconds=20 seed=2 perturb=2 bug=lazy-no-flush",
        "no stale translation in an address space",
    ),
    sees(
        "spaces::va-reuse-early-is-seen",
        "run=stress workload=space-storm seconds=20 seed=2 perturb=2 oracle=on bug=va-reuse-early",
        "can read 0x",
    ),
    // The oracle.
    sees(
        "oracle::an-early-acknowledgement-is-seen",
        "run=stress workload=unmap-storm seconds=20 seed=2 oracle=on bug=ack-before-flush",
        "and acknowledges request",
    ),
    sees(
        "oracle::what-was-not-flushed-is-seen",
        "run=stress workload=abort-storm seconds=20 seed=2 oracle=on perturb=1 bug=skip-a-cpu",
        "can read",
    ),
    test(
        "oracle::a-write-after-all-have-flushed-is-seen",
        "run=test test=memory-that-is-free-is-left-alone oracle=on",
        Expect::Fail("was written to after request"),
    ),
    // User threads.
    test(
        "user::an-image-without-modules-is-told",
        "run=stress workload=user-storm rounds=1 seed=1",
        Expect::Fail("the image has no modules: no user programs came with the kernel"),
    )
    .without_modules(),
    holds("user::a-program-prints", "run=test test=a-program-prints-and-ends-with-its-code"),
    holds("user::a-program-prints-on-1-cpu", "run=test test=a-program-prints-and-ends-with-its-code").smp(1),
    holds("user::stacks", "run=test test=a-user-stack-is-told-from-a-privileged-one"),
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
    holds("user::the-kernels-memory", "run=test test=user-code-cannot-touch-the-kernel"),
    holds("user::others-memory", "run=test test=user-code-cannot-touch-what-is-anothers"),
    holds("user::access-rights", "run=test test=a-program-keeps-to-its-access-rights"),
    holds("user::privileged-instructions", "run=test test=privileged-instructions-end-the-thread-alone"),
    holds("user::software-interrupts", "run=test test=software-interrupts-are-refused"),
    holds("user::odd-registers", "run=test test=what-a-program-leaves-in-registers-does-no-harm"),
    holds("user::nothing-stale", "run=test test=no-cpu-reads-what-a-program-unmapped"),
    holds("user::nothing-stale-on-2-cpus", "run=test test=no-cpu-reads-what-a-program-unmapped").smp(2),
    holds("user::nothing-stale-with-oracle", "run=test test=no-cpu-reads-what-a-program-unmapped oracle=on"),
    sees(
        "user::skip-shootdown-is-seen",
        "run=test test=no-cpu-reads-what-a-program-unmapped bug=skip-shootdown",
        "no CPU reads what a program unmapped",
    )
    .limit_s(30),
    holds("user::an-unmap-asks-few", "run=test test=an-unmap-asks-only-the-cpus-of-its-process"),
    holds("user::fuzz", "run=test test=system-calls-with-any-arguments-are-answered"),
    holds("user::fuzz-on-1-cpu", "run=test test=system-calls-with-any-arguments-are-answered seed=2").smp(1),
    holds("user::fuzz-on-8-cpus", "run=test test=system-calls-with-any-arguments-are-answered seed=3").smp(8),
    holds("user::fuzz-with-oracle", "run=test test=system-calls-with-any-arguments-are-answered seed=4 oracle=on"),
    holds("user::abort-anywhere", "run=test test=a-user-thread-can-be-aborted-wherever-it-is"),
    holds("user::abort-anywhere-on-8-cpus", "run=test test=a-user-thread-can-be-aborted-wherever-it-is").smp(8),
    holds("user::nothing-is-left", "run=test test=processes-leave-nothing-behind"),
    holds("user::nothing-is-left-on-2-cpus", "run=test test=processes-leave-nothing-behind lazy-idle=on").smp(2),
    holds("user::limits", "run=test test=a-process-has-its-limits"),
    holds("user::registers", "run=test test=registers-are-kept-and-are-nobody-elses"),
    holds("user::registers-on-1-cpu", "run=test test=registers-are-kept-and-are-nobody-elses").smp(1),
    holds("user::nmis", "run=test test=nmis-hit-user-threads-anywhere"),
    // Stress, shortly.
    holds("stress::mixed", "run=stress rounds=10 seed=1"),
    holds("stress::mixed-broadcast", "run=stress rounds=10 seed=2 protocol=broadcast"),
    holds("stress::mixed-counter", "run=stress rounds=10 seed=2 protocol=counter"),
    holds("stress::mixed-perturbed", "run=stress rounds=10 seed=2 perturb=1"),
    holds("stress::mixed-with-oracle", "run=stress rounds=10 seed=2 perturb=2 oracle=on"),
    holds("stress::mixed-with-oracle-lazy", "run=stress rounds=10 seed=3 oracle=on lazy-idle=on reaping=per-cpu"),
    holds("stress::mixed-with-oracle-quiescent", "run=stress rounds=10 seed=4 perturb=3 oracle=on protocol=quiescent"),
    holds("stress::mixed-batched", "run=stress rounds=10 seed=2 protocol=batched"),
    holds("stress::mixed-quiescent", "run=stress rounds=10 seed=2 protocol=quiescent"),
    holds(
        "stress::mixed-quiescent-with-room-for-little",
        "run=stress rounds=10 seed=2 protocol=quiescent deferred-pages=16",
    ),
    holds("stress::mixed-lazy-idle", "run=stress rounds=10 seed=2 lazy-idle=on"),
    holds("stress::mixed-batched-lazy-idle", "run=stress rounds=10 seed=2 protocol=batched lazy-idle=on"),
    holds("stress::mixed-quiescent-lazy-idle", "run=stress rounds=10 seed=2 protocol=quiescent lazy-idle=on"),
    holds("stress::mixed-reaping-per-cpu", "run=stress rounds=10 seed=2 reaping=per-cpu"),
    holds("stress::mixed-reaping-per-cpu-quiescent", "run=stress rounds=10 seed=2 reaping=per-cpu protocol=quiescent"),
    sees(
        "stress::a-sleeper-that-does-not-flush-is-seen",
        "run=stress workload=unmap-storm seconds=20 seed=2 lazy-idle=on bug=idle-no-flush",
        "no stale translation after an unmap",
    ),
    holds("stress::mixed-in-turn", "run=stress rounds=10 seed=3").accel(Accel::TcgSingle),
    holds("stress::mixed-on-1-cpu", "run=stress rounds=10 seed=4").smp(1),
    holds("stress::mixed-on-8-cpus", "run=stress rounds=5 seed=5").smp(8).limit_s(120),
    holds("stress::mixed-without-modules", "run=stress rounds=10 seed=1").without_modules(),
    holds("stress::user-storm", "run=stress workload=user-storm rounds=20 seed=1"),
    holds("stress::user-storm-with-oracle", "run=stress workload=user-storm rounds=10 seed=2 oracle=on perturb=1"),
    holds("stress::user-storm-on-8-cpus", "run=stress workload=user-storm rounds=10 seed=3").smp(8).limit_s(120),
    holds("stress::tiny-stacks", "run=stress rounds=7 seed=6 stack-pages=1"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<_> = ALL.iter().map(|test| test.name).collect();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn only_those_that_expect_it_have_words_that_the_kernel_refuses() {
        for test in ALL {
            let refused = wire::Options::parse(test.words).is_err();
            assert!(!refused || matches!(test.expect, Expect::CannotRun(_)), "{}", test.name);
        }
    }
}
