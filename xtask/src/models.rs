//! The models of `smp`: how cargo is told to run them. One checker at a time, each with a build of its own, since the checker's
//! atomics take the place of the hardware's.

/// Exhaustive, within bounds; and the seeded bugs, each found.
pub const LOOM: &[&str] = &[
    "-p",
    "smp",
    "--release",
    "--features",
    "loom,seeded-bugs",
    "--test",
    "loom",
    "--test",
    "loom_bugs",
    "--target-dir",
    "target/models",
];

/// Many CPUs, in schedules drawn from a seed.
pub const SHUTTLE: &[&str] = &[
    "-p",
    "smp",
    "--release",
    "--features",
    "shuttle,seeded-bugs",
    "--test",
    "shuttle",
    "--target-dir",
    "target/models",
];
