//! What the direct loader decides, apart from the machine it decides it for.
//!
//! The binary (`src/main.rs`, `src/machine/`) is entered by the virtual machine, reads physical memory, starts CPUs and
//! jumps; everything that can be checked on a host is here, over byte slices and plain numbers: what the virtual machine
//! says ([`pvh`]), which files it brings ([`archive`]), what memory there is ([`memory_map`]), whether the kernel file can be loaded
//! ([`elf`]), what the kernel asks for ([`request`]), what it is told ([`response`], [`answers`]), where it sees what ([`paging`], [`layout`]), which
//! CPUs there are ([`acpi`]) and what time it is ([`rtc`]). Every way to fail is a line of text ([`Error`]).
//!
//! The protocol is Limine's (`PROTOCOL.md` in its repository), base revisions 0 to 3; the entry is Xen's PVH boot ABI
//! (`docs/misc/pvh.pandoc` and `xen/include/public/arch-x86/hvm/start_info.h` in Xen's repository).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod acpi;
pub mod answers;
pub mod archive;
pub mod elf;
pub mod ending;
mod error;
pub mod field;
pub mod layout;
pub mod memory_map;
pub mod paging;
mod physical;
pub mod pvh;
pub mod request;
pub mod response;
pub mod rtc;

pub use error::Error;
pub use physical::Physical;

/// Most files in an archive, the kernel among them.
pub const MOST_FILES: usize = 32;

/// Size of a page, and of a page table.
pub const PAGE_SIZE: u64 = 4096;

/// Virtual address of physical address 0 in the kernel's direct map of memory: the first of the higher half.
pub const HHDM: u64 = 0xffff_8000_0000_0000;

/// The lowest address at which the protocol lets a kernel be linked.
pub const KERNEL_FLOOR: u64 = 0xffff_ffff_8000_0000;
