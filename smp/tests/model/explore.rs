//! Running a scenario under a checker, and saying what that came to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Branches in one execution after which it is taken to go round in circles: a deadlock of CPUs that look without end.
#[cfg(feature = "loom")]
const BRANCHES: usize = 20_000;
/// The same for shuttle, where CPUs are many.
#[cfg(feature = "shuttle")]
const STEPS: usize = 100_000_000;

/// Explores the scenario with every protocol; `bound` is as in [`explore`]. What hardware does by itself for `invlpgb` makes
/// every step of a CPU a place to be preempted at, so under loom two preemptions fewer are what can be afforded.
pub fn each(scenario: &str, bound: usize, model: impl Fn(&str) + Copy + Sync + Send + 'static) {
    for name in smp::shootdown::NAMES {
        let fewer = if cfg!(feature = "loom") && *name == "invlpgb" { 2 } else { 0 };
        let bound = (bound - fewer.min(bound)).max(1);
        explore(&format!("{name}, {scenario}"), bound, move || model(name));
    }
}

/// Explores every interleaving in which a CPU is preempted at most `preemptions` times, and prints how many executions
/// that were. `PALISADE_PREEMPTIONS` adds to the bound.
///
/// # Panics
/// If one of them breaks an invariant.
#[cfg(feature = "loom")]
pub fn explore(name: &str, preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let bound = preemptions + number("PALISADE_PREEMPTIONS", 0) as usize;
    let (executions, begun) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    check(bound, &executions, model);
    let executions = executions.load(Ordering::Relaxed);
    println!("model | {name} | loom | {bound} preemptions | {executions} | {:.1} s", begun.elapsed().as_secs_f64());
}

/// The same, which counts executions and prints nothing.
#[cfg(feature = "loom")]
pub fn check(bound: usize, executions: &Arc<AtomicUsize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(bound);
    builder.max_branches = BRANCHES;
    let counted = executions.clone();
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
}

/// Runs `schedules` schedules drawn from the seed `PALISADE_SEED` (1 if there is none), one half at random, one half by PCT
/// with three changes of priority, and prints how many. `PALISADE_TIMES` multiplies them. A failure prints the schedule, which
/// shuttle's `replay` takes.
///
/// # Panics
/// If one of them breaks an invariant.
#[cfg(feature = "shuttle")]
pub fn explore(name: &str, schedules: usize, model: impl Fn() + Sync + Send + Copy + 'static) {
    let (executions, begun) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let seed = number("PALISADE_SEED", 1);
    check(schedules * number("PALISADE_TIMES", 1) as usize, &executions, model);
    let executions = executions.load(Ordering::Relaxed);
    println!("model | {name} | shuttle | seed {seed} | {executions} | {:.1} s", begun.elapsed().as_secs_f64());
}

#[cfg(feature = "shuttle")]
fn check(schedules: usize, executions: &Arc<AtomicUsize>, model: impl Fn() + Sync + Send + Copy + 'static) {
    use shuttle::scheduler::{PctScheduler, RandomScheduler};
    let seed = number("PALISADE_SEED", 1);
    let mut config = shuttle::Config::new();
    config.max_steps = shuttle::MaxSteps::FailAfter(STEPS);
    let counted = executions.clone();
    let count = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    };
    let random = RandomScheduler::new_from_seed(seed, schedules.div_ceil(2));
    shuttle::Runner::new(random, config.clone()).run(count.clone());
    let by_priority = PctScheduler::new_from_seed(seed, 3, schedules.div_ceil(2));
    shuttle::Runner::new(by_priority, config).run(count);
}

fn number(key: &str, default: u64) -> u64 {
    std::env::var(key).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}
