//! `cargo xtask bench`.

use crate::artifacts::Kind;
use crate::cmd::run::end_with;
use crate::error::Result;
use crate::launch::Launch;
use crate::options::{Accel, Boot, Machine};
use crate::watch::{Limits, Nobody, watch};
use std::time::Duration;

/// Options of `bench`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum What {
    /// Guest instructions from spawn to join, on one CPU: exact, whatever the host does.
    Icount,
}

/// Does it.
///
/// # Errors
/// If it cannot run, or a promise broke.
pub fn run(_args: Args) -> Result<()> {
    let machine = Machine { smp: 1, accel: Accel::Icount, boot: Boot::Direct, ..Machine::default() };
    let launch = Launch::prepare(&machine, Kind::Lean, "run=bench trace=off")?;
    let silence = Duration::from_secs(60);
    let (outcome, end) = watch(&launch.guest, &launch.symbols, Limits { total: None, silence }, &mut Nobody)?;
    outcome.lines.iter().for_each(|line| println!("{line}"));
    end_with(outcome.judge(&end))
}
