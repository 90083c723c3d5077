//! `cargo xtask bugs`: puts each seeded bug back and lets the stress run find it, over several seeds, beside a control
//! without the bug that must stay clean.

use crate::artifacts::Kind;
use crate::error::{Error, Result};
use crate::hunts::{self, Hunt};
use crate::json_file::JsonFile;
use crate::launch::Launch;
use crate::options::Machine;
use crate::outcome::{Outcome, Verdict};
use crate::trace::file::TraceFile;
use crate::trace::{self, read};
use crate::watch::{Limits, Viewer, watch};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use wire::cmdline::{Bug, Options, Trace};

/// Options of `bugs`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    machine: Machine,
    /// How many seeds for each bug.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// The first of them.
    #[arg(long, value_name = "N", default_value_t = 100)]
    seed: u64,
    /// Seconds within which a bug has to be found.
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    seconds: u32,
    /// Only bugs whose name contains this; several, with commas between them.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// No runs without a bug.
    #[arg(long)]
    no_control: bool,
    /// Write all results to this file as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Seconds for which a CPU may be deaf: a lost interrupt is to be noticed well within a hunt.
const PATIENCE: u32 = 5;
/// How long a guest may be silent: a hang is to be noticed well within a hunt, too.
const SILENCE: Duration = Duration::from_secs(20);
/// Seconds that it may take to tell, after the end, what it found.
const GRACE: u32 = 10;

/// One run.
struct Hunted {
    seed: u64,
    /// By which check, if it was found.
    found: Option<String>,
    seconds: f64,
    rounds: u64,
}

/// Does it.
///
/// # Errors
/// If it cannot run, a bug was not found, or a control was not clean.
pub fn run(args: Args) -> Result<()> {
    let wanted =
        |hunt: &&Hunt| args.only.is_empty() || args.only.iter().any(|part| hunt.bug.name().contains(part.as_str()));
    let hunts: Vec<&Hunt> = hunts::ALL.iter().filter(wanted).collect();
    if hunts.is_empty() {
        return Err(Error::CannotRun(format!("no bug's name contains '{}'", args.only.join(","))));
    }
    let json = args.json.as_deref().map(JsonFile::open).transpose()?;
    println!(
        "{} CPUs, seeds {} to {}, {} s each",
        args.machine.smp,
        args.seed,
        args.seed + args.seeds - 1,
        args.seconds
    );
    println!("{:<24} {:>7} {:>9} {:>8}  by", "bug", "found", "median s", "rounds");
    let (mut results, mut as_promised) = (Vec::new(), true);
    for hunt in &hunts {
        if let Some(why) = hunt.not_here {
            println!("{:<24} {:>7} {:>9} {:>8}  {why}", hunt.bug.name(), "-", "-", "-");
            results.push(json!({ "bug": hunt.bug.name(), "not_here": why }));
            continue;
        }
        let runs = args.hunt(Some(hunt.bug), hunt)?;
        as_promised &= runs.iter().all(|run| run.found.is_some());
        println!("{}", line(hunt, &runs));
        results.push(told(hunt.bug.name(), hunt, &runs));
    }
    if !args.no_control {
        let here = hunts.iter().filter(|hunt| hunt.not_here.is_none());
        let grounds: BTreeSet<(&str, bool)> = here.map(|hunt| (hunt.words, hunt.by_rules)).collect();
        for (words, by_rules) in grounds {
            let control = Hunt { bug: hunts[0].bug, words, by_rules, by_account: false, not_here: None };
            let runs = args.hunt(None, &control)?;
            let clean = runs.iter().filter(|run| run.found.is_none()).count();
            as_promised &= clean == runs.len();
            let name = format!("none, {}", if words.is_empty() { "as by default" } else { words });
            println!("{name:<50}  clean {clean} of {}", runs.len());
            for run in runs.iter().filter(|run| run.found.is_some()) {
                println!("    seed {}: {}", run.seed, run.found.as_deref().unwrap_or_default());
            }
            results.push(told("none", &control, &runs));
        }
    }
    if let Some(file) = json {
        file.write(&json!({ "seconds": args.seconds, "cpus": args.machine.smp, "hunts": results }))?;
    }
    if as_promised { Ok(()) } else { Err(Error::Broken) }
}

impl Args {
    fn hunt(&self, bug: Option<Bug>, hunt: &Hunt) -> Result<Vec<Hunted>> {
        (self.seed..self.seed + self.seeds).map(|seed| self.one(bug, hunt, seed)).collect()
    }

    fn one(&self, bug: Option<Bug>, hunt: &Hunt, seed: u64) -> Result<Hunted> {
        let words = Options::parse(hunt.words).map_err(|error| Error::CannotRun(error.to_string()))?;
        let trace = if hunt.by_rules { Trace::Ram } else { words.trace };
        let run_for = if hunt.by_account { self.seconds.div_ceil(6) } else { self.seconds };
        let options =
            Options { seed, perturb: seed, oracle: true, seconds: run_for, patience: PATIENCE, bug, trace, ..words };
        let mut launch = Launch::prepare(&self.machine, Kind::SeededBugs, &options.to_string())?;
        if hunt.by_rules {
            launch.memory_in_file()?;
        }
        let folder = tempfile::tempdir().map_err(|error| Error::CannotRun(format!("no temporary folder: {error}")))?;
        let mut clock = Clock { begun: None, trace: TraceFile::new(folder.path().join("hunt.trace")) };
        let limits = Limits { total: None, silence: SILENCE };
        let (outcome, end) = watch(&launch.guest, &launch.symbols, limits, &mut clock)?;
        let seconds = clock.begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64());
        let rounds = outcome.progress.map_or(0, |progress| progress.rounds);
        let trace = clock.trace.finish()?;
        let found = match outcome.judge(&end) {
            Verdict::Broken(why) => Some(reason(&outcome, &why)),
            Verdict::Passed => match trace.filter(|_| hunt.by_rules) {
                Some(path) => {
                    trace::check::check(&read::file(&path)?).violations.first().map(|v| format!("rule: {}", v.rule))
                }
                None => None,
            },
            Verdict::CannotRun(why) => return Err(Error::CannotRun(why)),
            Verdict::Interrupted => return Err(Error::Interrupted),
        };
        let in_time = seconds <= f64::from(self.seconds + GRACE);
        Ok(Hunted { seed, found: found.filter(|_| in_time || bug.is_none()), seconds, rounds })
    }
}

/// The clock starts with the kernel's hello, just before the workload.
struct Clock {
    begun: Option<Instant>,
    trace: TraceFile,
}

impl Viewer for Clock {
    fn line(&mut self, _: &str, _: &[String]) {}

    fn records(&mut self, outcome: &Outcome) {
        if outcome.hello.is_some() {
            self.begun.get_or_insert_with(Instant::now);
        }
    }

    fn trace(&mut self, bytes: &[u8]) {
        self.trace.take(bytes);
    }
}

/// What found it, in the guest's words: the first thing that it said.
fn reason(outcome: &Outcome, verdict: &str) -> String {
    // A panic's first line says where in the code, the next one what.
    let panic =
        outcome.panics.first().map(|(_, message)| message.split_once('\n').map_or(message.as_str(), |(_, what)| what));
    let failure = outcome.failures.first().map(|(promise, _)| promise.as_str());
    panic.or(failure).unwrap_or(verdict).to_owned()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn line(hunt: &Hunt, runs: &[Hunted]) -> String {
    let found: Vec<&Hunted> = runs.iter().filter(|run| run.found.is_some()).collect();
    let seconds = median(found.iter().map(|run| run.seconds).collect());
    let rounds = median(found.iter().map(|run| run.rounds as f64).collect());
    let by = found.first().and_then(|run| run.found.as_deref()).unwrap_or("-");
    let by: String = by.chars().take(90).collect();
    format!("{:<24} {:>3} / {:<1} {seconds:>9.1} {rounds:>8}  {by}", hunt.bug.name(), found.len(), runs.len())
}

fn told(name: &str, hunt: &Hunt, runs: &[Hunted]) -> Value {
    let runs: Vec<Value> = runs
        .iter()
        .map(|run| json!({ "seed": run.seed, "found": run.found, "seconds": run.seconds, "rounds": run.rounds }))
        .collect();
    json!({ "bug": name, "words": hunt.words, "runs": runs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hunting_ground_is_a_command_line() {
        for hunt in hunts::ALL {
            assert!(Options::parse(hunt.words).is_ok(), "{}", hunt.words);
        }
    }

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(vec![9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(Vec::new()), 0.0);
    }
}
