//! From options to a guest that can be started: set-up, builds, boot path, accelerator.

use crate::accelerator::{self, Choice};
use crate::artifacts::{self, Kind};
use crate::error::{Context, Error, Result};
use crate::options::{Board, Boot, Machine};
use crate::qemu::{Guest, Medium, uefi_code};
use crate::setup::{self, Qemu};
use crate::symbols::Symbols;
use crate::trace::follow::MOST_MEMORY_MIB;
use crate::{archive, image, limine};
use std::path::{Path, PathBuf};

/// A guest ready to start, and what to say of it.
pub struct Launch {
    /// The guest.
    pub guest: Guest,
    /// Its symbols.
    pub symbols: Symbols,
    /// The QEMU.
    pub qemu: Qemu,
    /// The accelerator, and why.
    pub accel: Choice,
    /// The boot path, in words.
    pub boot: String,
    kernel: PathBuf,
    programs: Vec<PathBuf>,
    /// Where the Limine in the ISO is from.
    limine: Option<PathBuf>,
    /// Holds the ISO, and the guest's memory if that is a file, while the guest runs.
    work: tempfile::TempDir,
    memory_folder: Option<tempfile::TempDir>,
}

impl Launch {
    /// Does everything up to the start.
    ///
    /// # Errors
    /// Whatever is missing or does not build.
    pub fn prepare(machine: &Machine, kind: Kind, command_line: &str) -> Result<Self> {
        Self::with(machine, kind, command_line, artifacts::programs()?)
    }

    /// As [`prepare`](Self::prepare), for what needs no user programs: none are built, and the kernel gets no modules.
    ///
    /// # Errors
    /// As there.
    pub fn without_modules(machine: &Machine, kind: Kind, command_line: &str) -> Result<Self> {
        Self::with(machine, kind, command_line, Vec::new())
    }

    fn with(machine: &Machine, kind: Kind, command_line: &str, programs: Vec<PathBuf>) -> Result<Self> {
        let qemu = setup::qemu(machine.qemu.as_deref())?;
        if !setup::version_is_known(&qemu.version) {
            eprintln!("note: QEMU {} is not one of the versions tried (7.2 to 11)", qemu.version);
        }
        let (kernel, loader) = (artifacts::kernel(kind)?, artifacts::loader()?);
        let accel = accelerator::choose(machine.accel, &qemu, &loader, &kernel)?;
        let work = tempfile::Builder::new().prefix("palisade").tempdir().context("cannot make a temporary folder")?;
        let boot = settle(machine)?;
        let mut limine = None;
        let (medium, words) = match boot {
            Way::Direct(why) => {
                let command_line = command_line.to_owned();
                let initrd = work.path().join("initrd");
                archive::make(&kernel, &programs, &initrd)?;
                (Medium::Direct { loader, kernel: initrd, command_line }, format!("direct loader{why}"))
            }
            Way::Limine(folder, uefi) => {
                let iso = work.path().join("palisade.iso");
                image::make(&folder, &kernel, &programs, command_line, &iso)?;
                let words =
                    format!("Limine from {}, {}", folder.display(), if uefi.is_some() { "UEFI" } else { "BIOS" });
                limine = Some(folder);
                (Medium::Iso { iso, uefi }, words)
            }
        };
        let guest = Guest {
            qemu: qemu.path.clone(),
            accel: accel.accel,
            medium,
            smp: machine.smp,
            mem: machine.mem,
            board: machine.machine,
            memory: None,
            gdb: None,
            core: machine.core_out.clone(),
        };
        Ok(Self {
            guest,
            symbols: Symbols::of(&kernel),
            qemu,
            accel,
            boot: words,
            kernel,
            programs,
            limine,
            work,
            memory_folder: None,
        })
    }

    /// The kernel image.
    #[must_use]
    pub fn kernel(&self) -> &Path {
        &self.kernel
    }

    /// Gives the guest another command line.
    ///
    /// # Errors
    /// If it boots from an ISO, and that cannot be made anew.
    pub fn set_command_line(&mut self, words: &str) -> Result<()> {
        match &mut self.guest.medium {
            Medium::Direct { command_line, .. } => *command_line = words.to_owned(),
            Medium::Iso { iso, .. } => {
                let folder = self.limine.as_deref().expect("an ISO is made with a Limine");
                image::make(folder, &self.kernel, &self.programs, words, iso)?;
            }
        }
        Ok(())
    }

    /// Puts the guest's memory into a file, where the host reads the trace rings.
    ///
    /// # Errors
    /// If there is too much of it.
    pub fn memory_in_file(&mut self) -> Result<()> {
        if self.guest.mem > MOST_MEMORY_MIB {
            return Err(Error::CannotRun(format!("the trace path 'ram' needs --mem {MOST_MEMORY_MIB} or less")));
        }
        // Memory rather than a disk, where there is such a place.
        let shared = Path::new("/dev/shm");
        if shared.is_dir() {
            let made = tempfile::Builder::new().prefix("palisade").tempdir_in(shared);
            self.memory_folder = made.ok();
        }
        let folder = self.memory_folder.as_ref().unwrap_or(&self.work);
        self.guest.memory = Some(folder.path().join("memory"));
        Ok(())
    }
}

enum Way {
    /// And why not Limine, if that was a choice.
    Direct(&'static str),
    Limine(PathBuf, Option<PathBuf>),
}

fn settle(machine: &Machine) -> Result<Way> {
    let found = || limine::find(machine.limine.as_deref());
    let missing = || Error::CannotRun(format!("no Limine is found; {}", limine::HOW));
    if machine.machine == Board::Microvm && !matches!(machine.boot, Boot::Auto | Boot::Direct) {
        return Err(Error::CannotRun("microvm boots by the direct loader only".into()));
    }
    Ok(match machine.boot {
        Boot::Direct => Way::Direct(""),
        Boot::Auto if machine.machine == Board::Microvm => Way::Direct(""),
        Boot::Auto => found()?.map_or(Way::Direct(" (no Limine is found)"), |folder| Way::Limine(folder, None)),
        Boot::Bios => Way::Limine(found()?.ok_or_else(missing)?, None),
        Boot::Uefi => Way::Limine(found()?.ok_or_else(missing)?, Some(uefi_code()?)),
    })
}
