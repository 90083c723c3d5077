//! Boot, the command line, and the ways in which a run ends: by a verdict, a hang, or a crash.

use super::{Expect, GuestTest, holds, refuses, test};

pub(super) const ROWS: &[GuestTest] = &[
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
        Expect::Fail("holds 'misdeed' (taken at kernel/src/misdeed/mod.rs:"),
    ),
    test(
        "hangs::all-cpus-with-a-lock-held",
        "run=test test=all-cpus-hang-one-with-a-lock",
        Expect::Fail("holds 'misdeed' (taken at kernel/src/misdeed/mod.rs:"),
    )
    .silence_s(4),
    test("hangs::a-triple-fault", "run=test test=a-triple-fault", Expect::Fail("CPU 0: running, thread 'main'")),
];
