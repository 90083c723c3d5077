//! The ISO: kernel, user programs, Limine and its configuration, bootable by BIOS and by UEFI.

use crate::artifacts::root;
use crate::error::{Context, Error, Result};
use crate::limine;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Makes the ISO `out` of `kernel` and its modules with this command line, from the Limine in `folder`.
///
/// # Errors
/// If a program or a file is missing, or does not do its work.
pub fn make(folder: &Path, kernel: &Path, modules: &[PathBuf], command_line: &str, out: &Path) -> Result<()> {
    if !crate::setup::in_path("xorriso") {
        return Err(Error::CannotRun("xorriso is missing; install your system's package 'xorriso'".into()));
    }
    let work = tempfile::tempdir().context("cannot make a temporary folder")?;
    let tree = work.path().join("iso");
    let (boot, efi) = (tree.join("boot"), tree.join("EFI/BOOT"));
    fs::create_dir_all(&boot).and_then(|()| fs::create_dir_all(&efi)).context("cannot make the image's folders")?;
    let copy =
        |from: &Path, to: &Path| fs::copy(from, to).map(|_| ()).context(format!("cannot copy {}", from.display()));
    copy(kernel, &boot.join("kernel"))?;
    let mut names = Vec::new();
    for module in modules {
        let name = module.file_name().unwrap_or_default();
        copy(module, &boot.join(name))?;
        names.push(name.to_string_lossy().into_owned());
    }
    for file in &limine::FILES[..3] {
        copy(&folder.join(file), &boot.join(file))?;
    }
    copy(&folder.join("BOOTX64.EFI"), &efi.join("BOOTX64.EFI"))?;
    let source = fs::read_to_string(root().join("limine.cfg")).context("cannot read limine.cfg")?;
    let (name, text) = limine::configuration(&source, limine::major_version(folder), command_line, &names);
    fs::write(boot.join(name), text).context("cannot write the configuration")?;

    let mut xorriso = Command::new("xorriso");
    xorriso.args(["-as", "mkisofs", "-R", "-r", "-J", "-b", "boot/limine-bios-cd.bin", "-no-emul-boot"]);
    xorriso.args(["-boot-load-size", "4", "-boot-info-table", "-hfsplus", "-apm-block-size", "2048"]);
    xorriso.args(["--efi-boot", "boot/limine-uefi-cd.bin", "-efi-boot-part", "--efi-boot-image"]);
    xorriso.arg("--protective-msdos-label").arg(&tree).arg("-o").arg(out);
    quietly(&mut xorriso, "xorriso")?;
    quietly(Command::new(limine::tool(folder, work.path())?).arg("bios-install").arg(out), "limine bios-install")
}

/// Runs a program whose words are of interest only if it fails.
fn quietly(command: &mut Command, name: &str) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().context(format!("cannot run {name}"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let last = words.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no reason given");
    Err(Error::CannotRun(format!("{name} failed: {last}")))
}
