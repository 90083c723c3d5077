//! Memory: frames, page tables, the heap, guarded mappings, and address spaces.
//!
//! ```text
//!   0x0000_0000_0000_1000  address spaces, each its own
//!   0xffff_8000_0000_0000  (or where the boot loader put it) all of memory, at a fixed offset: tables, frame contents
//!   0xffff_c000_0000_0000  the heap
//!   0xffff_d000_0000_0000  guarded slots: stacks and mappings, each between guard pages
//!   0xffff_e000_0000_0000  device registers
//!   0xffff_ffff_8000_0000  the kernel image
//! ```
//! Large pages are used for the first range only, and the slots lie far from it: QEMU keeps one growing range of large
//! pages for each CPU, and a flush of any address inside that range flushes everything, which would hide stale
//! translations from the tests.

pub(crate) mod broadcast;
pub(crate) mod custody;
mod error;
pub(crate) mod fallible;
pub(crate) mod frames;
pub(crate) mod general;
pub(crate) mod guarded;
pub(crate) mod heap;
pub(crate) mod lender;
pub(crate) mod oracle;
mod owner;
pub(crate) mod paging;
pub(crate) mod probe;
pub(crate) mod slots;
pub(crate) mod space;
pub(crate) mod tags;
pub(crate) mod tlb;
pub(crate) mod window;

pub use error::{MapError, UnmapError};
pub use fallible::OutOfHeap;
pub use frames::{FrameCounts, OutOfFrames, frame_counts};
pub use general::{MapFlags, map_anonymous_guarded, map_guarded, unmap};
pub use guarded::{Fill, GuardedMapping, peek};
pub use heap::{allocations as heap_allocations, handed_out as heap_bytes};
pub use owner::{Owner, StackKind, owner_of, translate};
pub use paging::Access;
pub use slots::{BYTES as SLOT_BYTES, Hit, Region, classify, live as live_slots};
pub use space::{AddressSpace, SpaceError};
pub use tlb::{ping_all, protocol_name};
pub use window::Window;

use core::fmt;

/// Bytes in a page, and in a frame.
pub const PAGE_SIZE: u64 = smp::ranges::PAGE_SIZE;

/// An address in physical memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysAddr(pub u64);

impl fmt::LowerHex for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

impl fmt::Display for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:#x}")
    }
}

impl fmt::Debug for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PhysAddr({self})")
    }
}
