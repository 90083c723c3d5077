//! Shootdowns, address spaces, and the oracle that watches both.

use super::{Expect, GuestTest, holds, sees, test};
use crate::options::Accel;

pub(super) const ROWS: &[GuestTest] = &[
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
    // With this bug stacks are kept mapped, in the cache: otherwise threads would run on stale stacks, and anything could come of it.
    sees(
        "shootdown::skip-shootdown-is-seen",
        "run=test test=no-cpu-reads-what-was-unmapped bug=skip-shootdown cache=16",
        "no stale translation after an unmap",
    ),
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
        // One CPU asks: where several do, one that waits for its own answers gives those that are owed without an interrupt.
        "run=test test=no-cpu-reads-what-was-unmapped bug=drop-ipi patience=3",
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
    holds("spaces::used-again", "run=test test=an-address-is-used-again-when-all-have-answered"),
    holds(
        "spaces::used-again-batched",
        "run=test test=an-address-is-used-again-when-all-have-answered protocol=batched",
    ),
    sees(
        "spaces::lazy-no-flush-is-seen",
        "run=stress workload=space-storm seconds=20 seed=2 perturb=2 bug=lazy-no-flush",
        "no stale translation in an address space",
    ),
    sees(
        "spaces::va-reuse-early-is-seen",
        "run=test test=an-address-is-used-again-when-all-have-answered bug=va-reuse-early",
        "an address is used again when all have answered",
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
];
