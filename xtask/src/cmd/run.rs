//! `cargo xtask run`.

use crate::artifacts::Kind;
use crate::error::{Error, Result};
use crate::launch::Launch;
use crate::options::Machine;
use crate::outcome::{Outcome, Verdict};
use crate::watch::{Limits, Viewer, watch};
use std::time::Duration;

/// Boot the image with any kernel command line.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    machine: Machine,
    /// Boot the image that has the seeded bugs.
    #[arg(long)]
    seeded_bugs: bool,
    /// Seconds without any output after which the guest is taken to hang; until the kernel's first line, 30 if that is more.
    #[arg(long, value_name = "S", default_value_t = 60)]
    silence: u64,
    /// The kernel's command line, such as `run=test test=boot`.
    #[arg(last = true, value_name = "WORD")]
    words: Vec<String>,
}

/// Shows every line as it comes, with the meaning of backtraces below them.
struct Show;

impl Viewer for Show {
    fn line(&mut self, line: &str, meaning: &[String]) {
        println!("{line}");
        meaning.iter().for_each(|frame| println!("        {frame}"));
    }

    fn records(&mut self, _: &Outcome) {}
}

/// Does it.
///
/// # Errors
/// If it cannot run, or a promise broke.
pub fn run(args: Args) -> Result<()> {
    let kind = if args.seeded_bugs { Kind::SeededBugs } else { Kind::Release };
    // Unchecked on purpose: what the kernel makes of a wrong line can be seen this way.
    let launch = Launch::prepare(&args.machine, kind, &args.words.join(" "))?;
    let limits = Limits { total: None, silence: Duration::from_secs(args.silence) };
    let (outcome, end) = watch(&launch.guest, &launch.symbols, limits, &mut Show)?;
    end_with(outcome.judge(&end))
}

/// The result that goes with a verdict, said in a line if it is not good.
///
/// # Errors
/// Unless the run passed.
pub fn end_with(verdict: Verdict) -> Result<()> {
    match verdict {
        Verdict::Passed => Ok(()),
        Verdict::Broken(why) => {
            eprintln!("FAIL: {why}");
            Err(Error::Broken)
        }
        Verdict::CannotRun(why) => Err(Error::CannotRun(why)),
        Verdict::Interrupted => Err(Error::Interrupted),
    }
}

/// The words as a line, if the kernel will understand it.
///
/// # Errors
/// The word that it will not.
pub fn checked(words: &[String]) -> Result<String> {
    let line = words.join(" ");
    match wire::Options::parse(&line) {
        Ok(_) => Ok(line),
        Err(error) => Err(Error::CannotRun(format!("kernel command line: {error}"))),
    }
}
