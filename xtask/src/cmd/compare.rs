//! `cargo xtask compare`: the same workload under each protocol and reaping policy, in turn, and what each of them cost.

use crate::artifacts::Kind;
use crate::error::{Error, Result};
use crate::json_file::JsonFile;
use crate::launch::Launch;
use crate::options::Machine;
use crate::outcome::{Outcome, Verdict};
use crate::report::accel_name;
use crate::watch::{Limits, Nobody, watch};
use clap::builder::PossibleValuesParser;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use wire::cmdline::{Options, Protocol, Reaping, Trace, Workload};
use wire::{Histogram, cmdline};

/// Options of `compare`.
///
/// Every way has its turn before the first has another, with the same seed, so that what the host does to one it does to all.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    machine: Machine,
    /// What the guest does.
    #[arg(long, default_value = "mixed", value_parser = PossibleValuesParser::new(Workload::ALL.iter().map(|w| w.name())))]
    workload: String,
    /// How long each turn is, in seconds of the guest's time.
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    seconds: u32,
    /// How many turns each way has.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    turns: u64,
    /// The seed of the first turn; the next has the next.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Stacks that each CPU keeps mapped for its next threads; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=16))]
    cache: u32,
    /// Only ways whose words contain this.
    #[arg(long, value_name = "WORDS")]
    only: Option<String>,
    /// Write all results to this file as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Seconds that a guest may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// A way of doing it, and what came of its turns.
struct Way {
    options: Options<'static>,
    turns: Vec<Turn>,
    latency: Histogram,
    one_page: Histogram,
    tsc_hz: u64,
}

/// What one turn cost.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    reaped_a_second: f64,
    shootdowns_a_second: f64,
    ipis: f64,
    commands: f64,
    full_flushes: f64,
}

/// Does it.
///
/// # Errors
/// If it cannot run, or a promise broke.
pub fn run(args: Args) -> Result<()> {
    let json = args.json.as_deref().map(JsonFile::open).transpose()?;
    let mut ways = args.ways();
    if ways.is_empty() {
        let words = args.only.unwrap_or_default();
        return Err(Error::CannotRun(format!("no way's words contain '{words}'")));
    }
    let mut launch = Launch::prepare(&args.machine, Kind::Release, "")?;
    println!(
        "{} CPUs, {}, {}, {} turns of {} s each; medians of the turns, latencies over all of them",
        args.machine.smp,
        accel_name(&launch),
        args.workload,
        args.turns,
        args.seconds
    );
    for turn in 0..args.turns {
        for way in &mut ways {
            let seed = args.seed + turn;
            launch.set_command_line(&Options { seed, ..way.options }.to_string())?;
            way.take_turn(&launch)?;
        }
    }
    println!(
        "{:<40} {:>10} {:>12} {:>9} {:>9} {:>9} {:>22} {:>22}",
        "way", "stacks/s", "unmaps/s", "IPIs", "commands", "full", "p50 cycles (us)", "p99 cycles (us)"
    );
    println!("{:<40} {:>10} {:>12} {:>9} {:>9} {:>9}", "", "", "", "an unmap", "an unmap", "an unmap");
    ways.iter().for_each(|way| println!("{}", way.line()));
    if let Some(file) = json {
        let ways: Vec<Value> = ways.iter().map(Way::told).collect();
        file.write(&json!({ "cpus": args.machine.smp, "workload": args.workload, "seconds": args.seconds, "cache": args.cache, "turns": args.turns, "ways": ways }))?;
    }
    Ok(())
}

impl Args {
    /// Each protocol with each reaping policy, with CPUs that sleep asked and not.
    fn ways(&self) -> Vec<Way> {
        let workload = Workload::by_name(&self.workload).expect("clap has checked the name");
        // No processor that QEMU emulates has INVLPGB.
        let protocols = Protocol::ALL.iter().filter(|protocol| **protocol != Protocol::Invlpgb);
        let ways = protocols.flat_map(|&protocol| {
            Reaping::ALL.iter().flat_map(move |&reaping| [false, true].map(|lazy_idle| (protocol, reaping, lazy_idle)))
        });
        let ways = ways.map(|(protocol, reaping, lazy_idle)| Way {
            options: Options {
                workload,
                protocol,
                reaping,
                lazy_idle,
                seconds: self.seconds,
                cache: self.cache,
                trace: Trace::Off,
                ..Options::default()
            },
            turns: Vec::new(),
            latency: Histogram::new(),
            one_page: Histogram::new(),
            tsc_hz: 1,
        });
        ways.filter(|way| self.only.as_deref().is_none_or(|part| way.name().contains(part))).collect()
    }
}

impl Way {
    fn name(&self) -> String {
        let cmdline::Options { protocol, reaping, lazy_idle, .. } = self.options;
        format!("{protocol}, {reaping}{}", if lazy_idle { ", lazy idle" } else { "" })
    }

    fn take_turn(&mut self, launch: &Launch) -> Result<()> {
        let limits = Limits { total: None, silence: SILENCE };
        let (outcome, end) = watch(&launch.guest, &launch.symbols, limits, &mut Nobody)?;
        match outcome.judge(&end) {
            Verdict::Passed => {}
            Verdict::Broken(why) => {
                println!("{}: {why}", self.name());
                return Err(Error::Broken);
            }
            Verdict::CannotRun(why) => return Err(Error::CannotRun(why)),
            Verdict::Interrupted => return Err(Error::Interrupted),
        }
        self.tsc_hz = outcome.hello.as_ref().map_or(1, |hello| hello.tsc_hz.max(1));
        for (name, into) in [("shootdown", &mut self.latency), ("shootdown-1-page", &mut self.one_page)] {
            if let Some(histogram) = outcome.latencies.get(name) {
                into.merge(histogram);
            }
        }
        self.turns.push(Turn::of(&outcome));
        Ok(())
    }

    fn median(&self, of: impl Fn(&Turn) -> f64) -> f64 {
        let mut values: Vec<f64> = self.turns.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    }

    fn line(&self) -> String {
        let percentile = |p| {
            let cycles = self.latency.percentile(p);
            format!("{cycles} ({:.1})", cycles as f64 * 1e6 / self.tsc_hz as f64)
        };
        format!(
            "{:<40} {:>10.0} {:>12.0} {:>9.2} {:>9.2} {:>9.2} {:>22} {:>22}",
            self.name(),
            self.median(|turn| turn.reaped_a_second),
            self.median(|turn| turn.shootdowns_a_second),
            self.median(|turn| turn.ipis),
            self.median(|turn| turn.commands),
            self.median(|turn| turn.full_flushes),
            percentile(50_000),
            percentile(99_000),
        )
    }

    fn told(&self) -> Value {
        let latency = |histogram: &Histogram| {
            json!({
                "samples": histogram.samples(),
                "p50_cycles": histogram.percentile(50_000),
                "p90_cycles": histogram.percentile(90_000),
                "p99_cycles": histogram.percentile(99_000),
                "max_cycles": histogram.largest(),
            })
        };
        json!({
            "way": self.name(),
            "reaped_a_second": self.median(|turn| turn.reaped_a_second),
            "unmaps_a_second": self.median(|turn| turn.shootdowns_a_second),
            "ipis_an_unmap": self.median(|turn| turn.ipis),
            "ipi_commands_an_unmap": self.median(|turn| turn.commands),
            "full_flushes_an_unmap": self.median(|turn| turn.full_flushes),
            "tsc_hz": self.tsc_hz,
            "shootdown": latency(&self.latency),
            "shootdown_1_page": latency(&self.one_page),
        })
    }
}

impl Turn {
    fn of(outcome: &Outcome) -> Self {
        let count = |name| outcome.count(name).unwrap_or(0) as f64;
        // What was deferred and came free later is an unmap, too.
        let unmaps = (count("shootdown.requests") + count("shootdown.deferred")).max(1.0);
        let seconds = (count("run.elapsed-ns") / 1e9).max(1e-9);
        Self {
            reaped_a_second: count("stacks.reaped") / seconds,
            shootdowns_a_second: unmaps / seconds,
            ipis: count("shootdown.ipis") / unmaps,
            commands: count("shootdown.ipi-commands") / unmaps,
            full_flushes: count("shootdown.full-flushes") / unmaps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_has_a_name_of_its_own() {
        let cli = <Cli as clap::Parser>::parse_from(["compare"]);
        let names: std::collections::BTreeSet<_> = cli.args.ways().iter().map(Way::name).collect();
        assert_eq!(names.len(), 5 * 2 * 2);
    }

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }
}
