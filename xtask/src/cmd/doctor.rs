//! `cargo xtask doctor`.

use crate::error::{Error, Result};
use crate::options::Accel;
use crate::qemu::uefi_code;
use crate::{accelerator, artifacts, limine, setup};

/// Say what this system has, what is missing, and how to get it.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Args {}

/// Does it.
///
/// # Errors
/// If something is missing that a stress run cannot do without.
pub fn run(_: Args) -> Result<()> {
    let mut missing = Vec::new();
    let mut say = |name: &str, needed: bool, found: std::result::Result<String, String>| {
        let (mark, text) = match &found {
            Ok(text) => ("ok     ", text),
            Err(text) => (if needed { "MISSING" } else { "absent " }, text),
        };
        println!("{mark} {name:<14} {text}");
        if needed && found.is_err() {
            missing.push(name.to_owned());
        }
    };
    let target = setup::has_rust_target();
    let how = format!("rustup target add {}", artifacts::TARGET);
    say("Rust target", true, if target { Ok(artifacts::TARGET.into()) } else { Err(how) });
    let qemu = setup::find_qemu();
    let how =
        setup::install_command(setup::in_path).map_or("install QEMU 7.2 or later".into(), |words| words.join(" "));
    say("QEMU", true, qemu.as_ref().map(|qemu| qemu.version.clone()).ok_or(how));
    say("accelerator", false, accelerator(target, qemu.as_ref()));
    let found = limine::find(None).ok().flatten().map(|folder| {
        let version = limine::major_version(&folder).map_or("?".into(), |major| major.to_string());
        format!("version {version} in {}", folder.display())
    });
    say("Limine", false, found.ok_or(format!("for --boot bios and uefi: {}", limine::HOW)));
    let program = |name: &str, why: &str| {
        if setup::in_path(name) { Ok(String::new()) } else { Err(format!("{why}: install the package '{name}'")) }
    };
    say("xorriso", false, program("xorriso", "for --boot bios and uefi"));
    say("UEFI firmware", false, uefi_code().map(|path| path.display().to_string()).map_err(|error| error.to_string()));
    say("gdb", false, program("gdb", "for cargo xtask debug"));
    let browsers = ["chromium", "chromium-browser", "google-chrome"];
    let browser = browsers.into_iter().find(|name| setup::in_path(name)).map(str::to_owned);
    let how = "to test the pages of cargo xtask trace --html; any browser shows them: install the package 'chromium'";
    say("Chromium", false, browser.ok_or(how.into()));
    let nextest = setup::in_path("cargo-nextest");
    say(
        "cargo-nextest",
        false,
        if nextest { Ok(String::new()) } else { Err("cargo test is used in its place".into()) },
    );
    if missing.is_empty() { Ok(()) } else { Err(Error::CannotRun(format!("missing: {}", missing.join(", ")))) }
}

fn accelerator(target: bool, qemu: Option<&setup::Qemu>) -> std::result::Result<String, String> {
    let (true, Some(qemu)) = (target, qemu) else { return Err("not known without QEMU and the Rust target".into()) };
    let choice = artifacts::loader()
        .and_then(|loader| artifacts::kernel(artifacts::Kind::Release).map(|kernel| (loader, kernel)))
        .and_then(|(loader, kernel)| accelerator::choose(Accel::Auto, qemu, &loader, &kernel));
    match choice {
        Ok(choice) => Ok(format!("{:?}: {}", choice.accel, choice.why)),
        Err(error) => Err(error.to_string()),
    }
}
