//! Running a scenario under a checker, and saying what that came to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Branches in one execution after which it is taken to go round in circles: a deadlock of CPUs that look without end.
#[cfg(feature = "loom")]
const BRANCHES: usize = 20_000;

/// Explores every interleaving in which a CPU is preempted at most `preemptions` times. Prints, and gives, the number of
/// executions.
///
/// # Panics
/// If one of them breaks an invariant.
#[cfg(feature = "loom")]
pub fn explore(name: &str, preemptions: usize, model: impl Fn() + Sync + Send + 'static) -> usize {
    let more = std::env::var("PALISADE_PREEMPTIONS").ok().and_then(|n| n.parse::<usize>().ok()).unwrap_or(0);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions + more);
    builder.max_branches = BRANCHES;
    let (executions, begun) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let counted = executions.clone();
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let executions = executions.load(Ordering::Relaxed);
    let bound = preemptions + more;
    println!("model | {name} | loom | {bound} preemptions | {executions} | {:.1} s", begun.elapsed().as_secs_f64());
    executions
}

/// Runs `schedules` schedules drawn from the seed `PALISADE_SEED` (1 if there is none), one half at random, one half by PCT
/// with three changes of priority. A failure prints the schedule, which shuttle's `replay` takes.
///
/// # Panics
/// If one of them breaks an invariant.
#[cfg(feature = "shuttle")]
pub fn explore(name: &str, schedules: usize, model: impl Fn() + Sync + Send + Copy + 'static) -> usize {
    use shuttle::scheduler::{PctScheduler, RandomScheduler};
    let number = |key: &str, default| std::env::var(key).ok().and_then(|n| n.parse::<u64>().ok()).unwrap_or(default);
    let seed = number("PALISADE_SEED", 1);
    let schedules = schedules * number("PALISADE_TIMES", 1) as usize;
    let mut config = shuttle::Config::new();
    config.max_steps = shuttle::MaxSteps::FailAfter(2_000_000);
    let (executions, begun) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let random = RandomScheduler::new_from_seed(seed, schedules / 2);
    let by_priority = PctScheduler::new_from_seed(seed, 3, schedules - schedules / 2);
    let counted = executions.clone();
    let count = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    };
    shuttle::Runner::new(random, config.clone()).run(count.clone());
    shuttle::Runner::new(by_priority, config).run(count);
    let executions = executions.load(Ordering::Relaxed);
    println!("model | {name} | shuttle | seed {seed} | {executions} | {:.1} s", begun.elapsed().as_secs_f64());
    executions
}
