//! Real Limine: finding it, and writing the configuration that it reads from the one source, `limine.cfg`.

use crate::error::{Context, Error, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The files that an image needs of Limine.
pub const FILES: [&str; 4] = ["limine-bios.sys", "limine-bios-cd.bin", "limine-uefi-cd.bin", "BOOTX64.EFI"];

/// How to get Limine.
pub const HOW: &str = "install your distribution's package 'limine', or check out a '-binary' tag (such as \
                       v8.2.0-binary) of Limine's repository and point --limine or LIMINE_DIR at it";

/// Where Limine's files are, if they are anywhere.
///
/// # Errors
/// If the place that was asked for does not have them.
pub fn find(asked: Option<&Path>) -> Result<Option<PathBuf>> {
    let named = asked.map(Path::to_owned).or_else(|| std::env::var_os("LIMINE_DIR").map(PathBuf::from));
    if let Some(folder) = named {
        return match FILES.iter().find(|file| !folder.join(file).is_file()) {
            None => Ok(Some(folder)),
            Some(file) => Err(Error::CannotRun(format!("no Limine in {}: {file} is missing", folder.display()))),
        };
    }
    let usual = ["/usr/share/limine", "/usr/local/share/limine", "/opt/homebrew/share/limine"].map(PathBuf::from);
    Ok(usual.into_iter().find(|folder| FILES.iter().all(|file| folder.join(file).is_file())))
}

/// The major version of the Limine in `folder`, as its BIOS stage names itself; `None` if it does not.
#[must_use]
pub fn major_version(folder: &Path) -> Option<u32> {
    let stage = std::fs::read(folder.join(FILES[0])).ok()?;
    let name = b"Limine ";
    stage.windows(name.len()).enumerate().filter(|(_, window)| window == name).find_map(|(at, _)| {
        let digits: String =
            stage[at + name.len()..].iter().take_while(|b| b.is_ascii_digit()).map(|b| *b as char).collect();
        digits.parse().ok()
    })
}

/// The name under which this version reads its configuration, and the configuration: with the command line filled in, and a
/// line for each module.
#[must_use]
pub fn configuration(
    source: &str,
    major: Option<u32>,
    command_line: &str,
    modules: &[String],
) -> (&'static str, String) {
    let lines = filled(source, command_line, modules);
    if major.is_some_and(|major| major < 8) { ("limine.cfg", old(&lines)) } else { ("limine.conf", new(&lines)) }
}

/// The lines of the configuration: entries' titles without a value, keys with theirs.
fn filled<'s>(source: &'s str, command_line: &str, modules: &[String]) -> Vec<(&'s str, Option<String>)> {
    let lines = lines(source).flat_map(|line| match line {
        Line::Entry(title) => vec![(title, None)],
        Line::Key("CMDLINE", _) => vec![("CMDLINE", Some(command_line.to_owned()))],
        Line::Key("MODULE_PATH", folder) => {
            modules.iter().map(|name| ("MODULE_PATH", Some(format!("{folder}{name}")))).collect()
        }
        Line::Key(key, value) => vec![(key, Some(value.to_owned()))],
    });
    lines.collect()
}

/// `KEY=value` and `:entry`: Limine up to 7.
fn old(lines: &[(&str, Option<String>)]) -> String {
    let lines = lines.iter().map(|(name, value)| match value {
        None => format!(":{name}\n"),
        Some(value) => format!("{name}={value}\n"),
    });
    lines.collect()
}

/// `key: value` and `/entry`, paths as `boot():/…`: Limine from 8 on.
fn new(lines: &[(&str, Option<String>)]) -> String {
    let mut indent = "";
    let lines = lines.iter().map(|(name, value)| match value {
        None => {
            indent = "    ";
            format!("/{name}\n")
        }
        Some(value) => {
            let value = if name.ends_with("_PATH") { value.replace("boot:///", "boot():/") } else { value.clone() };
            format!("{indent}{}: {value}\n", name.to_lowercase())
        }
    });
    lines.collect()
}

enum Line<'s> {
    Entry(&'s str),
    Key(&'s str, &'s str),
}

fn lines(source: &str) -> impl Iterator<Item = Line<'_>> {
    source.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).filter_map(
        |line| match line.strip_prefix(':') {
            Some(title) => Some(Line::Entry(title.trim())),
            None => line.split_once('=').map(|(key, value)| Line::Key(key.trim(), value.trim())),
        },
    )
}

/// The program that makes an ISO bootable by BIOS: the one beside Limine's files, or in PATH, or built from its source
/// beside them.
///
/// # Errors
/// If there is none, and none could be built.
pub fn tool(folder: &Path, build_in: &Path) -> Result<PathBuf> {
    let beside = folder.join("limine");
    if beside.is_file() {
        return Ok(beside);
    }
    if crate::setup::in_path("limine") {
        return Ok("limine".into());
    }
    let (source, built) = (folder.join("limine.c"), build_in.join("limine"));
    if !source.is_file() {
        return Err(Error::CannotRun(format!("Limine's own program 'limine' is missing; {HOW}")));
    }
    let status = Command::new("cc").args(["-O1", "-std=c99", "-o"]).arg(&built).arg(&source).status();
    if status.context("cannot run cc to build Limine's program")?.success() {
        Ok(built)
    } else {
        Err(Error::CannotRun(format!("{} does not build", source.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "# why\nTIMEOUT=0\nSERIAL=yes\n\n:Palisade\nPROTOCOL=limine\nKERNEL_PATH=boot:///boot/kernel\nCMDLINE=\nMODULE_PATH=boot:///boot/\n";

    #[test]
    fn limine_8_gets_its_new_syntax() {
        let (name, text) = configuration(SOURCE, Some(8), "run=stress seed=3", &["a".into(), "b".into()]);
        assert_eq!(name, "limine.conf");
        assert_eq!(
            text,
            "timeout: 0\nserial: yes\n/Palisade\n    protocol: limine\n    kernel_path: boot():/boot/kernel\n    cmdline: run=stress seed=3\n    module_path: boot():/boot/a\n    module_path: boot():/boot/b\n"
        );
    }

    #[test]
    fn limine_7_gets_the_old_one() {
        let (name, text) = configuration(SOURCE, Some(7), "seed=3", &["a".into()]);
        assert_eq!(name, "limine.cfg");
        assert_eq!(
            text,
            "TIMEOUT=0\nSERIAL=yes\n:Palisade\nPROTOCOL=limine\nKERNEL_PATH=boot:///boot/kernel\nCMDLINE=seed=3\nMODULE_PATH=boot:///boot/a\n"
        );
    }
}
