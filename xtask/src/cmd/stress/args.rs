//! The command line of `cargo xtask stress`.

use crate::artifacts::Kind;
use crate::error::Result;
use crate::launch::Launch;
use crate::options::{Accel, Boot, Machine};
use clap::builder::PossibleValuesParser;
use std::path::PathBuf;
use wire::Options;
use wire::cmdline::{Bug, Protocol, Reaping, Trace, Workload};
use wire::trace::Categories;

/// Rounds of a deterministic run that says neither rounds nor seconds: its guest's seconds are long.
const DETERMINISTIC_ROUNDS: u64 = 20;
/// The longest interval between two changes of CPU in a deterministic run, in instructions: of the order of a spawn or a
/// shootdown, so that one in a few is cut at any of its instructions.
const INTERLEAVE: u32 = 5_000;

/// Run a stress workload and give a verdict, counts and latencies.
///
/// Exit code 0: every promise held. 1: one broke. 2: it could not run. 130: interrupted.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    pub(super) machine: Machine,
    /// How long, in seconds of the guest's time [default: 10].
    #[arg(long, value_name = "S", conflicts_with = "rounds", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    seconds: Option<u32>,
    /// How many rounds, in place of a time.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rounds: Option<u64>,
    /// Where all pseudo-random choices start [default: drawn, and told].
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
    /// What the guest does.
    #[arg(long, default_value = "mixed", value_parser = names(Workload::ALL.iter().map(|w| w.name())))]
    workload: String,
    /// The shootdown protocol.
    #[arg(long, default_value = "scoreboard", value_parser = names(Protocol::ALL.iter().map(|p| p.name())))]
    protocol: String,
    /// Size of the threads' stacks, in pages of 4 KiB.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=4096))]
    stack_pages: u32,
    /// Size of each guard, in pages of 4 KiB.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    guard_pages: u32,
    /// Threads begin up to so many bytes below the top of their stacks, each at another place.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=256))]
    stack_offset: u32,
    /// Timer ticks a second on each CPU.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    tick_hz: u32,
    /// A shootdown of more pages than this flushes everything.
    #[arg(long, value_name = "N", default_value_t = 33, value_parser = clap::value_parser!(u32).range(0..=4096))]
    flush_ceiling: u32,
    /// Who unmaps the stacks of threads that have ended: the next one that ends, or each CPU its own.
    #[arg(long, default_value = "handoff", value_parser = names(Reaping::ALL.iter().map(|r| r.name())))]
    reaping: String,
    /// A CPU with nothing to do is not asked to flush, and flushes everything before it goes on.
    #[arg(long)]
    lazy_idle: bool,
    /// Keep translations of several address spaces in each TLB; needs a processor with PCIDs, which TCG's is not.
    #[arg(long)]
    pcid: bool,
    /// With --pcid, drop kernel pages of all spaces by INVPCID.
    #[arg(long, requires = "pcid")]
    invpcid: bool,
    /// With the protocol 'quiescent': the most pages that wait to be flushed before all CPUs are interrupted after all.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    deferred_pages: u32,
    /// Seconds that a CPU may take to answer before that is a failure.
    #[arg(long, value_name = "S", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    patience: u32,
    /// What becomes of the events that the CPUs record.
    #[arg(long, value_name = "MODE", value_parser = names(TRACE_MODES.into_iter()), help = "What becomes of the events that the CPUs record [default: ring; stream if they are wanted]")]
    trace: Option<String>,
    /// How the events come out: over the second serial port, or out of the guest's memory, where nothing is lost.
    #[arg(long, value_name = "PATH", default_value = "serial", value_parser = ["serial", "ram"])]
    trace_path: String,
    /// Which events are recorded: categories, with commas between them.
    #[arg(long, value_name = "LIST", default_value = "all", value_parser = events)]
    trace_events: Categories,
    /// Where the trace goes, if there is one [default: a file below target/, which is told].
    #[arg(long, value_name = "FILE")]
    pub(super) trace_out: Option<PathBuf>,
    /// Hold CPUs up at named points of shootdowns, exits and wake-ups, for times drawn from this seed; 0 for not at all.
    #[arg(long, value_name = "N", default_value_t = 0)]
    perturb: u64,
    /// Keep what is unmapped aside for a while, poisoned, and have every CPU try whether it can still read there.
    #[arg(long)]
    oracle: bool,
    /// Hand out stacks as zeros, so that a fault's report tells how much of the stack was ever used.
    #[arg(long)]
    watermark: bool,
    /// Stacks that each CPU keeps mapped for its next threads, cleared before they get them; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=16))]
    cache: u32,
    /// With the workload 'many', how many threads live at once.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    threads: u32,
    /// Record all events, by way of the guest's memory, and check them against the rules.
    #[arg(long, conflicts_with_all = ["trace", "trace_events"])]
    pub(super) check: bool,
    /// Run so that the same seed gives the same run, to the last instruction: instructions are counted in place of time,
    /// and the seed decides when CPUs take turns.
    #[arg(long, conflicts_with_all = ["accel", "boot", "trace"])]
    pub(super) deterministic: bool,
    /// In a deterministic run, the longest that a CPU goes on before another has its turn, in instructions.
    #[arg(long, value_name = "N", default_value_t = INTERLEAVE, requires = "deterministic", value_parser = clap::value_parser!(u32).range(100..=1_000_000_000))]
    interleave: u32,
    /// Run one seed after the other, so many of them, until one breaks a promise.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "json")]
    pub(super) explore: Option<u64>,
    /// Put a fault back on purpose, to see it found; builds an image of its own.
    #[arg(long, value_parser = names(Bug::ALL.iter().map(|b| b.name())))]
    bug: Option<String>,
    /// Write all results to this file as well.
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
}

const TRACE_MODES: [&str; 4] = ["off", "ring", "stream", "lossless"];

fn events(list: &str) -> std::result::Result<Categories, String> {
    match Options::parse(&format!("trace-events={list}")) {
        Ok(options) => Ok(options.trace_events),
        Err(error) => Err(error.to_string()),
    }
}

fn names(names: impl Iterator<Item = &'static str>) -> PossibleValuesParser {
    PossibleValuesParser::new(names.collect::<Vec<_>>())
}

impl Args {
    /// All up to the start, with the seed that was given, or 1.
    ///
    /// # Errors
    /// Whatever is missing or does not build.
    pub fn launch(&self) -> Result<Launch> {
        let mut machine = self.machine.clone();
        if self.deterministic {
            machine.accel = Accel::Icount;
            machine.boot = Boot::Direct; // reading a disk takes a time of its own
        }
        let kind = if self.bug.is_some() { Kind::SeededBugs } else { Kind::Release };
        let mut launch = Launch::prepare(&machine, kind, &self.kernel_options(self.seed.unwrap_or(1)).to_string())?;
        if self.trace_mode() == Trace::Ram {
            launch.memory_in_file()?;
        }
        Ok(launch)
    }

    /// What the guest is told.
    pub(super) fn kernel_options(&self, seed: u64) -> Options<'static> {
        let known = "clap has checked the name";
        Options {
            workload: Workload::by_name(&self.workload).expect(known),
            protocol: Protocol::by_name(&self.protocol).expect(known),
            seed,
            seconds: self.seconds.unwrap_or(Options::default().seconds),
            rounds: self.rounds(),
            stack_pages: self.stack_pages,
            guard_pages: self.guard_pages,
            stack_offset: self.stack_offset,
            tick_hz: self.tick_hz,
            flush_ceiling: self.flush_ceiling,
            lazy_idle: self.lazy_idle,
            pcid: self.pcid,
            invpcid: self.invpcid,
            perturb: self.perturb,
            oracle: self.oracle,
            watermark: self.watermark,
            cache: self.cache,
            threads: self.threads,
            reaping: Reaping::by_name(&self.reaping).expect(known),
            deferred_pages: self.deferred_pages,
            patience: self.patience,
            trace: self.trace_mode(),
            trace_events: self.trace_events,
            interleave: if self.deterministic { self.interleave } else { 0 },
            bug: self.bug.as_deref().map(|name| Bug::by_name(name).expect(known)),
            ..Options::default()
        }
    }

    fn rounds(&self) -> u64 {
        match self.rounds {
            Some(rounds) => rounds,
            None if self.deterministic && self.seconds.is_none() => DETERMINISTIC_ROUNDS,
            None => 0,
        }
    }

    fn trace_mode(&self) -> Trace {
        match self.trace.as_deref() {
            Some("off") => Trace::Off,
            // In a deterministic run the guest must not wait for the host to take what it sends.
            _ if self.check || self.deterministic || self.trace_path == "ram" => Trace::Ram,
            Some(mode) => Trace::by_name(mode).expect("clap has checked the name"),
            None if self.trace_out.is_some() => Trace::Stream,
            None => Trace::Ring,
        }
    }

    /// The command line that repeats the run with this seed: as it was given otherwise.
    pub(super) fn again(&self, seed: u64) -> String {
        let mut words: Vec<String> = Vec::new();
        let mut given = std::env::args().skip(1);
        while let Some(word) = given.next() {
            match word.as_str() {
                "--seed" | "--explore" => drop(given.next()),
                other if other.starts_with("--seed=") || other.starts_with("--explore=") => {}
                _ => words.push(word),
            }
        }
        format!("cargo xtask {} --seed {seed}", words.join(" "))
    }
}
