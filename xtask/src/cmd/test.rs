//! `cargo xtask test`.

use crate::artifacts::{self, Kind};
use crate::error::{Context, Error, Result};
use crate::guest_tests;
use crate::models::{LOOM, SHUTTLE};
use crate::setup;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::{iter, thread};

/// Run all tests: on the host, and in QEMU.
///
/// The last line is 'N passed, N failed'. Exit code 0: all passed. 1: one failed. 2: they could not run.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Only tests whose names contain one of these.
    filters: Vec<String>,
    /// List the tests and do not run them.
    #[arg(long)]
    list: bool,
    /// The QEMU to use [default: $PALISADE_QEMU, then qemu-system-x86_64 in PATH].
    #[arg(long, value_name = "PATH")]
    qemu: Option<PathBuf>,
}

/// Does it.
///
/// # Errors
/// If the tests cannot run, or one fails.
pub fn run(args: Args) -> Result<()> {
    let qemu = setup::qemu(args.qemu.as_deref())?;
    eprintln!("QEMU {} ({})", qemu.version, qemu.path.display());
    let kinds = build(&args)?;

    let mut total = Tally::default();
    let mut all_well = true;
    for what in [ALL, DOC, LOOM, SHUTTLE] {
        let (tally, success) = of(&args, what, &qemu.path, &kinds)?;
        total.passed += tally.passed;
        total.failed += tally.failed;
        all_well &= success;
    }
    if args.list {
        return if all_well { Ok(()) } else { Err(Error::CannotRun("the tests cannot be listed".into())) };
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    if total.passed + total.failed == 0 {
        return Err(Error::CannotRun("no test has such a name".into()));
    }
    if all_well && total.failed == 0 { Ok(()) } else { Err(Error::Broken) }
}

/// All of the workspace, those of the models aside.
const ALL: &[&str] = &["--workspace", "--all-targets"];
/// The examples in the documentation, which nextest does not know.
const DOC: &[&str] = &["--workspace", "--doc"];

/// Builds what the guests of these tests need, and the tests for the host; the kinds of kernels that are up to date then.
///
/// A kernel's last step takes one core, and most of the time. So all is built side by side, as far as there are cores.
fn build(args: &Args) -> Result<Vec<Kind>> {
    if args.list {
        return Ok(Vec::new());
    }
    setup::rust_target()?;
    let wanted = |name: &str| args.filters.is_empty() || args.filters.iter().any(|filter| name.contains(filter));
    let of_rows = guest_tests::all().filter(|(name, _)| wanted(name)).map(|(_, row)| row.kind);
    // Tests of traces use the first two.
    let kinds: BTreeSet<Kind> = of_rows.chain([Kind::Release, Kind::SeededBugs]).collect();
    let mut parts: Vec<Box<dyn FnOnce() -> Result<()> + Send>> =
        vec![Box::new(|| host_tests(ALL)), Box::new(|| host_tests(LOOM).and_then(|()| host_tests(SHUTTLE)))];
    for &kind in &kinds {
        parts.push(Box::new(move || {
            // Below the same lock as the kernel as shipped.
            if kind == Kind::Release {
                artifacts::loader()?;
                artifacts::programs()?;
            }
            artifacts::kernel(kind).map(drop)
        }));
    }
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let workers = cores.min(parts.len());
    let parts = Mutex::new(parts);
    let next = || parts.lock().expect("nobody panics with it").pop();
    let work = || {
        let done = iter::from_fn(next).try_for_each(|part| part());
        if done.is_err() {
            parts.lock().expect("nobody panics with it").clear();
        }
        done
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
    })?;
    Ok(kinds.into_iter().collect())
}

/// Builds the tests that `what` names.
fn host_tests(what: &[&str]) -> Result<()> {
    let (mut cargo, _) = cargo(what, Do::Build);
    let built = cargo.status().context("cannot run cargo")?;
    if built.success() {
        Ok(())
    } else {
        Err(Error::CannotRun("the tests do not build (cargo's words are above)".into()))
    }
}

/// What to do with tests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Do {
    Build,
    List,
    Run,
}

/// A cargo that does it with the tests that `what` names, and whether that is nextest.
fn cargo(what: &[&str], verb: Do) -> (Command, bool) {
    let nextest = what != DOC && setup::in_path("cargo-nextest");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(artifacts::root());
    if nextest {
        cargo.args(["nextest", if verb == Do::List { "list" } else { "run" }]);
    } else {
        cargo.arg("test");
    }
    cargo.args(what);
    if verb == Do::Build {
        cargo.arg("--no-run");
    } else if !nextest || verb == Do::Run {
        cargo.arg("--no-fail-fast");
    }
    (cargo, nextest)
}

/// Runs or lists the tests that `what` names; what came of them, and whether cargo was content.
fn of(args: &Args, what: &[&str], qemu: &Path, kinds: &[Kind]) -> Result<(Tally, bool)> {
    let (mut cargo, nextest) = cargo(what, if args.list { Do::List } else { Do::Run });
    cargo.env("PALISADE_QEMU", qemu);
    artifacts::are_built(&mut cargo, kinds);
    if nextest {
        // Nothing that the filters match is no failure here. A variable, because older versions know no such option.
        cargo.env("NEXTEST_NO_TESTS", "pass").args(&args.filters);
    } else {
        cargo.arg("--").args(&args.filters).args(args.list.then_some("--list"));
    }
    let (lines, success) = run_and_show(&mut cargo)?;
    if args.list {
        return Ok((Tally::default(), success));
    }
    let tally = if nextest { of_nextest(&lines) } else { of_cargo_test(&lines) };
    let tally = tally.ok_or_else(|| Error::CannotRun("the tests did not run (cargo's words are above)".into()))?;
    Ok((tally, success))
}

/// Shows what the command says as it says it, on either stream; and gives it, with whether it succeeded.
fn run_and_show(command: &mut Command) -> Result<(Vec<String>, bool)> {
    let (lines, into) = std::io::pipe().context("cannot make a pipe")?;
    command.stdin(Stdio::null()).stdout(into.try_clone().context("cannot make a pipe")?).stderr(into);
    let mut child = command.spawn().context("cannot run cargo")?;
    // Our ends of the pipe that the child writes to.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut said = Vec::new();
    for line in BufReader::new(lines).split(b'\n') {
        let line = String::from_utf8_lossy(&line.context("cannot read what cargo says")?).into_owned();
        let _ = writeln!(std::io::stdout(), "{line}"); // a closed pipe must not end the tests
        said.push(line);
    }
    Ok((said, child.wait().context("cannot wait for cargo")?.success()))
}

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
}

/// From nextest's last line: `Summary [ 0.1s] 4 tests run: 3 passed (1 slow), 1 failed, 2 timed out, 0 skipped`.
fn of_nextest(lines: &[String]) -> Option<Tally> {
    let summary = lines.iter().rev().map(|line| plain(line)).find(|line| line.trim_start().starts_with("Summary ["))?;
    let (_, counts) = summary.split_once(" run: ")?;
    let mut tally = Tally::default();
    for part in counts.split(", ") {
        let mut words = part.split_whitespace();
        let (Some(Ok(number)), Some(what)) = (words.next().map(str::parse::<u64>), words.next()) else { continue };
        match what {
            "passed" => tally.passed += number,
            "skipped" => {}
            _ => tally.failed += number,
        }
    }
    Some(tally)
}

/// From each of cargo test's lines: `test result: ok. 9 passed; 0 failed; …`.
fn of_cargo_test(lines: &[String]) -> Option<Tally> {
    let mut found = None;
    for line in lines.iter().map(|line| plain(line)) {
        let Some((_, counts)) = line.split_once("test result: ") else { continue };
        let number = |what: &str| {
            let (before, _) = counts.split_once(what)?;
            before.split_whitespace().next_back()?.parse::<u64>().ok()
        };
        let tally = found.get_or_insert(Tally::default());
        tally.passed += number(" passed").unwrap_or(0);
        tally.failed += number(" failed").unwrap_or(0);
    }
    found
}

/// Without colours.
fn plain(line: &str) -> String {
    let mut kept = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('\x1b') {
        kept += before;
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn nextests_summary_is_counted() {
        let text = "PASS x\n     Summary [   0.075s] 7 tests run: 4 passed (1 slow), 1 failed, 2 timed out, 3 skipped\n   FAIL y";
        assert_eq!(of_nextest(&lines(text)), Some(Tally { passed: 4, failed: 3 }));
        assert_eq!(of_nextest(&lines("error: could not compile")), None);
    }

    #[test]
    fn cargo_tests_results_are_added_up() {
        let text = "test result: ok. 9 passed; 0 failed; 1 ignored\ntest result: \x1b[31mFAILED\x1b[m. 3 passed; 2 failed; 0 ignored";
        assert_eq!(of_cargo_test(&lines(text)), Some(Tally { passed: 12, failed: 2 }));
        assert_eq!(of_cargo_test(&lines("error")), None);
    }
}
