//! `cargo xtask stress`.

mod args;
mod show;

pub use args::Args;

use crate::artifacts;
use crate::error::{Error, Result};
use crate::json_file::JsonFile;
use crate::launch::Launch;
use crate::outcome::{Outcome, Verdict};
use crate::report::Report;
use crate::trace::file::TraceFile;
use crate::trace::{self, read};
use crate::watch::{Limits, watch};
use show::Show;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Seconds that a guest may be silent: it tells of its progress twice a second, but on a busy host CPUs stand still.
const SILENCE: Duration = Duration::from_secs(60);

/// Does it.
///
/// # Errors
/// If it cannot run, or a promise broke.
pub fn run(mut args: Args) -> Result<()> {
    let first = args.seed.unwrap_or_else(draw_seed);
    let json = args.json.as_deref().map(JsonFile::open).transpose()?;
    args.seed = Some(first);
    let mut launch = args.launch()?;
    match args.explore {
        None => one(&args, &launch, first, json),
        Some(seeds) => explore(&args, &mut launch, first, seeds),
    }
}

/// One run, with all that is to be said of it.
fn one(args: &Args, launch: &Launch, seed: u64, json: Option<JsonFile>) -> Result<()> {
    println!("{}, {} CPUs, {} MiB: {}", launch.boot, args.machine.smp, args.machine.mem, args.kernel_options(seed));
    let Run { outcome, verdict, trace } = once(args, launch, false)?;
    let again = args.again(seed);
    let report = Report { launch, outcome: &outcome, verdict: &verdict, again: &again, seed };
    print!("{}", report.text());
    if let Some(path) = &trace {
        let read = read::file(path)?;
        if matches!(verdict, Verdict::Broken(_)) {
            crate::inspect::last_events(&read).iter().for_each(|line| println!("{line}"));
        }
        println!("{}", told_of_trace(path, &read, &outcome));
        if args.deterministic {
            println!("trace hash {:016x}: the same in every run of this line", read.hash());
        }
    }
    if let Some(file) = json {
        file.write(&report.json())?;
    }
    if args.check && matches!(verdict, Verdict::Passed | Verdict::Broken(_)) {
        check(trace.as_deref())?;
    }
    match verdict {
        Verdict::Passed => Ok(()),
        Verdict::Broken(_) => Err(Error::Broken),
        Verdict::CannotRun(why) => Err(Error::CannotRun(why)),
        Verdict::Interrupted => Err(Error::Interrupted),
    }
}

/// One run after the other, each with the next seed, until one breaks a promise.
fn explore(args: &Args, launch: &mut Launch, first: u64, seeds: u64) -> Result<()> {
    for seed in first..first.saturating_add(seeds) {
        launch.set_command_line(&args.kernel_options(seed).to_string())?;
        let begun = Instant::now();
        let Run { verdict, trace, .. } = once(args, launch, true)?;
        let took = begun.elapsed().as_secs_f64();
        let hash = match &trace {
            Some(path) if args.deterministic => format!(", trace hash {:016x}", read::file(path)?.hash()),
            _ => String::new(),
        };
        match verdict {
            Verdict::Passed => println!("seed {seed}: passed ({took:.1} s{hash})"),
            Verdict::CannotRun(why) => return Err(Error::CannotRun(why)),
            Verdict::Interrupted => return Err(Error::Interrupted),
            Verdict::Broken(why) => {
                println!("seed {seed}: FAILED ({took:.1} s{hash}): {why}");
                println!("again: {}", args.again(seed));
                if let Some(path) = trace {
                    println!("trace: cargo xtask trace {}", path.display());
                }
                return Err(Error::Broken);
            }
        }
        if args.check
            && let Err(error) = check(trace.as_deref())
        {
            println!("again: {}", args.again(seed));
            return Err(error);
        }
    }
    println!("{seeds} seeds from {first} on: all passed");
    Ok(())
}

/// What a run came to.
struct Run {
    outcome: Outcome,
    verdict: Verdict,
    trace: Option<PathBuf>,
}

fn once(args: &Args, launch: &Launch, quiet: bool) -> Result<Run> {
    let limits = Limits { total: None, silence: SILENCE };
    let trace_file = args.trace_out.clone().unwrap_or_else(|| artifacts::folder().join("last.trace"));
    let mut show = Show::new(TraceFile::new(trace_file), quiet);
    let (outcome, end) = watch(&launch.guest, &launch.symbols, limits, &mut show)?;
    show.end_line();
    let verdict = outcome.judge(&end);
    Ok(Run { outcome, verdict, trace: show.trace.finish()? })
}

/// A seed that a person can copy: 32 bits of what the standard library's hasher is seeded with.
fn draw_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish() >> 32
}

/// What the trace file holds, and how to look at it.
fn told_of_trace(path: &Path, trace: &trace::Trace, outcome: &Outcome) -> String {
    let mut told = format!("trace      {} events, {} lost", trace.len(), trace.lost());
    if outcome.damaged > 0 {
        told += &format!(", {} bytes damaged", outcome.damaged);
    }
    told += &format!(": cargo xtask trace {}", path.display());
    told
}

/// Checks the trace, and says what came of it.
fn check(path: Option<&Path>) -> Result<()> {
    let path = path.ok_or_else(|| Error::CannotRun("the run left no trace to check".into()))?;
    let trace = read::file(path)?;
    let findings = trace::check::check(&trace);
    print!("{}", super::trace::told(&trace, &findings));
    if findings.violations.is_empty() { Ok(()) } else { Err(Error::Broken) }
}
