//! Each answer, read back the way a kernel reads it: by following pointers.

use super::*;
use crate::field::u64_at;
use crate::memory_map::Kind;

const ARENA: u64 = HHDM + 0x50_0000;

/// A kernel's request for everything, the answers, and the memory they are in.
struct Answered {
    image: Vec<u8>,
    memory: Vec<u8>,
}

impl Answered {
    fn new(revision: u64, edit: impl FnOnce(&mut Facts<'_>)) -> Self {
        let tag = [0xf956_2b2d_5c95_a6c8, 0x6a7b_3849_4453_6bdc, revision];
        let requests = Feature::ALL.iter().flat_map(|feature| {
            let [high, low] = feature.id();
            [0xc7b1_dd30_df4c_8b88, 0x0a82_e883_a194_f07b, high, low, 0, 0, 0, 0]
        });
        let mut image: Vec<u8> = tag.into_iter().chain(requests).flat_map(u64::to_le_bytes).collect();
        let found = Requests::find(&image, core::iter::once(0..image.len())).unwrap();
        let entries = [(0, 0x9f000, Kind::Usable), (0x10_0000, 0x100_0000, Kind::Usable)];
        let map = MemoryMap::of_firmware(entries.into_iter()).unwrap();
        let mut facts = Facts {
            kernel: File { address: 0x7f_0000, size: 0x1234, path: b"", text: b"run=test" },
            modules: &[],
            image: (0x20_0000, crate::KERNEL_FLOOR),
            processors: Some(Processors { x2apic: true, boot_apic_id: 3, list: 0x6000, count: 4 }),
            rsdp: Some(0xf_5000),
            date: Some(-1),
            map: &map,
        };
        edit(&mut facts);
        let text = facts.modules.iter().map(|module| (module.path.len() + module.text.len()) as u64).sum::<u64>() + 8;
        let mut memory = vec![0xee; room(1 + facts.modules.len() as u64, text) as usize];
        answer(&facts, &found, &mut image, &mut Arena::new(&mut memory, ARENA));
        Self { image, memory }
    }

    /// The words of a feature's answer; none if there is no answer.
    fn words<const N: usize>(&self, feature: Feature) -> Option<[u64; N]> {
        let index = Feature::ALL.iter().position(|other| *other == feature).unwrap();
        match u64_at(&self.image, 24 + index * 64 + 40).unwrap() {
            0 => None,
            address => Some(self.at(address)),
        }
    }

    fn at<const N: usize>(&self, address: u64) -> [u64; N] {
        assert!(address.is_multiple_of(8));
        core::array::from_fn(|index| u64_at(&self.memory, (address - ARENA) as usize + index * 8).unwrap())
    }

    fn text(&self, address: u64) -> &[u8] {
        self.memory[(address - ARENA) as usize..].split(|byte| *byte == 0).next().unwrap()
    }
}

#[test]
fn every_answer_says_what_is_true() {
    let answered = Answered::new(2, |_| {});
    let [_, name, version] = answered.words(Feature::BootloaderInfo).unwrap();
    assert_eq!((answered.text(name), answered.text(version)), (NAME, env!("CARGO_PKG_VERSION").as_bytes()));
    let [_, command_line] = answered.words(Feature::CommandLine).unwrap();
    assert_eq!(answered.text(command_line), b"run=test");
    let [_, file] = answered.words(Feature::ExecutableFile).unwrap();
    let [revision, address, size, path, text, rest @ ..] = answered.at::<14>(file);
    assert_eq!((revision, address, size, rest), (0, HHDM + 0x7f_0000, 0x1234, [0; 9]));
    assert_eq!((answered.text(path), text), (KERNEL_PATH, command_line), "the same command line, not a copy");
    assert_eq!(answered.words(Feature::FirmwareType), Some([0, 0]));
    assert_eq!(answered.words(Feature::StackSize), Some([0]));
    assert_eq!(answered.words(Feature::EntryPoint), Some([0]));
    assert_eq!(answered.words(Feature::Hhdm), Some([0, HHDM]));
    assert_eq!(answered.words(Feature::PagingMode), Some([0, 0]));
    assert_eq!(answered.words(Feature::Mp), Some([0, 3 << 32 | 1, 4, HHDM + 0x6000]));
    assert_eq!(answered.words(Feature::DateAtBoot), Some([0, u64::MAX]));
    assert_eq!(answered.words(Feature::ExecutableAddress), Some([0, 0x20_0000, crate::KERNEL_FLOOR]));
}

#[test]
fn the_memory_map_is_told_entry_by_entry() {
    let answered = Answered::new(2, |_| {});
    let [_, count, list] = answered.words(Feature::MemoryMap).unwrap();
    assert_eq!(count, 3);
    let entries = answered.at::<3>(list).map(|entry| answered.at::<3>(entry));
    assert_eq!(entries, [[0, 0x1000, 1], [0x1000, 0x9e000, 0], [0x10_0000, 0x100_0000, 0]]);
}

#[test]
fn acpis_root_pointer_is_physical_in_revision_3_alone() {
    for (revision, expected) in [(0, HHDM + 0xf_5000), (1, HHDM + 0xf_5000), (2, HHDM + 0xf_5000), (3, 0xf_5000)] {
        assert_eq!(Answered::new(revision, |_| {}).words(Feature::Rsdp), Some([0, expected]));
    }
}

#[test]
fn what_does_not_exist_is_not_answered() {
    let answered = Answered::new(3, |facts| (facts.processors, facts.rsdp, facts.date) = (None, None, None));
    for feature in [Feature::Mp, Feature::Rsdp, Feature::DateAtBoot, Feature::Module] {
        assert_eq!(answered.words::<1>(feature), None, "{feature:?}");
    }
}

#[test]
fn modules_are_listed_in_order() {
    let modules: Vec<_> = (0..MOST_MODULES as u64)
        .map(|index| File {
            address: index << 12,
            size: index,
            path: &b"/module-0123456789abcdef"[..8 + index as usize],
            text: &b"0123456789abcdef"[..index as usize],
        })
        .collect();
    let leaked: &'static [File<'static>] = modules.leak();
    let answered = Answered::new(2, |facts| facts.modules = leaked);
    let [revision, count, list] = answered.words(Feature::Module).unwrap();
    assert_eq!((revision, count), (1, MOST_MODULES as u64));
    for (index, structure) in answered.at::<MOST_MODULES>(list).into_iter().enumerate() {
        let [_, address, size, path, text] = answered.at(structure);
        assert_eq!((address, size), (HHDM + ((index as u64) << 12), index as u64));
        assert_eq!(answered.text(path), leaked[index].path);
        assert_eq!(answered.text(text), leaked[index].text);
    }
}
