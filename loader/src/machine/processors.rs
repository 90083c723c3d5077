//! The other CPUs: all are started at once, each finds its structure by its own identity, and parks.

use super::local_apic::LocalApic;
use super::memory::Memory;
use super::{allocate, cpu, exception, handoff, memory_types, serial};
use core::slice;
use core::sync::atomic::{AtomicU64, Ordering};
use loader::acpi::{self, Processor};
use loader::answers::Processors;
use loader::field::put_u64;
use loader::memory_map::{Kind, MemoryMap};
use loader::response::{self, PROCESSOR_WORDS};
use loader::{Error, HHDM, PAGE_SIZE};
use x86_64::instructions::hlt;

/// Where the trampoline may be: real mode reaches no further.
const REAL_MODE: core::ops::Range<u64> = PAGE_SIZE..0xa_0000;
/// Bytes of a CPU's structure, and of a pointer to it.
const STRUCTURE: u64 = PROCESSOR_WORDS as u64 * 8;
const POINTER: u64 = 8;
/// Cycles after which CPUs that are not there get a second start interrupt, which hardware may need, and after which
/// they are given up. At 1 to 4 GHz: 17 to 67 ms; 9 to 34 s, for a host may have many more CPUs to simulate than it has.
const SECOND_TRY: u64 = 1 << 26;
const GIVE_UP: u64 = 1 << 35;

unsafe extern "C" {
    static trampoline_start: u8;
    static trampoline_end: u8;
}

/// The stacks, as `entry.s` reads them: address of the first, size of each, how many are drawn, how many there are.
#[repr(C)]
struct Stacks([AtomicU64; 4]);

#[unsafe(no_mangle)]
static other_stacks: Stacks = Stacks([const { AtomicU64::new(0) }; 4]);

/// What the other CPUs need to know: written before the first is started.
static STRUCTURES: AtomicU64 = AtomicU64::new(0);
static COUNT: AtomicU64 = AtomicU64::new(0);
static TABLES: AtomicU64 = AtomicU64::new(0);
static USE_X2APIC: AtomicU64 = AtomicU64::new(0);
/// Physical address of the trampoline's page.
static TRAMPOLINE: AtomicU64 = AtomicU64::new(0);

/// A CPU's structure while CPUs share it.
#[repr(C)]
struct Structure {
    /// ACPI's identity, and the local APIC's in the upper half.
    ids: u64,
    /// 1 until the CPU is parked.
    absent: AtomicU64,
    /// The kernel's two words.
    _kernel: [AtomicU64; 2],
}

impl Structure {
    const fn apic_id(&self) -> u32 {
        (self.ids >> 32) as u32
    }

    fn is_present(&self) -> bool {
        // Acquire: pairs with the store in `handoff.s`, (1), behind which the CPU uses nothing of the loader.
        self.absent.load(Ordering::Acquire) == 0
    }
}

/// The structures in these bytes, from now on shared by all CPUs.
fn shared(bytes: &'static mut [u8]) -> &'static [Structure] {
    // SAFETY: every value of the bytes is one of the structures; the split leaves none but whole ones that are aligned;
    // and the bytes are given up for good.
    let (before, structures, behind) = unsafe { bytes.align_to::<Structure>() };
    assert!(before.is_empty() && behind.is_empty());
    structures
}

/// What the kernel asks for.
pub(super) struct Wanted {
    /// Local APICs with x2APIC, if there is such a thing.
    pub(super) x2apic: bool,
    /// Bytes of each CPU's stack.
    pub(super) stack_size: u64,
    /// Physical address of the kernel's page tables.
    pub(super) tables: u64,
}

/// Starts every other CPU, waits until all are parked, and lists them with this one.
pub(super) fn start(
    memory: &mut Memory,
    map: &mut MemoryMap,
    rsdp: Option<u64>,
    wanted: &Wanted,
) -> Result<Processors, Error> {
    let boot_apic_id = cpu::apic_id();
    let x2apic = wanted.x2apic && cpu::has_x2apic();
    // SAFETY: with x2APIC, this CPU has it.
    let apic = unsafe { LocalApic::in_mode(x2apic) };

    let count = listed(memory, rsdp, &apic, boot_apic_id).count() as u64;
    let length = count * (STRUCTURE + POINTER);
    let base = allocate(map, "the CPUs' structures", length, PAGE_SIZE, Kind::Reclaimable)?;
    let (bytes, list) = memory.take(base..base + length).split_at_mut((count * STRUCTURE) as usize);
    for (processor, at) in listed(memory, rsdp, &apic, boot_apic_id).zip((0..).step_by(STRUCTURE as usize)) {
        let mut words = response::processor(processor.uid, processor.apic_id);
        words[1] *= u64::from(processor.apic_id != boot_apic_id);
        words.iter().zip((at..).step_by(8)).for_each(|(word, at)| put_u64(bytes, at, *word));
    }
    let structures = shared(bytes);
    if count > 1 {
        prepare(memory, map, structures, wanted, x2apic)?;
        wake(&apic, structures);
    }

    let unreached = unreached(memory, rsdp, &apic);
    if unreached > 0 {
        serial::line(format_args!("{unreached} CPUs can be addressed with x2APIC only; they are left out"));
    }
    let mut present = 0;
    for (structure, address) in structures.iter().zip((base..).step_by(STRUCTURE as usize)) {
        if structure.is_present() {
            put_u64(list, present * POINTER as usize, HHDM + address);
            present += 1;
        } else {
            // It must not come up later, when this memory is the kernel's.
            apic.reset(structure.apic_id());
            serial::line(format_args!(
                "the CPU of APIC identity {} did not start; it is left out",
                structure.apic_id()
            ));
        }
    }
    Ok(Processors { x2apic, boot_apic_id, list: base + count * STRUCTURE, count: present as u64 })
}

/// How many CPUs of the machine's table cannot be addressed.
fn unreached(memory: &Memory, rsdp: Option<u64>, apic: &LocalApic) -> usize {
    let madt = rsdp.and_then(|rsdp| acpi::madt(memory, rsdp)).unwrap_or_default();
    acpi::processors(madt).filter(|processor| !apic.reaches(processor.apic_id)).count()
}

/// The CPUs of the machine's table that can be addressed, this one included, which a machine without a table has too.
fn listed<'m>(
    memory: &'m Memory,
    rsdp: Option<u64>,
    apic: &'m LocalApic,
    boot_apic_id: u32,
) -> impl Iterator<Item = Processor> + 'm {
    let madt = rsdp.and_then(|rsdp| acpi::madt(memory, rsdp)).unwrap_or_default();
    let unlisted = !acpi::processors(madt).any(|processor| processor.apic_id == boot_apic_id);
    let this = unlisted.then_some(Processor { uid: 0, apic_id: boot_apic_id });
    let reached = move |processor: &Processor| processor.apic_id == boot_apic_id || apic.reaches(processor.apic_id);
    this.into_iter().chain(acpi::processors(madt).filter(reached))
}

/// Puts everything in place that a CPU needs to get from its start to where it parks.
fn prepare(
    memory: &mut Memory,
    map: &mut MemoryMap,
    structures: &'static [Structure],
    wanted: &Wanted,
    x2apic: bool,
) -> Result<(), Error> {
    let others = structures.len() as u64 - 1;
    let length = wanted.stack_size.saturating_mul(others);
    let stacks = allocate(map, "the other CPUs' stacks", length, PAGE_SIZE, Kind::Reclaimable)?;
    memory.take(stacks..stacks + length);
    // Relaxed: the start interrupts, sent later, are what the other CPUs see these stores by.
    let set = |word: &AtomicU64, value| word.store(value, Ordering::Relaxed);
    for (word, value) in other_stacks.0.iter().zip([stacks, wanted.stack_size, 0, others]) {
        set(word, value);
    }
    set(&STRUCTURES, structures.as_ptr() as u64);
    set(&COUNT, structures.len() as u64);
    set(&TABLES, wanted.tables);
    set(&USE_X2APIC, x2apic.into());

    let page = map.allocate(PAGE_SIZE, PAGE_SIZE, REAL_MODE, Kind::Reclaimable);
    let page = page.map_err(|error| Error::Memory("the other CPUs' first instructions", error))?;
    let (start, end) = (&raw const trampoline_start, &raw const trampoline_end);
    // SAFETY: the linker puts the trampoline's bytes between these two, in read-only memory.
    let trampoline = unsafe { slice::from_raw_parts(start, end as usize - start as usize) };
    memory.take(page..page + PAGE_SIZE)[..trampoline.len()].copy_from_slice(trampoline);
    set(&TRAMPOLINE, page);
    Ok(())
}

/// Starts the CPUs that are absent, and waits for them as long as makes sense.
fn wake(apic: &LocalApic, structures: &[Structure]) {
    let absent = || structures.iter().filter(|structure| !structure.is_present());
    let page = TRAMPOLINE.load(Ordering::Relaxed);
    // SAFETY: the page holds the trampoline, and everything that follows it is in place.
    let start_absent = || absent().for_each(|structure| unsafe { apic.start(structure.apic_id(), page) });
    absent().for_each(|structure| apic.reset(structure.apic_id()));
    start_absent();
    let begin = cpu::cycles();
    let mut tried_twice = false;
    while absent().next().is_some() {
        let waited = cpu::cycles().wrapping_sub(begin);
        if waited > GIVE_UP {
            return;
        }
        if waited > SECOND_TRY && !tried_twice {
            start_absent();
            tried_twice = true;
        }
        core::hint::spin_loop();
    }
}

/// Entered from `entry.s` by every other CPU, with the end of the stack that it drew.
#[unsafe(no_mangle)]
extern "C" fn other_main(stack_end: u64) -> ! {
    exception::load();
    let get = |word: &AtomicU64| word.load(Ordering::Relaxed);
    // SAFETY: the first CPU does not ask for x2APIC unless it has it, and all CPUs are of a kind.
    let _ = unsafe { LocalApic::in_mode(get(&USE_X2APIC) != 0) };
    memory_types::set_as_kept();
    // SAFETY: the first CPU stored both before it started this one.
    let structures = unsafe { slice::from_raw_parts(get(&STRUCTURES) as *const Structure, get(&COUNT) as usize) };
    let id = cpu::apic_id();
    match structures.iter().find(|structure| structure.apic_id() == id) {
        // SAFETY: the structure has this CPU's identity; each stack is drawn once; the tables are the kernel's.
        Some(own) => unsafe { handoff::park_here(own as *const Structure as u64, stack_end, get(&TABLES)) },
        // Not one that was started.
        None => loop {
            hlt();
        },
    }
}
