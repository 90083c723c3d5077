//! `cargo xtask image`.

use crate::artifacts::{self, Kind};
use crate::error::{Error, Result};
use crate::{image, limine};
use std::path::PathBuf;

/// Make a bootable ISO (BIOS and UEFI) with Limine.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Where the ISO goes.
    #[arg(long, value_name = "FILE", default_value = "palisade.iso")]
    pub out: PathBuf,
    /// Folder with Limine's files [default: $LIMINE_DIR, then the usual places].
    #[arg(long, value_name = "DIR")]
    pub limine: Option<PathBuf>,
    /// The kernel's command line.
    #[arg(last = true, value_name = "WORD")]
    pub words: Vec<String>,
}

/// Does it.
///
/// # Errors
/// If something is missing, or the command line is wrong.
pub fn run(args: Args) -> Result<()> {
    let line = super::run::checked(&args.words)?;
    let folder = limine::find(args.limine.as_deref())?;
    let folder = folder.ok_or_else(|| Error::CannotRun(format!("no Limine is found; {}", limine::HOW)))?;
    image::make(&folder, &artifacts::kernel(Kind::Release)?, &artifacts::programs()?, &line, &args.out)?;
    println!("{}", args.out.display());
    Ok(())
}
