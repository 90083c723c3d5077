//! `cargo xtask debug`.

use super::stress;
use crate::error::{Context, Error, Result};
use crate::{gdb, setup};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Boot a stress run under gdb, stopped at its first instruction, with symbols and Palisade's own commands.
///
/// The run stops where the guest ends it (a panic, a broken promise, a pass), to be looked at. With --deterministic and a
/// seed it is the run that `stress` has told of.
#[derive(clap::Args, Clone, Debug)]
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    stress: stress::Args,
    /// Look at this core, written by QEMU's dump-guest-memory, in place of a guest that runs.
    #[arg(long, value_name = "FILE")]
    core: Option<PathBuf>,
    /// More words for gdb, such as: -- -batch -ex continue -ex palisade-cpus
    #[arg(last = true, value_name = "WORD")]
    gdb: Vec<String>,
}

/// Does it.
///
/// # Errors
/// If there is no gdb, or the guest does not start.
pub fn run(args: Args) -> Result<()> {
    if !setup::in_path("gdb") {
        return Err(Error::CannotRun("there is no gdb; install your system's package 'gdb'".into()));
    }
    let mut launch = args.stress.launch()?;
    let work = tempfile::tempdir().context("cannot make a temporary folder")?;
    let (script, tables) = (work.path().join("palisade.py"), work.path().join("tables.json"));
    std::fs::write(&script, gdb::SCRIPT).context("cannot write the script")?;
    std::fs::write(&tables, gdb::tables().to_string()).context("cannot write the tables")?;

    let mut debugger = Command::new("gdb");
    debugger.env("PALISADE_TABLES", &tables).arg("-q").arg(launch.kernel());
    if let Some(core) = &args.core {
        check_core(core)?;
        debugger.arg("-core").arg(core).arg("-x").arg(&script).args(&args.gdb);
        return end(debugger.status().context("cannot run gdb")?);
    }
    let socket = work.path().join("gdb");
    launch.guest.gdb = Some(socket.clone());
    let mut guest = launch.guest.start()?;
    // What the guest says stands between gdb's lines.
    let shown = guest.text.take().map(|text| {
        std::thread::spawn(move || {
            BufReader::new(text).lines().map_while(|line| line.ok()).for_each(|line| println!("| {line}"))
        })
    });
    if let Some(mut records) = guest.records.take() {
        std::thread::spawn(move || std::io::copy(&mut records, &mut std::io::sink()));
    }
    guest.await_file(&socket)?;
    debugger.args(["-ex", "set pagination off", "-ex", "set confirm off"]);
    debugger.arg("-ex").arg(format!("target remote {}", socket.display()));
    debugger.args(["-ex", "hbreak palisade_exit"]).arg("-x").arg(&script).args(&args.gdb);
    let ended = debugger.status().context("cannot run gdb")?;
    guest.kill();
    // All that the guest said; the pipe is closed now.
    let _ = shown.map(std::thread::JoinHandle::join);
    end(ended)
}

fn check_core(path: &Path) -> Result<()> {
    let mut head = [0; 4];
    let name = path.display().to_string();
    let mut file = std::fs::File::open(path).context(format!("cannot read {name}"))?;
    let read = std::io::Read::read_exact(&mut file, &mut head);
    if read.is_err() || head != *b"\x7fELF" {
        return Err(Error::CannotRun(format!("{name} is no core: it does not begin as ELF files do")));
    }
    Ok(())
}

fn end(status: std::process::ExitStatus) -> Result<()> {
    if status.success() { Ok(()) } else { Err(Error::CannotRun(format!("gdb ended with {status}"))) }
}
