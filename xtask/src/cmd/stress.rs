//! `cargo xtask stress`.

use crate::artifacts::Kind;
use crate::error::{Context, Error, Result};
use crate::launch::Launch;
use crate::options::Machine;
use crate::outcome::{Outcome, Verdict};
use crate::report::Report;
use crate::watch::{Limits, Viewer, watch};
use clap::builder::PossibleValuesParser;
use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wire::Options;
use wire::cmdline::{Bug, Protocol, Workload};

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
    /// Put a fault back on purpose, to see it found; builds an image of its own.
    #[arg(long, value_parser = names(Bug::ALL.iter().map(|b| b.name())))]
    bug: Option<String>,
    /// Write all results to this file as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
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
    let launch = Launch::prepare(&args.machine, kind, &options.to_string())?;
    let again = args.again(seed);
    println!("{}, {} CPUs, {} MiB: {}", launch.boot, args.machine.smp, args.machine.mem, options);

    let limits = Limits { total: None, silence: SILENCE };
    let mut show = Show::new();
    let (outcome, end) = watch(&launch.guest, &launch.symbols, limits, &mut show)?;
    show.end_line();
    let verdict = outcome.judge(&end);
    let report = Report { launch: &launch, outcome: &outcome, verdict: &verdict, again: &again, seed };
    print!("{}", report.text());
    if let Some(file) = json {
        file.write(&report.json())?;
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
            bug: self.bug.as_deref().map(|name| Bug::by_name(name).expect(known)),
            ..Options::default()
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
}

impl Show {
    fn new() -> Self {
        Self { in_place: std::io::stdout().is_terminal(), shown: Instant::now(), open: false }
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
