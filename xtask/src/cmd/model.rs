//! `cargo xtask model`: the shipped protocols under the model checkers, for as long as asked.

use crate::artifacts;
use crate::error::{Context, Error, Result};
use crate::json_file::JsonFile;
use crate::models::{LOOM, SHUTTLE};
use crate::watch::{LOOK, interrupt_flag};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Options of `model`.
///
/// First every model under loom, exhaustive within its bounds, and every seeded bug; then, as long as the budget lasts, shuttle
/// with one seed after the other, and loom with one more preemption than before. What the budget cuts off is said.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// How long, as `90s`, `10m` or `2h`. The first exploration is always brought to its end.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = duration)]
    budget: Duration,
    /// Only tests whose names contain this.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// The first seed of shuttle's schedules.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write all results to this file as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn duration(text: &str) -> std::result::Result<Duration, String> {
    let expected = || "expected a number and s, m or h, as in 10m".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(expected)?;
    let number: u64 = number.parse().map_err(|_| expected())?;
    let seconds = match unit {
        "s" => number.checked_mul(1),
        "m" => number.checked_mul(60),
        "h" => number.checked_mul(3600),
        _ => None,
    };
    seconds.filter(|s| *s > 0).map(Duration::from_secs).ok_or_else(expected)
}

/// What came of running one checker once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Passed,
    Failed,
    /// The budget ended it.
    Cut,
}

/// Schedules are multiplied by this in the campaign.
const TIMES: u64 = 10;

/// Does it.
///
/// # Errors
/// If a model fails, or cannot be run.
pub fn run(args: Args) -> Result<()> {
    let json = args.json.as_deref().map(JsonFile::open).transpose()?;
    let begun = Instant::now();
    let mut table = Vec::new();
    println!("{:<58} {:<8} {:<14} {:>12} {:>9}", "model", "checker", "bounds", "executions", "time");
    let end = args.campaign(begun + args.budget, &mut table);
    if let Some(file) = json {
        file.write(&json!({ "seconds": begun.elapsed().as_secs_f64(), "results": table }))?;
    }
    if table.is_empty() {
        return Err(Error::CannotRun("no model has such a name".into()));
    }
    end
}

impl Args {
    fn campaign(&self, until: Instant, table: &mut Vec<Value>) -> Result<()> {
        must_pass(self.check(LOOM, &[], None, table)?)?;
        let loom_had_none = table.is_empty();
        let (mut seed, mut preemptions) = (self.seed, 0);
        while Instant::now() < until {
            let words = [("PALISADE_SEED", seed), ("PALISADE_TIMES", TIMES)];
            must_pass(self.check(SHUTTLE, &words, Some(until), table)?)?;
            if loom_had_none && table.is_empty() {
                return Ok(()); // none has such a name
            }
            seed += 1;
            // As much time for loom as for shuttle.
            preemptions += 1;
            if Instant::now() < until {
                let words = [("PALISADE_PREEMPTIONS", preemptions)];
                must_pass(self.check(LOOM, &words, Some(until), table)?)?;
            }
        }
        Ok(())
    }

    /// Runs a checker; prints each result as it comes.
    fn check(
        &self,
        what: &[&str],
        words: &[(&str, u64)],
        until: Option<Instant>,
        table: &mut Vec<Value>,
    ) -> Result<End> {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(artifacts::root()).arg("test").args(what).arg("--no-fail-fast").arg("--");
        cargo.args(["--nocapture", "--test-threads=1"]).args(&self.only);
        cargo.envs(words.iter().map(|(key, value)| (key, value.to_string())));
        let (reader, into) = std::io::pipe().context("cannot make a pipe")?;
        cargo.stdin(Stdio::null()).stdout(into.try_clone().context("cannot make a pipe")?).stderr(into);
        own_group(&mut cargo);
        let mut child = cargo.spawn().context("cannot run cargo")?;
        drop(cargo); // with our ends of the pipe
        let interrupted = interrupt_flag()?;
        let (send, lines) = channel();
        thread::spawn(move || {
            BufReader::new(reader).lines().map_while(std::io::Result::ok).try_for_each(|line| send.send(line))
        });
        let mut said = Vec::new();
        loop {
            match lines.recv_timeout(LOOK) {
                Ok(line) => {
                    match result(&line) {
                        Some(value) => table.push(value),
                        None => said.push(line),
                    };
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if until.is_some_and(|until| Instant::now() >= until) => {
                    end_group(&mut child);
                    println!("the budget is spent; what ran was not brought to its end");
                    return Ok(End::Cut);
                }
                // Its group is not the terminal's, so it does not see Ctrl-C itself.
                Err(RecvTimeoutError::Timeout) if interrupted.load(Ordering::Relaxed) => {
                    end_group(&mut child);
                    return Err(Error::Interrupted);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        if child.wait().context("cannot wait for cargo")?.success() {
            return Ok(End::Passed);
        }
        said.iter().for_each(|line| println!("{line}"));
        let again: String = words.iter().map(|(key, value)| format!("{key}={value} ")).collect();
        println!("again: {again}cargo test {} -- --nocapture", what.join(" "));
        Ok(End::Failed)
    }
}

fn must_pass(end: End) -> Result<()> {
    if end == End::Failed { Err(Error::Broken) } else { Ok(()) }
}

/// A line that a model printed, shown as a row of the table.
fn result(line: &str) -> Option<Value> {
    // The test harness may have begun the line.
    let line = &line[line.find("model | ").or_else(|| line.find("bug | "))?..];
    let fields: Vec<&str> = line.split(" | ").collect();
    match fields[..] {
        ["model", name, checker, bounds, executions, time] => {
            println!("{name:<58} {checker:<8} {bounds:<14} {executions:>12} {time:>9}");
            let executions = executions.parse::<u64>().ok();
            Some(json!({ "model": name, "checker": checker, "bounds": bounds, "executions": executions, "time": time }))
        }
        ["bug", name, checker, executions, by] => {
            println!("{:<58} {checker:<8} {executions}: {by}", format!("seeded bug {name}: found"));
            Some(json!({ "bug": name, "checker": checker, "found": executions, "by": by }))
        }
        _ => None,
    }
}

/// A process group of its own, so that the test programs end with cargo.
fn own_group(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

fn end_group(child: &mut Child) {
    let group = nix::unistd::Pid::from_raw(child.id().cast_signed());
    let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_a_number_and_a_unit() {
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        for bad in ["", "m", "10", "0s", "1d", "-1s", "9999999999999999999h", "10ü"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_model_prints_is_a_row() {
        let row = result("test x ... model | counter, a | loom | 2 preemptions | 51 | 0.0 s").expect("a row");
        assert_eq!((row["model"].as_str(), row["executions"].as_u64()), (Some("counter, a"), Some(51)));
        assert!(result("bug | late-cpu | loom | execution 1 | a race").is_some());
        assert!(result("running 5 tests").is_none() && result("a model is told").is_none());
    }
}
