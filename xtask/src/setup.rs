//! Setting up what a run needs: the Rust target and QEMU.

use crate::artifacts::TARGET;
use crate::error::{Context, Error, Result};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// QEMU's name.
const QEMU: &str = "qemu-system-x86_64";

/// Adds the Rust target if it is missing.
///
/// # Errors
/// If it is missing and rustup cannot add it.
pub fn rust_target() -> Result<()> {
    static IS_THERE: OnceLock<bool> = OnceLock::new();
    let rustup =
        || Command::new("rustup").current_dir(crate::artifacts::root()).args(["target", "add", TARGET]).status();
    if *IS_THERE.get_or_init(|| has_rust_target() || rustup().is_ok_and(|status| status.success())) {
        return Ok(());
    }
    Err(Error::CannotRun(format!("the Rust target is missing: rustup target add {TARGET}")))
}

/// Whether the Rust target is there.
#[must_use]
pub fn has_rust_target() -> bool {
    let mut rustc = Command::new("rustc");
    rustc.current_dir(crate::artifacts::root()).args(["--print", "target-libdir", "--target", TARGET]);
    let libraries = rustc.stderr(Stdio::null()).output().ok().filter(|output| output.status.success());
    libraries.is_some_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}

/// A QEMU that was found, and its version as it tells it.
#[derive(Clone, Debug)]
pub struct Qemu {
    /// Where.
    pub path: PathBuf,
    /// Such as `7.2.22`.
    pub version: String,
}

/// Finds QEMU, or installs it.
///
/// # Errors
/// If there is none, and none could be installed: the command that would.
pub fn qemu(asked: Option<&Path>) -> Result<Qemu> {
    let named = asked.map(Path::to_owned).or_else(|| std::env::var_os("PALISADE_QEMU").map(PathBuf::from));
    if let Some(path) = named {
        let version = version_of(&path)
            .ok_or_else(|| Error::CannotRun(format!("{} does not run, or is no QEMU", path.display())))?;
        return Ok(Qemu { path, version });
    }
    if let Some(found) = find_qemu() {
        return Ok(found);
    }
    install_qemu()?;
    find_qemu().ok_or_else(|| Error::CannotRun(format!("{QEMU} is still not in PATH after it was installed")))
}

/// The QEMU in PATH, if there is one.
#[must_use]
pub fn find_qemu() -> Option<Qemu> {
    version_of(Path::new(QEMU)).map(|version| Qemu { path: QEMU.into(), version })
}

fn version_of(path: &Path) -> Option<String> {
    let output = Command::new(path).arg("--version").stderr(Stdio::null()).output().ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

fn parse_version(text: &str) -> Option<String> {
    let after = text.split("QEMU emulator version ").nth(1)?;
    let version: String = after.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    version.contains('.').then_some(version)
}

/// Whether this version is one that Palisade was made for: 7.2 to 11.
#[must_use]
pub fn version_is_known(version: &str) -> bool {
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    ((7, 2)..(12, 0)).contains(&version)
}

/// The command that installs QEMU with the package manager that `has` finds.
#[must_use]
pub fn install_command(has: impl Fn(&str) -> bool) -> Option<Vec<&'static str>> {
    let managers: [&[&str]; 6] = [
        &["apt-get", "install", "-y", "--no-install-recommends", "qemu-system-x86"],
        &["dnf", "install", "-y", "qemu-system-x86-core"],
        &["pacman", "-S", "--noconfirm", "qemu-system-x86"],
        &["zypper", "install", "-y", "qemu-x86"],
        &["apk", "add", "qemu-system-x86_64"],
        &["brew", "install", "qemu"],
    ];
    managers.into_iter().find(|command| has(command[0])).map(<[_]>::to_vec)
}

/// Whether a program is in PATH.
#[must_use]
pub fn in_path(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
}

fn install_qemu() -> Result<()> {
    let Some(command) = install_command(in_path) else {
        return Err(Error::CannotRun(format!("{QEMU} is not in PATH; install QEMU 7.2 or later")));
    };
    let needs_root = command[0] != "brew" && !is_root();
    let asks = std::io::stdin().is_terminal();
    // `sudo` asks for a password, which takes somebody to give it.
    let sudo = needs_root && asks && in_path("sudo");
    let prefix: &[&str] = if sudo { &["sudo"] } else { &[] };
    let command = [prefix, &command].concat();
    let shown = command.join(" ");
    if asks {
        eprint!("{QEMU} is not in PATH. Install it by '{shown}'? [Y/n] ");
        std::io::stderr().flush().context("cannot ask")?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).context("cannot ask")?;
        if !matches!(answer.trim(), "" | "y" | "Y" | "yes") {
            return Err(Error::CannotRun(format!("{QEMU} is missing: {shown}")));
        }
    }
    if needs_root && !sudo {
        return Err(Error::CannotRun(format!("{QEMU} is missing; as root: {shown}")));
    }
    eprintln!("{QEMU} is not in PATH; installing it: {shown}");
    let run = |words: &[&str]| {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if command.contains(&"apt-get") {
        run(&[prefix, &["apt-get", "update", "-q"]].concat()); // if this fails, the next says why
    }
    if run(&command) { Ok(()) } else { Err(Error::CannotRun(format!("this failed: {shown}"))) }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_distributions_write_them() {
        let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright (c)";
        assert_eq!(parse_version(debian).as_deref(), Some("7.2.22"));
        assert_eq!(parse_version("QEMU emulator version 10.0.2\n").as_deref(), Some("10.0.2"));
        assert_eq!(parse_version("bash: no such thing"), None);
    }

    #[test]
    fn versions_from_7_2_to_11_are_known() {
        for known in ["7.2.0", "7.2.22", "8.0.1", "10.0.2", "11.4"] {
            assert!(version_is_known(known), "{known}");
        }
        for unknown in ["7.1.9", "6.2", "12.0.0", "x"] {
            assert!(!version_is_known(unknown), "{unknown}");
        }
    }

    #[test]
    fn the_package_manager_that_is_there_is_used() {
        assert_eq!(install_command(|p| p == "dnf").unwrap()[0], "dnf");
        assert_eq!(install_command(|p| p == "apt-get" || p == "brew").unwrap()[0], "apt-get");
        assert_eq!(install_command(|_| false), None);
    }
}
