//! `cargo xtask bench`: what threads cost, in instructions (`icount`) and in memory (`many`).

mod icount;
mod many;

use crate::error::Result;
use crate::launch::Launch;
use crate::outcome::Outcome;
use crate::watch::{Limits, Nobody, watch};
use std::time::Duration;

/// Measure what threads cost.
///
/// Exit code 0: every promise held. 1: one broke. 2: it could not run. 130: interrupted.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum What {
    /// Guest instructions from spawn to join, on one CPU: exact, whatever the host does.
    Icount(icount::Args),
    /// Bytes of memory that a thread takes, when many on stacks of a page are alive at once.
    Many(many::Args),
}

/// Does it.
///
/// # Errors
/// If it cannot run, or a promise broke.
pub fn run(args: Args) -> Result<()> {
    match args.what {
        What::Icount(args) => icount::run(&args),
        What::Many(args) => many::run(&args),
    }
}

/// Runs the guest to its end; an error, with what the guest said, unless it passed.
fn measure(launch: &Launch) -> Result<Outcome> {
    let limits = Limits { total: None, silence: Duration::from_secs(60) };
    let (outcome, end) = watch(&launch.guest, &launch.symbols, limits, &mut Nobody)?;
    let ended = super::run::end_with(outcome.judge(&end));
    if ended.is_err() {
        outcome.lines.iter().for_each(|line| eprintln!("| {line}"));
    }
    ended.map(|()| outcome)
}
