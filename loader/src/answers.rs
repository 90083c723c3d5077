//! The answers to a kernel's requests: what the loader found and did, told in the protocol's structures.

use crate::memory_map::{CAPACITY, MemoryMap};
use crate::pvh::MOST_MODULES;
use crate::request::{Feature, Requests};
use crate::response::{Arena, file};
use crate::{HHDM, MOST_FILES, PAGE_SIZE};

/// The loader's name, as kernels see it.
const NAME: &[u8] = b"Palisade loader";
/// Path of the kernel file; there is no file system that could know a better one.
const KERNEL_PATH: &[u8] = b"/kernel";
/// Bits of the MP answer: x2APIC is on.
const X2APIC: u64 = 1;

/// Most further files: those of an archive, and those that the virtual machine hands over.
pub const MOST_TOLD: usize = MOST_FILES + MOST_MODULES;

/// A file in memory.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    /// Physical address.
    pub address: u64,
    /// Length in bytes.
    pub size: u64,
    /// Its path. The kernel's is not told.
    pub path: &'a [u8],
    /// Its command line.
    pub text: &'a [u8],
}

/// The CPUs, started and waiting.
#[derive(Clone, Copy, Debug)]
pub struct Processors {
    /// Whether x2APIC is on.
    pub x2apic: bool,
    /// Local APIC of the CPU that enters the kernel.
    pub boot_apic_id: u32,
    /// Physical address of the list of addresses of all CPUs' structures.
    pub list: u64,
    /// How many CPUs there are.
    pub count: u64,
}

/// Everything that answers are made of.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The kernel file and the kernel's command line.
    pub kernel: File<'a>,
    /// The further files.
    pub modules: &'a [File<'a>],
    /// Physical and virtual address of the kernel's image.
    pub image: (u64, u64),
    /// The CPUs, if they were asked for.
    pub processors: Option<Processors>,
    /// Physical address of ACPI's root pointer.
    pub rsdp: Option<u64>,
    /// Seconds since the start of 1970.
    pub date: Option<i64>,
    /// The memory map, final.
    pub map: &'a MemoryMap,
}

/// Most bytes that answers take, for so many files whose paths and command lines have this length together.
#[must_use]
pub const fn room(files: u64, text: u64) -> u64 {
    // A region is a structure of three words and a pointer to it; a file has a structure, a pointer, and a path and a text
    // that end on boundaries; the other answers are less than a page.
    CAPACITY as u64 * 32 + files * 160 + text + PAGE_SIZE
}

/// Answers every request that can be answered.
///
/// # Panics
/// The arena is smaller than [`room`].
pub fn answer(facts: &Facts<'_>, requests: &Requests, image: &mut [u8], arena: &mut Arena<'_>) {
    let command_line = arena.text(facts.kernel.text);
    for feature in Feature::ALL.iter().copied().filter(|feature| requests.asks_for(*feature)) {
        let answer = match feature {
            Feature::BootloaderInfo => {
                let (name, version) = (arena.text(NAME), arena.text(env!("CARGO_PKG_VERSION").as_bytes()));
                Some(arena.words(&[0, name, version]))
            }
            Feature::CommandLine => Some(arena.words(&[0, command_line])),
            // A virtual machine that enters through PVH has at most a BIOS, which is type 0.
            Feature::FirmwareType => Some(arena.words(&[0, 0])),
            Feature::StackSize | Feature::EntryPoint => Some(arena.words(&[0])),
            Feature::Hhdm => Some(arena.words(&[0, HHDM])),
            // Mode 0: four levels.
            Feature::PagingMode => Some(arena.words(&[0, 0])),
            Feature::ExecutableFile => {
                let path = arena.text(KERNEL_PATH);
                let file = arena.words(&file(HHDM + facts.kernel.address, facts.kernel.size, path, command_line));
                Some(arena.words(&[0, file]))
            }
            Feature::ExecutableAddress => Some(arena.words(&[0, facts.image.0, facts.image.1])),
            Feature::Mp => facts.processors.map(|processors| {
                let flags = if processors.x2apic { X2APIC } else { 0 } | u64::from(processors.boot_apic_id) << 32;
                arena.words(&[0, flags, processors.count, HHDM + processors.list])
            }),
            // Base revision 3 alone tells the physical address.
            Feature::Rsdp => {
                facts.rsdp.map(|rsdp| arena.words(&[0, if requests.revision() < 3 { HHDM + rsdp } else { rsdp }]))
            }
            Feature::DateAtBoot => facts.date.map(|date| arena.words(&[0, date.cast_unsigned()])),
            Feature::Module => (!facts.modules.is_empty()).then(|| answer_modules(arena, facts.modules)),
            Feature::MemoryMap => Some(answer_memory_map(arena, facts.map)),
        };
        if let Some(answer) = answer {
            requests.answer(image, feature, answer);
        }
    }
    requests.answer_tag(image);
}

fn answer_memory_map(arena: &mut Arena<'_>, map: &MemoryMap) -> u64 {
    let regions = map.regions();
    let words = regions.iter().flat_map(|region| [region.base, region.end - region.base, region.kind as u64]);
    let (entries, _) = arena.list(words);
    let (list, count) = arena.list((0..regions.len() as u64).map(|index| entries + index * 24));
    arena.words(&[0, count, list])
}

fn answer_modules(arena: &mut Arena<'_>, modules: &[File<'_>]) -> u64 {
    let mut structures = [0; MOST_TOLD];
    for (module, structure) in modules.iter().zip(&mut structures) {
        let (path, text) = (arena.text(module.path), arena.text(module.text));
        *structure = arena.words(&file(HHDM + module.address, module.size, path, text));
    }
    let (list, count) = arena.list(structures.into_iter().take(modules.len()));
    // Revision 1: required internal modules are honoured, by refusing to boot without them.
    arena.words(&[1, count, list])
}

#[cfg(test)]
mod tests;
