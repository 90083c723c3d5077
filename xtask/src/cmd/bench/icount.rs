//! `cargo xtask bench icount`.

use super::measure;
use crate::artifacts::Kind;
use crate::error::{Error, Result};
use crate::json_file::JsonFile;
use crate::launch::Launch;
use crate::options::{Accel, Boot, Machine};
use crate::outcome::Outcome;
use serde_json::json;
use std::path::PathBuf;

/// Options of `bench icount`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Measure twice, and fail unless both came to the same.
    #[arg(long)]
    check: bool,
    /// Write all results to this file as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The QEMU to use [default: $PALISADE_QEMU, then qemu-system-x86_64 in PATH].
    #[arg(long, value_name = "PATH")]
    qemu: Option<PathBuf>,
}

/// What is measured, in the guest's order, and in words.
const WAYS: [(&str, &str); 9] = [
    ("guarded", "the default: 4 pages mapped between guards by the spawn, unmapped after the exit"),
    ("guarded-1-page", "the same, 1 page"),
    ("cached", "4 pages out of the CPU's cache, cleared where they were written to"),
    ("cached-as-left", "4 pages out of the CPU's cache, as the thread before left them"),
    ("bare", "4 pages of the spawner's memory, without guards"),
    ("lent", "4 pages between guards that are the spawner's, and lent"),
    ("view", "4 pages of the spawner's memory, mapped between guards by the spawn, unmapped after the exit"),
    ("returns", "as 'guarded', but the thread returns a value, and the join gives it"),
    ("aborted", "as 'guarded', but the thread parks, and is aborted by the one that joins it"),
];
const PARTS: [&str; 4] = ["smallest", "median", "p99", "largest"];
const IMAGE: &str = "without lock checks, trace=off";
const CYCLE: &str = "spawn, switch to the thread, its exit, switch back, join; and the reaping of the stack before it, if it is unmapped";

/// Does it.
///
/// # Errors
/// If it cannot run, a promise broke, or two runs came to different figures.
pub fn run(args: &Args) -> Result<()> {
    let json = args.json.as_deref().map(JsonFile::open).transpose()?;
    let machine =
        Machine { smp: 1, accel: Accel::Icount, boot: Boot::Direct, qemu: args.qemu.clone(), ..Machine::default() };
    let launch = Launch::without_modules(&machine, Kind::Lean, "run=bench trace=off")?;
    let outcome = measure(&launch)?;
    let cycles = outcome.count("bench.cycles").unwrap_or(0);
    println!("instructions of a thread's life; QEMU {}, one CPU, image {IMAGE}", launch.qemu.version);
    println!("{cycles} cycles of each way, after as many that are not measured. A cycle: {CYCLE}");
    println!("\n{:<16} {:>9} {:>9} {:>9} {:>9}", "way", PARTS[0], PARTS[1], PARTS[2], PARTS[3]);
    for (way, words) in WAYS {
        let [smallest, median, p99, largest] = figures(&outcome, way)?;
        println!("{way:<16} {smallest:>9} {median:>9} {p99:>9} {largest:>9}  {words}");
    }
    let identical = if args.check { Some(measure(&launch)?.counts == outcome.counts) } else { None };
    if let Some(file) = json {
        let ways = WAYS.iter().map(|(way, words)| {
            let [smallest, median, p99, largest] = figures(&outcome, way)?;
            Ok(json!({ "way": way, "what": words, "smallest": smallest, "median": median, "p99": p99, "largest": largest }))
        });
        file.write(&json!({
            "unit": "instructions",
            "qemu": launch.qemu.version,
            "cpus": 1,
            "image": IMAGE,
            "cycle": CYCLE,
            "cycles": cycles,
            "two_runs_identical": identical,
            "ways": ways.collect::<Result<Vec<_>>>()?,
        }))?;
    }
    match identical {
        Some(false) => {
            eprintln!("FAIL: a second run came to other figures");
            Err(Error::Broken)
        }
        Some(true) => {
            println!("\na second run came to the same figures");
            Ok(())
        }
        None => Ok(()),
    }
}

fn figures(outcome: &Outcome, way: &str) -> Result<[u64; 4]> {
    let mut figures = [0; 4];
    for (figure, part) in figures.iter_mut().zip(PARTS) {
        let sent = outcome.count(&format!("{way}.{part}"));
        *figure = sent.ok_or_else(|| Error::CannotRun(format!("the guest sent no {part} for '{way}'")))?;
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::Record;

    fn told(names: &[&str]) -> Outcome {
        let mut outcome = Outcome::default();
        for (value, name) in (1..).zip(names) {
            let record = Record::Count { name, value };
            outcome.take(wire::frame::encode(&record, &mut [0; wire::frame::MAX]).unwrap());
        }
        outcome
    }

    #[test]
    fn a_way_has_four_figures() {
        let outcome = told(&["bare.smallest", "bare.median", "bare.p99", "bare.largest"]);
        assert_eq!(figures(&outcome, "bare").unwrap(), [1, 2, 3, 4]);
    }

    #[test]
    fn a_figure_that_is_missing_is_told() {
        let error = figures(&told(&["bare.smallest", "bare.median"]), "bare").unwrap_err();
        assert_eq!(error.to_string(), "the guest sent no p99 for 'bare'");
    }
}
