//! Mappings: owned, by address, and with every allocation failing in turn.

use super::{GuestTest, holds, holds_injected, sees};

pub(super) const ROWS: &[GuestTest] = &[
    holds("mappings::between-guards", "run=test test=a-mapping-lies-between-guards"),
    holds("mappings::wrong-arguments", "run=test test=wrong-arguments-are-errors-and-change-nothing"),
    holds("mappings::exhaustion", "run=test test=memory-that-runs-out-is-an-error"),
    // By address.
    holds("mappings::not-executed", "run=test test=mapped-memory-is-not-executed-unless-asked-for").on_each(),
    holds("mappings::source-stays-writable", "run=test test=a-source-stays-writable-when-it-is-mapped-read-only")
        .on_each(),
    holds("mappings::unmapped-faults", "run=test test=what-is-unmapped-faults").on_each(),
    holds("mappings::unmapped-faults-quiescent", "run=test test=what-is-unmapped-faults protocol=quiescent"),
    // The cache: see `shootdown::skip-shootdown-is-seen`.
    sees(
        "mappings::what-is-unmapped-and-readable-is-seen",
        "run=test test=what-is-unmapped-faults bug=skip-shootdown cache=16",
        "what is unmapped faults",
    ),
    holds("mappings::both-guards", "run=test test=both-guards-of-a-mapping-fault").on_each(),
    holds("mappings::same-address", "run=test test=the-same-address-is-handed-out-again").on_each(),
    holds("mappings::cleared", "run=test test=fresh-memory-is-cleared").on_each(),
    holds("mappings::wrong-flags-and-ranges", "run=test test=wrong-flags-and-ranges-are-errors"),
    holds("mappings::addresses-of-others", "run=test test=addresses-of-others-are-not-unmapped"),
    holds("mappings::unmapped-at-once", "run=test test=of-those-who-unmap-at-once-one-succeeds").on_each(),
    holds("mappings::guards-take-no-frames", "run=test test=guards-take-no-frames"),
    holds("mappings::fresh-interrupts-nobody", "run=test test=what-is-fresh-interrupts-nobody").on_several(),
    holds("mappings::one-request-a-stack", "run=test test=a-dead-stack-costs-one-request-at-most").on_each(),
    holds("mappings::addresses-run-out", "run=test test=addresses-that-run-out-are-an-error").on_each(),
    holds("mappings::frames-run-out", "run=test test=frames-that-run-out-are-an-error").on_each(),
    holds("mappings::frames-run-out-in-64-mib", "run=test test=frames-that-run-out-are-an-error").mem(64),
    holds("mappings::heap-runs-out-in-64-mib", "run=test test=a-heap-that-runs-out-is-an-error").mem(64),
    // Every allocation fails in turn.
    holds_injected("in-turn::mappings", "run=test test=every-allocation-of-a-mapping-fails-in-turn").on_each(),
    holds_injected("in-turn::spawns", "run=test test=every-allocation-of-a-spawn-fails-in-turn").on_each(),
    holds_injected("in-turn::processes", "run=test test=every-allocation-of-a-process-fails-in-turn").on_each(),
    holds_injected("in-turn::thread-objects", "run=test test=a-thread-object-that-is-missing-is-an-error").on_each(),
    holds_injected("in-turn::spaces", "run=test test=every-allocation-of-a-space-fails-in-turn"),
    holds_injected("in-turn::heap", "run=test test=every-allocation-of-a-growing-heap-fails-in-turn"),
    holds_injected("in-turn::the-askers-alone", "run=test test=failures-that-were-asked-for-are-the-askers-alone"),
];
