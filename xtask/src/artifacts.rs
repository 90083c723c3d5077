//! What is built for the guest: the kernel image (three kinds), the loader, and the user programs that the kernel gets as boot
//! modules.

use crate::error::{Context, Error, Result};
use crate::setup;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The bare target of kernel and loader.
pub const TARGET: &str = "x86_64-unknown-none";

/// Kinds of kernel images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// As shipped.
    Release,
    /// With faults that `bug=` can put back.
    SeededBugs,
    /// Without the checks of how locks are used, which cost more than the locks: to be measured.
    Lean,
}

impl Kind {
    const fn folder(self) -> &'static str {
        match self {
            Self::Release => "guest",
            Self::SeededBugs => "guest-seeded-bugs",
            Self::Lean => "guest-lean",
        }
    }
}

/// What `cargo xtask test` tells the tests that it runs: the folders in which everything is built, so that none of them
/// asks cargo whether it is.
const BUILT: &str = "PALISADE_BUILT";

/// Has a command, one that runs tests, take what is there of these kinds for up to date.
pub fn are_built(command: &mut Command, kinds: &[Kind]) {
    let folders: Vec<_> = kinds.iter().map(|kind| kind.folder()).collect();
    command.env(BUILT, folders.join(","));
}

/// Whether whoever runs these tests has built that kind.
fn is_built(kind: Kind) -> bool {
    std::env::var(BUILT).is_ok_and(|built| built.split(',').any(|folder| folder == kind.folder()))
}

/// The workspace's root.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a crate of the workspace").to_owned()
}

/// Where these commands put everything that they make.
#[must_use]
pub fn folder() -> PathBuf {
    root().join("target/palisade")
}

/// Builds the kernel image; its path.
///
/// # Errors
/// If it does not build; cargo has said why.
pub fn kernel(kind: Kind) -> Result<PathBuf> {
    build("stress", kind)
}

/// Builds the user programs; their paths, by name.
///
/// # Errors
/// If they do not build; cargo has said why.
pub fn programs() -> Result<Vec<PathBuf>> {
    let folder = build("user", Kind::Release)?.with_file_name("");
    let sources = root().join("stress/user/src/bin");
    let mut programs = Vec::new();
    for entry in std::fs::read_dir(&sources).context(format!("cannot read {}", sources.display()))? {
        let source = entry.context("cannot read a folder")?.path();
        programs.extend(source.file_stem().map(|name| folder.join(name)));
    }
    programs.sort();
    Ok(programs)
}

/// Builds the direct loader; its path.
///
/// # Errors
/// If it does not build; cargo has said why.
pub fn loader() -> Result<PathBuf> {
    build("loader", Kind::Release)
}

fn build(package: &str, kind: Kind) -> Result<PathBuf> {
    let into = folder().join(kind.folder());
    let built = into.join(TARGET).join("release").join(package);
    if is_built(kind) {
        return Ok(built);
    }
    setup::rust_target()?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).args(["build", "--quiet", "--release", "--target", TARGET, "--package", package]);
    cargo.arg("--target-dir").arg(&into);
    match kind {
        Kind::Release => &mut cargo,
        Kind::SeededBugs => cargo.args(["--features", "seeded-bugs"]),
        Kind::Lean => cargo.arg("--no-default-features"),
    };
    if package == "user" {
        // Nobody looks for its lines, and the loader copies it.
        cargo.args(["--config", "profile.release.strip=true"]);
    }
    // The flags that the kernel needs stand in .cargo/config.toml, and either variable would replace them.
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
        cargo.env_remove(variable);
    }
    // Set by the cargo that runs this tool, for this tool.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "CARGO_TARGET_DIR" {
            cargo.env_remove(name);
        }
    }
    let status = cargo.status().context("cannot run cargo")?;
    if !status.success() {
        return Err(Error::CannotRun(format!("{package} does not build (cargo's words are above)")));
    }
    Ok(built)
}
