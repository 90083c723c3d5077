//! Page tables of four levels, built in a run of free pages (Intel SDM volume 3A, section 4.5).
//!
//! [`PageTables`] is the tables' bytes and their physical address. It is filled by the loader, read by the CPU, and
//! never changed once the kernel runs.

use crate::PAGE_SIZE;
use crate::field::{put_u64, u64_at};
use core::ops::Range;

/// Bits of an entry.
const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
/// The address in an entry.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// The protocol's direct map, and tables of the lower levels: nothing is denied above the last level.
const ALL_RIGHTS: u64 = PRESENT | WRITABLE;

/// What may be done with a page. It can always be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Written.
    pub write: bool,
    /// Executed.
    pub execute: bool,
}

impl Rights {
    /// Everything.
    pub const ALL: Self = Self { write: true, execute: true };

    const fn bits(self) -> u64 {
        PRESENT | if self.write { WRITABLE } else { 0 } | if self.execute { 0 } else { NO_EXECUTE }
    }
}

/// The largest page that a mapping may use: `4 KiB << 9 * level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Largest {
    /// 4 KiB.
    Small = 0,
    /// 2 MiB.
    Large = 1,
    /// 1 GiB, where the CPU has it.
    Gigantic = 2,
}

/// Page tables under construction.
#[derive(Debug)]
pub struct PageTables<'p> {
    pool: &'p mut [u8],
    address: u64,
    used: usize,
}

impl<'p> PageTables<'p> {
    /// An empty address space, in a pool of whole pages at this physical address.
    ///
    /// # Panics
    /// The pool has no page.
    #[must_use]
    pub fn new(pool: &'p mut [u8], address: u64) -> Self {
        let mut tables = Self { pool, address, used: 0 };
        tables.add();
        tables
    }

    /// Physical address of the root: what CR3 gets.
    #[must_use]
    pub const fn root(&self) -> u64 {
        self.address
    }

    /// Most tables that [`map`](Self::map) can need for a range of this length, where physical and virtual addresses
    /// differ by a multiple of the largest page.
    #[must_use]
    pub fn most_tables(length: u64, largest: Largest) -> u64 {
        // Of each level, one for every stretch that a table covers, and one more where the range starts inside one.
        let covering = |level: u32| length.div_ceil(PAGE_SIZE << (9 * level)) + 1;
        match largest {
            Largest::Small => covering(1) + covering(2) + covering(3),
            // Pages smaller than the largest only at the two ends.
            Largest::Large => 2 + covering(2) + covering(3),
            Largest::Gigantic => 2 + 2 + covering(3),
        }
    }

    /// Maps a range of physical memory from a virtual address on, in pages as large as fit. All are multiples of a page.
    ///
    /// # Panics
    /// The pool is too small: see [`most_tables`](Self::most_tables).
    pub fn map(&mut self, address: u64, physical: Range<u64>, rights: Rights, largest: Largest) {
        let (mut at, mut from) = (address, physical.start);
        while from < physical.end {
            let fits = |level: u32| {
                let size = PAGE_SIZE << (9 * level);
                (at | from).is_multiple_of(size) && physical.end - from >= size
            };
            let level = (0..=largest as u32).rev().find(|level| fits(*level)).unwrap_or(0);
            let large = if level == 0 { 0 } else { LARGE };
            self.set(at, level, from | rights.bits() | large);
            let size = PAGE_SIZE << (9 * level);
            from += size;
            at = at.wrapping_add(size);
        }
    }

    /// Writes the entry that maps an address at a level, adding tables above it as needed.
    fn set(&mut self, address: u64, level: u32, entry: u64) {
        let mut table = 0;
        for above in (level + 1..4).rev() {
            let at = slot(table, address, above);
            let next = u64_at(self.pool, at).unwrap_or(0);
            table = if next & PRESENT == 0 {
                let added = self.add();
                put_u64(self.pool, at, (self.address + added as u64 * PAGE_SIZE) | ALL_RIGHTS);
                added
            } else {
                assert!(next & LARGE == 0, "a large page is already mapped at {address:#x}");
                ((next & ADDRESS) - self.address) as usize / PAGE_SIZE as usize
            };
        }
        put_u64(self.pool, slot(table, address, level), entry);
    }

    /// Takes an empty table from the pool.
    fn add(&mut self) -> usize {
        let page = PAGE_SIZE as usize;
        self.pool[self.used * page..(self.used + 1) * page].fill(0);
        self.used += 1;
        self.used - 1
    }
}

/// Where in the pool the entry for an address is, in a table of this level.
const fn slot(table: usize, address: u64, level: u32) -> usize {
    let index = (address >> (12 + 9 * level)) & 511;
    table * PAGE_SIZE as usize + index as usize * 8
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    const POOL: u64 = 0x20_0000;

    /// What the CPU makes of an address: the physical address and the rights, and the size of the page.
    pub(crate) fn translate(tables: &PageTables<'_>, address: u64) -> Option<(u64, Rights, u64)> {
        let mut table = 0;
        for level in (0..4).rev() {
            let entry = u64_at(tables.pool, slot(table, address, level))?;
            let size = PAGE_SIZE << (9 * level);
            if entry & PRESENT == 0 {
                return None;
            }
            if level == 0 || entry & LARGE != 0 {
                assert!(level < 3, "no such large page");
                let base = entry & ADDRESS;
                assert!(base.is_multiple_of(size), "misaligned page");
                let rights = Rights { write: entry & WRITABLE != 0, execute: entry & NO_EXECUTE == 0 };
                return Some((base + address % size, rights, size));
            }
            table = ((entry & ADDRESS) - tables.address) as usize / PAGE_SIZE as usize;
        }
        None
    }

    fn largest() -> impl Strategy<Value = Largest> {
        prop_oneof![Just(Largest::Small), Just(Largest::Large), Just(Largest::Gigantic)]
    }

    proptest! {
        #[test]
        fn a_mapped_range_is_reached_and_nothing_beside_it(
            start in 0..0x8_0000_u64,
            pages in 1..0x1_0000_u64,
            write in any::<bool>(),
            execute in any::<bool>(),
            largest in largest(),
            probe in 0.0..1.0_f64,
        ) {
            let physical = start * PAGE_SIZE..(start + pages) * PAGE_SIZE;
            let rights = Rights { write, execute };
            let most = PageTables::most_tables(pages * PAGE_SIZE, largest) + 1;
            let mut pool = vec![0xaa; (most * PAGE_SIZE) as usize];
            let mut tables = PageTables::new(&mut pool, POOL);
            tables.map(crate::HHDM + physical.start, physical.clone(), rights, largest);
            let inside = physical.start + ((pages * PAGE_SIZE) as f64 * probe) as u64;
            for address in [physical.start, inside, physical.end - 1] {
                let found = translate(&tables, crate::HHDM + address).map(|(to, rights, _)| (to, rights));
                prop_assert_eq!(found, Some((address, rights)));
            }
            for outside in [crate::HHDM + physical.start - 1, crate::HHDM + physical.end, physical.start] {
                prop_assert_eq!(translate(&tables, outside), None);
            }
            prop_assert!(tables.used as u64 <= most);
        }
    }

    #[test]
    fn pages_are_as_large_as_they_may_be() {
        let mut pool = vec![0; 64 << 12];
        let mut tables = PageTables::new(&mut pool, POOL);
        let gib = 1 << 30;
        tables.map(crate::HHDM, 0..4 * gib, Rights::ALL, Largest::Gigantic);
        assert_eq!(tables.used, 2, "a root and one table");
        assert_eq!(translate(&tables, crate::HHDM + 3 * gib + 5), Some((3 * gib + 5, Rights::ALL, gib)));
        tables.map(0x1000, 0x1000..0x40_1000, Rights::ALL, Largest::Large);
        let size = |address| translate(&tables, address).map(|(_, _, size)| size);
        assert_eq!(
            [0, 0x1000, 0x20_0000, 0x40_0fff, 0x40_1000].map(size),
            [None, Some(4096), Some(2 << 20), Some(4096), None]
        );
        // Never a large page where only the virtual address is a multiple of its size, or only the physical one.
        tables.map(0x4000_0000, 0x1000..0x20_1000, Rights::ALL, Largest::Large);
        tables.map(0x5000_1000, 0x20_0000..0x40_0000, Rights::ALL, Largest::Large);
        assert_eq!(translate(&tables, 0x4000_0000), Some((0x1000, Rights::ALL, PAGE_SIZE)));
        assert_eq!(translate(&tables, 0x5000_1000), Some((0x20_0000, Rights::ALL, PAGE_SIZE)));
    }
}
