//! Stress, shortly.

use super::{GuestTest, holds, sees};
use crate::options::Accel;

pub(super) const ROWS: &[GuestTest] = &[
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
