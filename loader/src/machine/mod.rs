//! Boot, as one list: what the loader does between the virtual machine's entry and the kernel's.
//!
//! ```text
//!   the first CPU                                every other one
//!   entry.s: long mode, the loader's tables
//!   start information, memory map
//!   kernel: parse, place, load, find requests; modules, if it is in an archive
//!   the kernel's page tables
//!   the other CPUs  ──▶                          entry.s: trampoline, long mode, a stack
//!                                                memory types, local APIC mode
//!                   ◀──                          handoff.s: parked, on the kernel's tables
//!   interrupts masked
//!   answers, the memory map last
//!   handoff.s: the kernel's entry                the address that the kernel gives
//! ```
//! All memory that the loader uses is below 4 GiB, where its own page tables show everything at its physical address.

mod clock;
mod cpu;
mod exception;
mod handoff;
mod interrupts;
mod local_apic;
mod memory;
mod memory_types;
mod processors;
mod serial;
mod stop;

use core::ops::Range;
use handoff::Handoff;
use loader::answers::{self, Facts, File, MOST_TOLD};
use loader::archive::{Archive, Entry};
use loader::elf::Elf;
use loader::layout::Layout;
use loader::memory_map::{Kind, MemoryMap};
use loader::paging::PageTables;
use loader::pvh::{MOST_MODULES, Module, StartInfo, Text};
use loader::request::{Feature, Requests};
use loader::response::Arena;
use loader::{Error, HHDM, PAGE_SIZE, Physical, acpi};
use memory::Memory;

core::arch::global_asm!(include_str!("entry.s"), options(att_syntax));

/// Memory that the loader allocates from: above its own image, below what its page tables show.
const ALLOCATED: Range<u64> = 1 << 20..4 << 30;

/// Entered from `entry.s` with the address of the start information.
#[unsafe(no_mangle)]
extern "C" fn loader_main(start_info: u32) -> ! {
    exception::install();
    // SAFETY: entered once, by the first CPU.
    let mut memory = unsafe { Memory::new() };
    match boot(&mut memory, start_info.into()) {
        Ok(handoff) => handoff.enter(),
        Err(error) => stop::unusable(format_args!("{error}")),
    }
}

fn boot(memory: &mut Memory, start_info: u64) -> Result<Handoff, Error> {
    let start = StartInfo::read(memory, start_info)?;
    let mut map = memory_map(memory, &start)?;

    let handed = start.modules(memory).next().ok_or(Error::NoKernel)?;
    let archive = archive(memory, &handed)?;
    let file = archive.as_ref().map_or(handed, |archive| part(&handed, &archive.entries()[0]));
    let elf = Elf::parse(file_bytes(memory, &file)?)?;
    let span = elf.span();
    let image_address = allocate(&mut map, "the kernel", span.end - span.start, elf.align, Kind::KernelAndModules)?;
    let image = memory.take(image_address..image_address + (span.end - span.start));
    elf.load(file_bytes(memory, &file)?, image);

    let requests = Requests::find(image, elf.loaded())?;
    requests.check_demands(image, span.start)?;
    let entry = requests.entry(image).unwrap_or(elf.entry);
    if !elf.executes(entry) {
        return Err(Error::Entry(entry));
    }

    let copies = copy_modules(memory, &mut map, &handed, modules_of(archive.as_ref()))?;

    let kernel = Kernel { elf: &elf, image: image_address, revision: requests.revision() };
    let tables = page_tables(memory, &mut map, &kernel)?;
    let stack_size = requests.stack_size(image).checked_next_multiple_of(PAGE_SIZE).unwrap_or(u64::MAX);
    let stack = allocate(&mut map, "the kernel's stack", stack_size, PAGE_SIZE, Kind::Reclaimable)?;
    memory_types::set_and_keep();
    let wanted = requests.processors(image).map(|x2apic| processors::Wanted { x2apic, stack_size, tables });
    let processors = match wanted {
        Some(wanted) => Some(processors::start(memory, &mut map, start.rsdp(), &wanted)?),
        None => None,
    };
    interrupts::mask_all(start.rsdp().and_then(|rsdp| acpi::madt(memory, rsdp)));
    let date = if requests.asks_for(Feature::DateAtBoot) { clock::unix_time() } else { None };

    // Nothing is allocated after this: the memory map that the kernel is told is the one it gets.
    let mut arena = answers_arena(memory, &mut map, &start, modules_of(archive.as_ref()))?;
    let file = told_file(&file, b"", start.command_line(memory)?);
    let (mut modules, mut count) = ([file; MOST_TOLD], 0);
    let mut tell = |file| {
        modules[count] = file;
        count += 1;
    };
    let mut address = copies;
    for entry in modules_of(archive.as_ref()) {
        let name = &file_bytes(memory, &handed)?[entry.name.clone()];
        let copy = Module { address, ..part(&handed, entry) };
        tell(told_file(&copy, name, Text { address: 0, bytes: b"" }));
        address += pages(entry);
    }
    let paths = module_paths();
    for (module, path) in start.modules(memory).skip(1).zip(&paths) {
        tell(told_file(&module, path, module.text(memory)?));
    }
    let facts = Facts {
        kernel: file,
        modules: &modules[..count],
        image: (image_address, span.start),
        processors,
        rsdp: start.rsdp(),
        date,
        map: &map,
    };
    answers::answer(&facts, &requests, image, &mut arena);
    Ok(Handoff { entry, stack_end: HHDM + stack + stack_size, tables })
}

/// The firmware's map, with everything taken that lies in memory which the firmware calls free.
fn memory_map(memory: &Memory, start: &StartInfo) -> Result<MemoryMap, Error> {
    let full = |error| Error::Memory("the memory map", error);
    let mut map = MemoryMap::of_firmware(start.map(memory)).map_err(full)?;
    map.take(memory::image(), Kind::Reclaimable).map_err(full)?;
    map.take(start.module_list(), Kind::Reclaimable).map_err(full)?;
    map.take(start.command_line(memory)?.range(), Kind::Reclaimable).map_err(full)?;
    for module in start.modules(memory) {
        map.take(module.range(), Kind::KernelAndModules).map_err(full)?;
        map.take(module.text(memory)?.range(), Kind::Reclaimable).map_err(full)?;
    }
    for (address, table) in start.rsdp().into_iter().flat_map(|rsdp| acpi::tables(memory, rsdp)) {
        map.take(address..address + table.len() as u64, Kind::AcpiReclaimable).map_err(full)?;
    }
    Ok(map)
}

/// Takes pages that the loader can reach.
fn allocate(map: &mut MemoryMap, what: &'static str, bytes: u64, align: u64, kind: Kind) -> Result<u64, Error> {
    map.allocate(bytes, align, ALLOCATED, kind).map_err(|error| Error::Memory(what, error))
}

fn file_bytes<'m>(memory: &'m Memory, file: &Module) -> Result<&'m [u8], Error> {
    memory.bytes(file.address, file.size).ok_or(Error::Unreadable(file.address, file.size))
}

/// The kernel's part of what its page tables show.
struct Kernel<'a> {
    elf: &'a Elf,
    image: u64,
    revision: u64,
}

impl<'a> Kernel<'a> {
    fn layout(&self, map: &'a MemoryMap) -> Layout<'a> {
        Layout { revision: self.revision, map, elf: self.elf, image: self.image, largest: cpu::largest_page() }
    }
}

/// Builds the kernel's page tables and returns their root's address.
fn page_tables(memory: &mut Memory, map: &mut MemoryMap, kernel: &Kernel<'_>) -> Result<u64, Error> {
    let length = kernel.layout(map).most_tables() * PAGE_SIZE;
    let base = allocate(map, "page tables", length, PAGE_SIZE, Kind::Reclaimable)?;
    let mut tables = PageTables::new(memory.take(base..base + length), base);
    kernel.layout(map).build(&mut tables);
    Ok(base)
}

/// The archive that the file is, if it is one.
fn archive(memory: &Memory, file: &Module) -> Result<Option<Archive>, Error> {
    let bytes = file_bytes(memory, file)?;
    Ok(if Archive::is_one(bytes) { Some(Archive::parse(bytes)?) } else { None })
}

/// A file of the archive as if it had been handed over.
const fn part(archive: &Module, entry: &Entry) -> Module {
    let (start, end) = (entry.bytes.start as u64, entry.bytes.end as u64);
    Module { address: archive.address + start, size: end - start, text: 0 }
}

/// The files of the archive behind the kernel's.
fn modules_of(archive: Option<&Archive>) -> &[Entry] {
    archive.map_or(&[], |archive| &archive.entries()[1..])
}

/// The bytes of the pages that a file takes.
const fn pages(entry: &Entry) -> u64 {
    ((entry.bytes.end - entry.bytes.start) as u64).next_multiple_of(PAGE_SIZE)
}

/// Copies the archive's modules to where each begins with a page, one behind the other; the address of the first.
fn copy_modules(memory: &mut Memory, map: &mut MemoryMap, archive: &Module, modules: &[Entry]) -> Result<u64, Error> {
    let room = modules.iter().map(pages).sum();
    if room == 0 {
        return Ok(0);
    }
    let base = allocate(map, "the modules", room, PAGE_SIZE, Kind::KernelAndModules)?;
    let mut copies = memory.take(base..base + room);
    for entry in modules {
        let (copy, rest) = copies.split_at_mut(pages(entry) as usize);
        let bytes = &file_bytes(memory, archive)?[entry.bytes.clone()];
        copy[..bytes.len()].copy_from_slice(bytes);
        copy[bytes.len()..].fill(0);
        copies = rest;
    }
    Ok(base)
}

/// Paths of the files that the virtual machine hands over besides the first: there is no file system that knows better ones.
fn module_paths() -> [[u8; 10]; MOST_MODULES] {
    core::array::from_fn(|index| {
        let mut path = *b"/module-00";
        (path[8], path[9]) = (b'0' + index as u8 / 10, b'0' + index as u8 % 10);
        path
    })
}

/// Memory for the answers.
fn answers_arena(
    memory: &mut Memory,
    map: &mut MemoryMap,
    start: &StartInfo,
    modules: &[Entry],
) -> Result<Arena<'static>, Error> {
    let (mut files, mut text) = (modules.len() as u64, start.command_line(memory)?.bytes.len());
    text += modules.iter().map(|entry| entry.name.len()).sum::<usize>();
    for (module, path) in start.modules(memory).zip(module_paths()) {
        files += 1;
        text += path.len() + module.text(memory)?.bytes.len();
    }
    let room = answers::room(files, text as u64).next_multiple_of(PAGE_SIZE);
    let base = allocate(map, "the answers", room, PAGE_SIZE, Kind::Reclaimable)?;
    Ok(Arena::new(memory.take(base..base + room), HHDM + base))
}

/// What the kernel is told of a file.
fn told_file<'m>(file: &Module, path: &'m [u8], text: Text<'m>) -> File<'m> {
    File { address: file.address, size: file.size, path, text: text.bytes }
}
