//! The map's promises, checked page by page against the plainest model: a list of words for each page.

use super::*;
use proptest::prelude::*;

/// Pages of the modelled machine.
const PAGES: u64 = 64;

fn firmware_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => Just(Kind::Usable),
        1 => Just(Kind::Reserved),
        1 => Just(Kind::AcpiReclaimable),
        1 => Just(Kind::AcpiNvs),
        1 => Just(Kind::Bad),
    ]
}

fn firmware() -> impl Strategy<Value = Vec<(u64, u64, Kind)>> {
    let extent = 0..PAGES * PAGE_SIZE;
    prop::collection::vec((extent, 0..20 * PAGE_SIZE, firmware_kind()), 0..12)
}

fn kind_at(map: &MemoryMap, address: u64) -> Option<Kind> {
    map.regions().iter().find(|region| (region.base..region.end).contains(&address)).map(|region| region.kind)
}

fn assert_tidy(map: &MemoryMap) {
    for region in map.regions() {
        assert!(region.base < region.end, "empty {region:?}");
        assert!(region.base.is_multiple_of(PAGE_SIZE) && region.end.is_multiple_of(PAGE_SIZE), "ragged {region:?}");
    }
    for pair in map.regions().windows(2) {
        assert!(pair[0].end <= pair[1].base, "overlap or disorder {pair:?}");
        assert!(pair[0].end < pair[1].base || pair[0].kind != pair[1].kind, "not merged {pair:?}");
    }
}

proptest! {
    #[test]
    fn each_page_is_what_the_firmware_says_at_worst(entries in firmware()) {
        let map = MemoryMap::of_firmware(entries.iter().copied()).unwrap();
        assert_tidy(&map);
        for page in (1..PAGES + 21).map(|page| page * PAGE_SIZE) {
            let words = entries.iter().filter(|(address, length, kind)| match kind {
                Kind::Usable => *address <= page && page + PAGE_SIZE <= address + length,
                _ => *length > 0 && *address < page + PAGE_SIZE && page < address + length,
            });
            let worst = words.map(|entry| entry.2).max_by_key(|kind| kind.rank());
            prop_assert_eq!(kind_at(&map, page), worst, "page {:#x} of {:?}", page, &entries);
        }
        prop_assert!(kind_at(&map, 0) != Some(Kind::Usable));
    }

    #[test]
    fn taking_changes_usable_pages_and_no_others(entries in firmware(), start in 0..PAGES * PAGE_SIZE, length in 1..9 * PAGE_SIZE) {
        let before = MemoryMap::of_firmware(entries.into_iter()).unwrap();
        let mut after = before.clone();
        after.take(start..start + length, Kind::KernelAndModules).unwrap();
        assert_tidy(&after);
        for page in (0..PAGES + 21).map(|page| page * PAGE_SIZE) {
            let hit = page < start + length && start < page + PAGE_SIZE;
            let expected = kind_at(&before, page).map(|kind| match kind {
                Kind::Usable if hit => Kind::KernelAndModules,
                other => other,
            });
            prop_assert_eq!(kind_at(&after, page), expected);
        }
    }

    #[test]
    fn what_is_allocated_was_free_and_is_given_out_once(
        entries in firmware(),
        wishes in prop::collection::vec((1..6 * PAGE_SIZE, 0_u32..4), 1..10),
    ) {
        let mut map = MemoryMap::of_firmware(entries.into_iter()).unwrap();
        for (bytes, power) in wishes {
            let before = map.clone();
            let align = PAGE_SIZE << power;
            let within = 8 * PAGE_SIZE..56 * PAGE_SIZE;
            match map.allocate(bytes, align, within.clone(), Kind::Reclaimable) {
                Ok(base) => {
                    prop_assert!(base.is_multiple_of(align) && within.contains(&base) && base + bytes <= within.end);
                    for page in (base..base + bytes).step_by(PAGE_SIZE as usize) {
                        prop_assert_eq!(kind_at(&before, page), Some(Kind::Usable));
                        prop_assert_eq!(kind_at(&map, page), Some(Kind::Reclaimable));
                    }
                }
                Err(error) => {
                    prop_assert_eq!(error, Error::OutOfMemory(bytes));
                    prop_assert_eq!(map.regions(), before.regions());
                }
            }
            assert_tidy(&map);
        }
    }
}

#[test]
fn a_pc_of_128_mib_reads_as_expected() {
    let map = MemoryMap::of_firmware(
        [
            (0, 0x9fc00, Kind::Usable),
            (0x9fc00, 0x400, Kind::Reserved),
            (0xf0000, 0x10000, Kind::Reserved),
            (0x100000, 0x7ee0000, Kind::Usable),
            (0x7fe0000, 0x20000, Kind::Reserved),
            (0xfd_0000_0000, 0x3_0000_0000, Kind::Reserved),
        ]
        .into_iter(),
    )
    .unwrap();
    let region = |base, end, kind| Region { base, end, kind };
    assert_eq!(
        map.regions(),
        [
            region(0, 0x1000, Kind::Reserved),
            region(0x1000, 0x9f000, Kind::Usable),
            region(0x9f000, 0xa0000, Kind::Reserved),
            region(0xf0000, 0x100000, Kind::Reserved),
            region(0x100000, 0x7fe0000, Kind::Usable),
            region(0x7fe0000, 0x8000000, Kind::Reserved),
            region(0xfd_0000_0000, 0x100_0000_0000, Kind::Reserved),
        ]
    );
}

#[test]
fn nonsense_from_the_firmware_does_no_harm() {
    let entries = [(u64::MAX - 5, u64::MAX, Kind::Usable), (u64::MAX - 5, u64::MAX, Kind::Bad), (7, 0, Kind::Bad)];
    assert_tidy(&MemoryMap::of_firmware(entries.into_iter()).unwrap());
}

#[test]
fn a_full_map_is_an_error() {
    let entries = (0..).map(|i| (i * 2 * PAGE_SIZE, PAGE_SIZE, Kind::Reserved));
    let error = MemoryMap::of_firmware(entries.take(CAPACITY + 1)).unwrap_err();
    assert_eq!(error, Error::TooManyRegions);
}
