//! `cargo xtask clean`.

use crate::artifacts::folder;
use crate::error::{Context, Result};

/// Remove what these commands have made: guest builds and the outcome of trying KVM.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Args {}

/// Does it.
///
/// # Errors
/// If the folder cannot be removed.
pub fn run(_: Args) -> Result<()> {
    let folder = folder();
    if folder.exists() {
        std::fs::remove_dir_all(&folder).context(format!("cannot remove {}", folder.display()))?;
        println!("removed {}", folder.display());
    }
    Ok(())
}
