//! Options that several commands share: the machine, and how it is booted.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// How the kernel gets into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Boot {
    /// Limine on BIOS if a Limine is found, else the direct loader.
    Auto,
    /// Palisade's own loader, straight from `qemu -kernel`.
    Direct,
    /// Limine on a legacy BIOS.
    Bios,
    /// Limine on UEFI.
    Uefi,
}

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Accel {
    /// KVM where it works, by trying it; else `tcg`.
    Auto,
    /// Emulation, each CPU on a thread of its own: real parallelism.
    Tcg,
    /// Emulation, all CPUs in turn on one thread: steady figures.
    TcgSingle,
    /// Emulation that counts instructions: exact figures, one instruction a nanosecond.
    Icount,
    /// Hardware virtualisation.
    Kvm,
}

/// QEMU's machine types that the kernel knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Board {
    /// PCI Express, as of 2009.
    Q35,
    /// PCI, as of 1996.
    Pc,
    /// The least; with the direct loader only.
    Microvm,
}

impl Board {
    /// QEMU's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Q35 => "q35",
            Self::Pc => "pc",
            Self::Microvm => "microvm,acpi=on",
        }
    }
}

/// The machine.
#[derive(Args, Clone, Debug)]
pub struct Machine {
    /// CPUs.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=255))]
    pub smp: u32,
    /// Memory, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(64..))]
    pub mem: u32,
    /// How to boot.
    #[arg(long, value_enum, default_value_t = Boot::Auto)]
    pub boot: Boot,
    /// What executes the guest.
    #[arg(long, value_enum, default_value_t = Accel::Auto)]
    pub accel: Accel,
    /// QEMU's machine type.
    #[arg(long, value_enum, default_value_t = Board::Q35)]
    pub machine: Board,
    /// Folder with Limine's files [default: $LIMINE_DIR, then the usual places].
    #[arg(long, value_name = "DIR")]
    pub limine: Option<PathBuf>,
    /// The QEMU to use [default: $PALISADE_QEMU, then qemu-system-x86_64 in PATH].
    #[arg(long, value_name = "PATH")]
    pub qemu: Option<PathBuf>,
    /// If the guest hangs or crashes, write its memory to this file: a core, for `cargo xtask debug --core`.
    #[arg(long, value_name = "FILE")]
    pub core_out: Option<PathBuf>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            smp: 4,
            mem: 512,
            boot: Boot::Direct,
            accel: Accel::Tcg,
            machine: Board::Q35,
            limine: None,
            qemu: None,
            core_out: None,
        }
    }
}
