//! Why something could not be mapped or unmapped.

use super::OutOfHeap;
use super::frames::OutOfFrames;
use super::general::MapFlags;
use super::slots::NoSlot;
use core::fmt;

/// Why something could not be mapped. Nothing has changed, but that page tables made on the way are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// No page was asked for, or no guard.
    Zero,
    /// The address is not the start of a page.
    Unaligned(u64),
    /// So many bytes are not whole pages.
    UnalignedSize(u64),
    /// These bits of the flags mean nothing.
    UnknownFlags(u32),
    /// These flags are not for this kind of mapping.
    UnfitFlags(MapFlags),
    /// Memory is never writable and executable.
    WriteExecute(MapFlags),
    /// The range reaches past the last physical address.
    Overflow(u64),
    /// The memory is the kernel's own.
    InUse(u64),
    /// No frame is left for the memory or its page tables.
    OutOfFrames,
    /// No slot is left that is large enough.
    OutOfAddresses,
    /// The heap is used up, where it is noted which addresses are in use.
    OutOfHeap,
}

/// Why something could not be unmapped. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnmapError {
    /// No mapping starts at this address, or none any more.
    NotMapped(u64),
    /// The address is not the start of a page.
    Unaligned(u64),
    /// The address is inside the mapping that starts at the other.
    Inside(u64, u64),
    /// No mapping ever starts there: it is memory of the kernel, or nothing.
    Foreign(u64),
    /// A value owns what starts there; it is unmapped when that is dropped.
    IsOwned(u64),
    /// A stack starts there; it ends with its thread.
    IsStack(u64),
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero => f.write_str("no page, or no guard, was asked for"),
            Self::Unaligned(address) => write!(f, "{address:#x} is not the start of a page"),
            Self::UnalignedSize(bytes) => write!(f, "{bytes:#x} bytes are not whole pages"),
            Self::UnknownFlags(bits) => write!(f, "the flags {bits:#x} mean nothing"),
            Self::UnfitFlags(flags) => write!(f, "the flags {:#x} are not for such a mapping", flags.bits()),
            Self::WriteExecute(flags) => write!(f, "the flags {:#x} allow writing and executing", flags.bits()),
            Self::Overflow(address) => write!(f, "the range from {address:#x} on reaches past physical memory's end"),
            Self::InUse(address) => write!(f, "{address:#x} is memory of the kernel"),
            Self::OutOfFrames => f.write_str("no frame is left"),
            Self::OutOfAddresses => f.write_str("no range of addresses is left"),
            Self::OutOfHeap => OutOfHeap.fmt(f),
        }
    }
}

impl fmt::Display for UnmapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMapped(address) => write!(f, "no mapping starts at {address:#x}"),
            Self::Unaligned(address) => write!(f, "{address:#x} is not the start of a page"),
            Self::Inside(address, start) => write!(f, "{address:#x} is inside the mapping that starts at {start:#x}"),
            Self::Foreign(address) => write!(f, "{address:#x} is no address of a mapping"),
            Self::IsOwned(address) => write!(f, "what starts at {address:#x} has an owner"),
            Self::IsStack(address) => write!(f, "a stack starts at {address:#x}"),
        }
    }
}

impl core::error::Error for MapError {}
impl core::error::Error for UnmapError {}

impl From<OutOfFrames> for MapError {
    fn from(_: OutOfFrames) -> Self {
        Self::OutOfFrames
    }
}

impl From<NoSlot> for MapError {
    fn from(missing: NoSlot) -> Self {
        match missing {
            NoSlot::OutOfAddresses => Self::OutOfAddresses,
            NoSlot::OutOfHeap => Self::OutOfHeap,
        }
    }
}
