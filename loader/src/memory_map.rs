//! The memory map: which page belongs to whom, from the firmware's list to what the kernel is told.
//!
//! [`MemoryMap`] holds regions that are sorted, page-aligned, free of overlaps and merged with their neighbours of the
//! same kind; every change keeps it so. Firmware is not trusted to be that tidy: where its entries overlap, the kind that
//! is least safe to use wins, and usable memory shrinks to whole pages while all other kinds grow to them.

use crate::PAGE_SIZE;
use core::fmt;
use core::ops::Range;

/// Most regions that a map can hold. Machines list about ten; the loader adds a few.
pub const CAPACITY: usize = 256;

/// The first page is never usable: the BIOS keeps its data there, and base revisions up to 2 demand it.
const FIRST_PAGE: Range<u64> = 0..PAGE_SIZE;

/// What a region is. The values are the protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Kind {
    /// Free memory.
    Usable = 0,
    /// Not memory, or not ours.
    Reserved = 1,
    /// ACPI tables.
    AcpiReclaimable = 2,
    /// Memory that ACPI keeps across sleep.
    AcpiNvs = 3,
    /// Memory with faults.
    Bad = 4,
    /// The loader's: free when the kernel no longer needs what is in it.
    Reclaimable = 5,
    /// The kernel, its file, and modules.
    KernelAndModules = 6,
}

impl Kind {
    /// The kind of a type number of the PVH and e820 lists. An unknown one is reserved.
    #[must_use]
    pub const fn of_firmware(number: u32) -> Self {
        match number {
            1 => Self::Usable,
            3 => Self::AcpiReclaimable,
            4 => Self::AcpiNvs,
            5 => Self::Bad,
            _ => Self::Reserved,
        }
    }

    /// How strongly the firmware's word for a page outweighs another word for the same page.
    const fn rank(self) -> u8 {
        match self {
            Self::Usable => 0,
            Self::AcpiReclaimable => 1,
            Self::AcpiNvs => 2,
            Self::Reserved => 3,
            Self::Bad => 4,
            Self::Reclaimable | Self::KernelAndModules => 5,
        }
    }
}

/// Consecutive pages of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Physical address of the first byte.
    pub base: u64,
    /// Physical address after the last byte.
    pub end: u64,
    /// What it is.
    pub kind: Kind,
}

/// Why a map cannot do what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// More regions than [`CAPACITY`].
    TooManyRegions,
    /// No run of this many free bytes.
    OutOfMemory(u64),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyRegions => write!(f, "more than {CAPACITY} regions in the memory map"),
            Self::OutOfMemory(bytes) => write!(f, "no {} KiB of consecutive free memory", bytes.div_ceil(1024)),
        }
    }
}

/// Every region of physical memory that is known, by rising address.
#[derive(Clone, Debug)]
pub struct MemoryMap {
    regions: [Region; CAPACITY],
    used: usize,
}

impl MemoryMap {
    /// The map of a machine whose firmware lists these `(address, length, kind)`, in any order.
    ///
    /// # Errors
    /// [`Error::TooManyRegions`].
    pub fn of_firmware(entries: impl Iterator<Item = (u64, u64, Kind)>) -> Result<Self, Error> {
        let mut map = Self { regions: [Region { base: 0, end: 0, kind: Kind::Reserved }; CAPACITY], used: 0 };
        for (address, length, kind) in entries {
            let end = address.saturating_add(length);
            let pages = match kind {
                Kind::Usable => address.checked_next_multiple_of(PAGE_SIZE).unwrap_or(end)..page_floor(end),
                _ if length == 0 => continue,
                _ => page_floor(address)..end.checked_next_multiple_of(PAGE_SIZE).unwrap_or(page_floor(u64::MAX)),
            };
            map.overlay(pages, |old| match old {
                Some(old) if old.rank() >= kind.rank() => Some(old),
                _ => Some(kind),
            })?;
        }
        map.overlay(FIRST_PAGE, |old| old.map(|_| Kind::Reserved))?;
        Ok(map)
    }

    /// The regions, by rising address.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions[..self.used]
    }

    /// Gives the pages that hold these bytes another kind, as far as they are usable.
    ///
    /// # Errors
    /// [`Error::TooManyRegions`].
    pub fn take(&mut self, bytes: Range<u64>, kind: Kind) -> Result<(), Error> {
        let end = bytes.end.checked_next_multiple_of(PAGE_SIZE).unwrap_or(page_floor(u64::MAX));
        self.overlay(page_floor(bytes.start)..end, |old| old.map(|old| if old == Kind::Usable { kind } else { old }))
    }

    /// Takes consecutive pages for `bytes` bytes, the lowest that fit, and returns their address. They lie `within` a
    /// range, and start at a multiple of `align`, a power of two that is a page or more.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::TooManyRegions`].
    pub fn allocate(&mut self, bytes: u64, align: u64, within: Range<u64>, kind: Kind) -> Result<u64, Error> {
        debug_assert!(align.is_power_of_two() && align >= PAGE_SIZE);
        let length = bytes.max(1).checked_next_multiple_of(PAGE_SIZE).ok_or(Error::OutOfMemory(bytes))?;
        let fits = |region: &Region| {
            let base = region.base.max(within.start).checked_next_multiple_of(align)?;
            (base.checked_add(length)? <= region.end.min(within.end)).then_some(base)
        };
        let usable = self.regions().iter().filter(|region| region.kind == Kind::Usable);
        let base = usable.clone().find_map(fits).ok_or(Error::OutOfMemory(bytes))?;
        self.take(base..base + length, kind)?;
        Ok(base)
    }

    /// Chooses anew, for each page of a range, what it is (`None`: unlisted).
    fn overlay(&mut self, pages: Range<u64>, choose: impl Fn(Option<Kind>) -> Option<Kind>) -> Result<(), Error> {
        if pages.is_empty() {
            return Ok(());
        }
        let old = self.clone();
        let Range { start, end } = pages;
        self.used = 0;
        let mut undecided = start;
        for region in old.regions() {
            self.push(region.base, region.end.min(start), Some(region.kind))?;
            self.push(undecided, region.base.min(end), choose(None))?;
            self.push(region.base.max(start), region.end.min(end), choose(Some(region.kind)))?;
            undecided = undecided.max(region.end.min(end));
            if region.end > end {
                self.push(undecided, end, choose(None))?;
                undecided = end;
            }
            self.push(region.base.max(end), region.end, Some(region.kind))?;
        }
        self.push(undecided, end, choose(None))
    }

    /// Adds pages behind all others, unless there are none or they are unlisted.
    fn push(&mut self, base: u64, end: u64, kind: Option<Kind>) -> Result<(), Error> {
        let Some(kind) = kind.filter(|_| base < end) else { return Ok(()) };
        match self.regions[..self.used].last_mut() {
            Some(last) if last.end == base && last.kind == kind => last.end = end,
            _ => {
                *self.regions.get_mut(self.used).ok_or(Error::TooManyRegions)? = Region { base, end, kind };
                self.used += 1;
            }
        }
        Ok(())
    }
}

const fn page_floor(address: u64) -> u64 {
    address & !(PAGE_SIZE - 1)
}

#[cfg(test)]
mod tests;
