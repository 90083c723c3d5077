//! Traces from end to end, by the command line that people use: recorded, checked, repeated, looked at in gdb.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder for what one test writes.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn xtask(words: &str, trace: Option<&Path>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(words.split_whitespace());
    if let Some(path) = trace {
        command.arg("--trace-out").arg(path);
    }
    command.output().expect("xtask runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A run, which must end with this code, and what it said.
fn run(words: &str, trace: Option<&Path>, code: i32) -> String {
    let output = xtask(words, trace);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(code), "{words}:\n{said}");
    said
}

/// With the bug put back, the check of a run with these options names the rule that it breaks.
fn breaks(bug: &str, options: &str, rule: &str) {
    let folder = folder();
    let words = format!("stress --check {options} --seed 3 --patience 7 --boot direct --accel tcg --bug {bug}");
    let said = run(&words, Some(&folder.path().join("trace")), 1);
    assert!(said.contains(&format!("BROKEN: {rule}")), "{bug} does not break '{rule}':\n{said}");
}

#[test]
fn a_run_without_a_bug_keeps_all_rules_and_loses_nothing() {
    let folder = folder();
    let words = "stress --check --rounds 20 --seed 3 --boot direct --accel tcg";
    let said = run(words, Some(&folder.path().join("trace")), 0);
    assert!(said.contains("rules were kept") && said.contains(" 0 lost"), "{said}");
}

#[test]
fn publish_before_switch_breaks_a_rule() {
    breaks("publish-before-switch", "--rounds 20", "a stack is unmapped only when its CPU has left it");
}

#[test]
fn join_before_off_stack_breaks_a_rule() {
    breaks("join-before-off-stack", "--rounds 20", "a thread is joined only when its CPU has left its stack");
}

#[test]
fn skip_shootdown_breaks_a_rule() {
    // Threads' stacks stay mapped, or what ends the run is a thread that runs on a stale one.
    breaks(
        "skip-shootdown",
        "--rounds 20 --workload unmap-storm --cache 16",
        "memory is freed only after the request that its unmapping made is done",
    );
}

#[test]
fn free_before_ack_breaks_a_rule() {
    breaks("free-before-ack", "--rounds 1", "memory is freed only after the request that its unmapping made is done");
}

#[test]
fn shootdown_under_lock_breaks_a_rule() {
    breaks("shootdown-under-lock", "--rounds 20", "nobody waits for another CPU with a lock held or interrupts masked");
}

#[test]
fn lost_pending_breaks_a_rule() {
    breaks("lost-pending", "--rounds 20", "a stack that was left is unmapped");
}

#[test]
fn drop_ipi_breaks_a_rule() {
    breaks("drop-ipi", "--rounds 20", "every request ends");
}

fn hash(said: &str) -> &str {
    let at = said.find("trace hash ").unwrap_or_else(|| panic!("no hash in:\n{said}"));
    &said[at + 11..at + 27]
}

#[test]
fn a_deterministic_run_repeats_to_the_last_event() {
    let folder = folder();
    let trace = folder.path().join("trace");
    let with_seed = |seed| run(&format!("stress --deterministic --rounds 3 --seed {seed}"), Some(&trace), 0);
    let (one, again, other) = (with_seed(21), with_seed(21), with_seed(22));
    assert_eq!(hash(&one), hash(&again));
    assert_ne!(hash(&one), hash(&other));
}

#[test]
fn explore_stops_at_the_first_seed_that_fails_and_gives_its_line() {
    let folder = folder();
    let words = "stress --deterministic --rounds 3 --explore 3 --seed 5 --bug shootdown-under-lock";
    let said = run(words, Some(&folder.path().join("trace")), 1);
    assert!(said.contains("seed 5: FAILED"), "{said}");
    let again = "again: cargo xtask stress --deterministic --rounds 3 --bug shootdown-under-lock";
    assert!(said.contains(again) && said.contains("--seed 5"), "{said}");
}

#[test]
fn what_a_failing_run_recorded_comes_out_and_can_be_shown() {
    let folder = folder();
    let trace = folder.path().join("trace");
    let words = "stress --rounds 20 --seed 3 --boot direct --accel tcg --bug shootdown-under-lock";
    let said = run(words, Some(&trace), 1);
    assert!(said.contains("the last 20 events") && said.contains("holds 'reaper'"), "{said}");

    let shown = |words: &str| run(&format!("trace {} {words}", trace.display()), None, 0);
    let text = shown("--event wait");
    assert!(text.contains("wait masked=1 what=shootdown"), "{text}");
    // On the other stream may stand what is missing: an event whose writing waited for a handler when the panic halted its CPU.
    let json = xtask(&format!("trace {} --json --event fault --last 1", trace.display()), None);
    assert!(json.status.success(), "{json:?}");
    let json = String::from_utf8_lossy(&json.stdout);
    let last = json.lines().last().expect("an event");
    assert!(serde_json::from_str::<serde_json::Value>(last).is_ok_and(|event| event["event"] == "panic"), "{json}");
    assert!(shown("--phases").contains("stack: left until unmapped"));
    let perfetto = folder.path().join("perfetto");
    shown(&format!("--perfetto {}", perfetto.display()));
    assert!(std::fs::metadata(perfetto).is_ok_and(|file| file.len() > 1000));
    run(&format!("trace {} --check", trace.display()), None, 1);
}

#[test]
fn a_damaged_trace_is_shown_as_far_as_it_goes() {
    let folder = folder();
    let trace = folder.path().join("trace");
    run("stress --rounds 3 --seed 3 --boot direct --accel tcg", Some(&trace), 0);
    let mut bytes = std::fs::read(&trace).expect("a trace");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    bytes.truncate(middle * 3 / 2);
    std::fs::write(&trace, &bytes).expect("a trace");
    let said = run(&format!("trace {} --last 3", trace.display()), None, 0);
    assert!(said.contains(" missing, in ") && said.contains("bytes were damaged"), "{said}");
    std::fs::write(&trace, b"not a trace\0at all\0").expect("a file");
    let said = run(&format!("trace {}", trace.display()), None, 2);
    assert_eq!(said.lines().count(), 1, "{said}");
    run("trace /nonexistent", None, 2);
}

/// Passes, and says so, where there is no gdb.
#[test]
fn gdb_shows_cpus_threads_and_events_of_a_run_that_failed() {
    if Command::new("gdb").arg("--version").output().is_err() {
        eprintln!("there is no gdb: not tested");
        return;
    }
    let words = "debug --deterministic --seed 4 --rounds 3 --bug shootdown-under-lock -- -batch -ex continue \
                 -ex palisade-cpus -ex palisade-threads -ex palisade-pending -ex palisade-requests -ex palisade-trace";
    let said = run(words, None, 0);
    for wanted in [
        "waits for other CPUs with a lock held",
        "holds 'reaper'",
        "idle                     running",
        "0 pending",
        "no request is open",
        "wait masked=1 what=shootdown",
    ] {
        assert!(said.contains(wanted), "'{wanted}' is not in:\n{said}");
    }
}

/// Passes, and says so, where there is no gdb.
#[test]
fn gdb_reads_the_core_of_a_hang() {
    let folder = folder();
    let core: PathBuf = folder.path().join("core");
    let words = format!(
        "run --boot direct --accel tcg --mem 64 --silence 4 --core-out {} -- run=test test=all-cpus-hang-one-with-a-lock",
        core.display()
    );
    let said = run(&words, None, 1);
    assert!(said.contains("it hung") && said.contains("holds 'misdeed'"), "{said}");
    if Command::new("gdb").arg("--version").output().is_err() {
        eprintln!("there is no gdb: not tested");
        return;
    }
    let words = format!("debug --core {} -- -batch -ex palisade-cpus -ex palisade-trace", core.display());
    let said = run(&words, None, 0);
    assert!(said.contains("holds 'misdeed'") && said.contains("switch to=hangs"), "{said}");
    run("debug --core /dev/null", None, 2);
}
