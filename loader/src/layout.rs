//! What the kernel sees where, by base revision: its image, and physical memory through the direct map.
//!
//! | revision | direct map | also at address 0 |
//! |---|---|---|
//! | 0 | the first 4 GiB, and every region | all but the first page |
//! | 1, 2 | the first 4 GiB, and every region but reserved and bad memory | nothing |
//! | 3 | usable memory, the loader's, the kernel's | nothing |

use crate::elf::Elf;
use crate::memory_map::{Kind, MemoryMap};
use crate::paging::{Largest, PageTables, Rights};
use crate::{HHDM, PAGE_SIZE};
use core::ops::Range;

const FOUR_GIB: u64 = 4 << 30;

/// Everything that goes into the kernel's page tables.
#[derive(Clone, Copy, Debug)]
pub struct Layout<'a> {
    /// The base revision that the kernel is booted with.
    pub revision: u64,
    /// What memory there is.
    pub map: &'a MemoryMap,
    /// The kernel, for where its segments are seen.
    pub elf: &'a Elf,
    /// Physical address of its image.
    pub image: u64,
    /// The largest page that the CPU has.
    pub largest: Largest,
}

impl Layout<'_> {
    /// Most page tables that the layout can need.
    #[must_use]
    pub fn most_tables(&self) -> u64 {
        let mut tables = 1;
        self.each_range(|range| tables += PageTables::most_tables(range.end - range.start, self.largest));
        // The identity map has what the direct map has.
        tables *= if self.revision == 0 { 2 } else { 1 };
        let span = self.elf.span();
        tables + PageTables::most_tables(span.end - span.start, Largest::Small)
    }

    /// Fills page tables.
    pub fn build(&self, tables: &mut PageTables<'_>) {
        self.each_range(|range| {
            if self.revision == 0 {
                let range = range.start.max(PAGE_SIZE)..range.end;
                tables.map(range.start, range, Rights::ALL, self.largest);
            }
            tables.map(HHDM + range.start, range, Rights::ALL, self.largest);
        });
        let start = self.elf.span().start;
        for segment in self.elf.segments() {
            let pages = segment.pages();
            let physical = self.image + (pages.start - start)..self.image + (pages.end - start);
            let rights = Rights { write: segment.writable, execute: segment.executable };
            tables.map(pages.start, physical, rights, Largest::Small);
        }
    }

    /// The ranges of physical memory that the direct map shows; neighbours are one, so that large pages cover them.
    fn each_range(&self, mut visit: impl FnMut(Range<u64>)) {
        let (first, floor) = if self.revision < 3 { (0..FOUR_GIB, FOUR_GIB) } else { (0..0, 0) };
        let mut current = first;
        for region in self.map.regions().iter().filter(|region| self.shows(region.kind)) {
            let (base, end) = (region.base.max(floor), region.end);
            if base >= end {
                continue;
            }
            if base == current.end {
                current.end = end;
            } else {
                visit(core::mem::replace(&mut current, base..end));
            }
        }
        visit(current);
    }

    fn shows(&self, kind: Kind) -> bool {
        match kind {
            Kind::Usable | Kind::Reclaimable | Kind::KernelAndModules => true,
            Kind::AcpiReclaimable | Kind::AcpiNvs => self.revision < 3,
            Kind::Reserved | Kind::Bad => self.revision == 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paging::tests::translate;

    const IMAGE: u64 = 0x20_0000;
    const GIB: u64 = 1 << 30;

    fn map() -> MemoryMap {
        let entries = [
            (0, 0x9fc00, Kind::Usable),
            (0xf0000, 0x10000, Kind::Reserved),
            (0x100000, 0x7fe0000 - 0x100000, Kind::Usable),
            (0x7fe0000, 0x20000, Kind::AcpiReclaimable),
            (5 * GIB, GIB, Kind::Usable),
            (6 * GIB, 0x10000, Kind::AcpiNvs),
            (8 * GIB, 0x10000, Kind::Reserved),
        ];
        let mut map = MemoryMap::of_firmware(entries.into_iter()).unwrap();
        map.take(IMAGE..IMAGE + 0x3000, Kind::KernelAndModules).unwrap();
        map.take(0x10_0000..IMAGE, Kind::Reclaimable).unwrap();
        map
    }

    /// Which of these physical addresses the direct map shows, and which are seen at themselves.
    fn shown(revision: u64, largest: Largest, addresses: &[u64]) -> (Vec<u64>, Vec<u64>) {
        let (map, elf) = (map(), crate::elf::tests::sample());
        let layout = Layout { revision, map: &map, elf: &elf, image: IMAGE, largest };
        let mut pool = vec![0; (layout.most_tables() * PAGE_SIZE) as usize];
        let mut tables = PageTables::new(&mut pool, 0x40_0000);
        layout.build(&mut tables);
        let seen = |offset: u64| {
            let right = |address: &u64| match translate(&tables, offset + address) {
                Some((physical, rights, _)) => {
                    assert_eq!((physical, rights), (*address, Rights::ALL));
                    true
                }
                None => false,
            };
            addresses.iter().copied().filter(right).collect()
        };
        let base = elf.span().start;
        for (at, right) in [(0, (false, true)), (0x1000, (true, false)), (0x3fff, (true, false))] {
            let (physical, rights, size) = translate(&tables, base + at).unwrap();
            assert_eq!((physical, (rights.write, rights.execute), size), (IMAGE + at, right, PAGE_SIZE));
        }
        assert_eq!(translate(&tables, base + 0x4000), None);
        (seen(HHDM), seen(0))
    }

    #[test]
    fn the_direct_map_shows_what_the_revision_says() {
        let addresses = [
            0,           // the first page
            0x1000,      // usable
            0xf0000,     // reserved
            0x10_0000,   // the loader
            IMAGE,       // the kernel
            0x7fe_0000,  // ACPI tables
            0xfee0_0000, // not listed
            4 * GIB,     // not listed
            5 * GIB,     // usable
            6 * GIB,     // kept for ACPI
            8 * GIB,     // reserved
        ];
        let without = |gone: &[u64]| addresses.iter().copied().filter(|a| !gone.contains(a)).collect::<Vec<_>>();
        for largest in [Largest::Large, Largest::Gigantic] {
            assert_eq!(shown(0, largest, &addresses), (without(&[4 * GIB]), without(&[0, 4 * GIB])));
            let expected = without(&[4 * GIB, 8 * GIB]);
            assert_eq!(shown(1, largest, &addresses), (expected.clone(), vec![]));
            assert_eq!(shown(2, largest, &addresses), (expected, vec![]));
            let gone = [0, 0xf0000, 0x7fe_0000, 0xfee0_0000, 4 * GIB, 6 * GIB, 8 * GIB];
            assert_eq!(shown(3, largest, &addresses), (without(&gone), vec![]));
        }
    }
}
