//! `cargo xtask stress`.

use crate::artifacts::{self, Kind};
use crate::error::{Context, Error, Result};
use crate::launch::Launch;
use crate::options::Machine;
use crate::outcome::{Outcome, Verdict};
use crate::report::Report;
use crate::trace::file::TraceFile;
use crate::trace::{self, read};
use crate::watch::{Limits, Viewer, watch};
use clap::builder::PossibleValuesParser;
use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wire::Options;
use wire::cmdline::{Bug, Protocol, Trace, Workload};
use wire::trace::Categories;

/// Run a stress workload and give a verdict, counts and latencies.
///
/// Exit code 0: every promise held. 1: one broke. 2: it could not run. 130: interrupted.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    machine: Machine,
    /// How long, in seconds of the guest's time.
    #[arg(long, value_name = "S", default_value_t = 10, conflicts_with = "rounds", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    seconds: u32,
    /// How many rounds, in place of a time.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rounds: Option<u64>,
    /// Where all pseudo-random choices start [default: drawn, and told].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
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
    /// Timer ticks a second on each CPU.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    tick_hz: u32,
    /// A shootdown of more pages than this flushes everything.
    #[arg(long, value_name = "N", default_value_t = 33, value_parser = clap::value_parser!(u32).range(0..=4096))]
    flush_ceiling: u32,
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
    trace_out: Option<PathBuf>,
    /// Record all events, by way of the guest's memory, and check them against the rules.
    #[arg(long, conflicts_with_all = ["trace", "trace_events"])]
    check: bool,
    /// Put a fault back on purpose, to see it found; builds an image of its own.
    #[arg(long, value_parser = names(Bug::ALL.iter().map(|b| b.name())))]
    bug: Option<String>,
    /// Write all results to this file as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
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

/// Seconds that a guest may be silent: it tells of its progress twice a second, but on a busy host CPUs stand still.
const SILENCE: Duration = Duration::from_secs(60);

/// Does it.
///
/// # Errors
/// If it cannot run, or a promise broke.
pub fn run(args: Args) -> Result<()> {
    let seed = args.seed.unwrap_or_else(draw_seed);
    let options = args.kernel_options(seed);
    let json = args.json.as_deref().map(JsonFile::open).transpose()?;
    let kind = if args.bug.is_some() { Kind::SeededBugs } else { Kind::Release };
    let mut launch = Launch::prepare(&args.machine, kind, &options.to_string())?;
    if options.trace == Trace::Ram {
        launch.memory_in_file()?;
    }
    let again = args.again(seed);
    println!("{}, {} CPUs, {} MiB: {}", launch.boot, args.machine.smp, args.machine.mem, options);

    let limits = Limits { total: None, silence: SILENCE };
    let trace_file = args.trace_out.clone().unwrap_or_else(|| artifacts::folder().join("last.trace"));
    let mut show = Show::new(TraceFile::new(trace_file));
    let (outcome, end) = watch(&launch.guest, &launch.symbols, limits, &mut show)?;
    show.end_line();
    let verdict = outcome.judge(&end);
    let report = Report { launch: &launch, outcome: &outcome, verdict: &verdict, again: &again, seed };
    print!("{}", report.text());
    let trace = show.trace.finish()?;
    if let Some(path) = &trace {
        let read = read::file(path)?;
        if matches!(verdict, Verdict::Broken(_)) {
            crate::inspect::last_events(&read).iter().for_each(|line| println!("{line}"));
        }
        println!("{}", told_of_trace(path, &read, &outcome));
    }
    if let Some(file) = json {
        file.write(&report.json())?;
    }
    if args.check {
        check(trace.as_deref())?;
    }
    match verdict {
        Verdict::Passed => Ok(()),
        Verdict::Broken(_) => Err(Error::Broken),
        Verdict::CannotRun(why) => Err(Error::CannotRun(why)),
        Verdict::Interrupted => Err(Error::Interrupted),
    }
}

/// A seed that a person can copy: 32 bits of what the standard library's hasher is seeded with.
fn draw_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish() >> 32
}

impl Args {
    fn kernel_options(&self, seed: u64) -> Options<'static> {
        let known = "clap has checked the name";
        Options {
            workload: Workload::by_name(&self.workload).expect(known),
            protocol: Protocol::by_name(&self.protocol).expect(known),
            seed,
            seconds: self.seconds,
            rounds: self.rounds.unwrap_or(0),
            stack_pages: self.stack_pages,
            guard_pages: self.guard_pages,
            tick_hz: self.tick_hz,
            flush_ceiling: self.flush_ceiling,
            trace: self.trace_mode(),
            trace_events: self.trace_events,
            bug: self.bug.as_deref().map(|name| Bug::by_name(name).expect(known)),
            ..Options::default()
        }
    }

    fn trace_mode(&self) -> Trace {
        match self.trace.as_deref() {
            Some("off") => Trace::Off,
            _ if self.check || self.trace_path == "ram" => Trace::Ram,
            Some(mode) => Trace::by_name(mode).expect("clap has checked the name"),
            None if self.trace_out.is_some() => Trace::Stream,
            None => Trace::Ring,
        }
    }

    /// The command line that repeats this run: as it was given, with the seed.
    fn again(&self, seed: u64) -> String {
        let mut words: Vec<String> = std::env::args().skip(1).collect();
        if self.seed.is_none() {
            words.extend(["--seed".into(), seed.to_string()]);
        }
        format!("cargo xtask {}", words.join(" "))
    }
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

/// The results' file: opened before the run, so that one that cannot be written is told before time is spent; replaced
/// as a whole at the end.
struct JsonFile {
    path: PathBuf,
    new: tempfile::NamedTempFile,
}

impl JsonFile {
    fn open(path: &Path) -> Result<Self> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let what = format!("cannot write {}", path.display());
        if path.is_dir() {
            return Err(Error::CannotRun(format!("{what}: it is a folder")));
        }
        Ok(Self { path: path.to_owned(), new: tempfile::NamedTempFile::new_in(folder).context(what)? })
    }

    fn write(mut self, value: &serde_json::Value) -> Result<()> {
        let what = format!("cannot write {}", self.path.display());
        writeln!(self.new, "{value:#}").context(&what)?;
        let file = self.new.persist(&self.path).context(&what)?;
        // Temporary files are for their owner only; results are not.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let _ = file.set_permissions(fs::Permissions::from_mode(0o644));
        }
        Ok(())
    }
}

/// Guest lines as they come, and one line of progress: in place on a terminal, now and then elsewhere.
struct Show {
    in_place: bool,
    shown: Instant,
    open: bool,
    trace: TraceFile,
}

impl Show {
    fn new(trace: TraceFile) -> Self {
        Self { in_place: std::io::stdout().is_terminal(), shown: Instant::now(), open: false, trace }
    }

    fn end_line(&mut self) {
        if std::mem::take(&mut self.open) {
            println!();
        }
    }
}

impl Viewer for Show {
    fn line(&mut self, line: &str, meaning: &[String]) {
        self.end_line();
        println!("| {line}");
        meaning.iter().for_each(|frame| println!("|       {frame}"));
    }

    fn trace(&mut self, bytes: &[u8]) {
        self.trace.take(bytes);
    }

    fn records(&mut self, outcome: &Outcome) {
        let every = Duration::from_millis(if self.in_place { 200 } else { 2000 });
        let Some(progress) = outcome.progress else { return };
        if self.shown.elapsed() < every || outcome.verdict.is_some() {
            return;
        }
        self.shown = Instant::now();
        let line = format!(
            "{:6.1} s  {} threads live, {} stacks reaped, {} shootdowns, {} IPIs, {} faults",
            progress.elapsed_ns as f64 / 1e9,
            progress.live_threads,
            progress.reaped,
            progress.shootdowns,
            progress.ipis,
            progress.faults
        );
        if self.in_place {
            print!("\r{line:<100}");
            let _ = std::io::stdout().flush();
            self.open = true;
        } else {
            println!("{line}");
        }
    }
}
