//! Boot, as one list: the first CPU on the left, every other one on the right.
//!
//! ```text
//!   the boot stack                               the kernel's page tables
//!   descriptors, per-CPU data, features          the CPU's own stack
//!   serial ports                                 descriptors, per-CPU data, features, stacks for #DF, NMI, #MC
//!   boot loader's answers, command line          local APIC
//!   frames, page tables, heap                    online: from here on asked to flush
//!   stacks of its own: from here on an           timer
//!     overflow of the boot stack is told         idle
//!   local APIC, clocks
//!   shootdown protocol; online
//!   the other CPUs, one after the other  ──▶
//!   thread `main`; timer; idle
//! ```
//! The boot loader's stacks are left at once, for guarded ones, which are left for good at the end of the list.
//! Memory that the boot loader marks as reclaimable is not reclaimed: its answers, and the command line in them, stay
//! where they are.

mod loader;
pub(crate) mod stack;

use crate::cpu::descriptors::OwnStack;
use crate::cpu::{self, Cpu, REACHABLE, apic, entry, features};
use crate::mem::paging::{self, Access, Section};
use crate::mem::slots::Kind;
use crate::mem::{MapError, guarded};
use crate::mem::{PAGE_SIZE, StackKind, custody, frames, oracle, tlb};
use crate::sync::irq::IrqsOff;
use crate::thread::watermark;
use crate::{bug, console, debug, interleave, misdeed, perturb, record, thread, time, trace, user};
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use smp::{CpuId, CpuSet, MAX_CPUS};
use spin::Once;
use wire::cmdline::{Bug, Trace};
use wire::{Options, Record, exit};
use x86_64::instructions::{hlt, interrupts, port::Port};

/// Pages of the stack on which a CPU's interrupt handlers and its scheduler run.
const CPU_STACK_PAGES: u64 = 4;
/// Pages of each stack for #DF, NMI and #MC.
const OWN_STACK_PAGES: u64 = 4;
/// Pages of the stack of the thread `main`: it gathers and sends the results.
const MAIN_STACK_PAGES: u64 = 64;

static OPTIONS: Once<Options<'static>> = Once::new();
/// CPUs were left where the boot loader keeps them.
static PARKED: AtomicBool = AtomicBool::new(false);

#[cfg(target_os = "none")]
unsafe extern "Rust" {
    /// The boot image's main function; [`crate::entry!`] defines it.
    safe fn palisade_main() -> Result<(), &'static str>;
}
#[cfg(not(target_os = "none"))]
fn palisade_main() -> Result<(), &'static str> {
    Ok(())
}

/// What the command line says.
///
/// # Panics
/// If the kernel has not read it yet.
pub fn options() -> &'static Options<'static> {
    OPTIONS.get().expect("the command line is read first")
}

/// The files that came with the kernel: path and contents of each.
pub(crate) fn modules() -> impl Iterator<Item = (&'static str, &'static [u8])> {
    loader::modules().filter(|(_, address, _)| address.is_multiple_of(PAGE_SIZE)).map(|(path, address, size)| {
        // SAFETY: the boot loader put the file there and says that the memory is in use; the kernel maps it, read-only, for
        // ever (`take_over_memory`).
        (path, unsafe { core::slice::from_raw_parts(address as *const u8, size as usize) })
    })
}

/// The first CPU's way.
///
/// # Safety
/// Called once, on the boot stack, in the state that the Limine protocol describes.
unsafe extern "C" fn start() -> ! {
    let cpu = cpu::boot_cpu();
    // SAFETY: the first thing that happens, and once.
    unsafe {
        cpu.descriptors.load();
        cpu::install(cpu);
        features::enable(cpu, user::system_call_entry());
    }
    console::init();
    record::init();
    println!("Palisade {}", env!("CARGO_PKG_VERSION"));
    let answers = loader::answers().unwrap_or_else(|missing| unusable(format_args!("boot loader: {missing}")));
    let options = read_command_line(answers.cmdline);
    let (memory, set_aside) = take_over_memory(&answers, options);
    watermark::init(options.watermark);
    give_stacks(cpu);
    if bug::armed(Bug::BootOverflow) {
        misdeed::recurse_for_ever();
    }
    cpu.stats.allocate();

    let irqs = IrqsOff::new();
    apic::discover();
    cpu.apic_id.set(apic::enable(&irqs));
    time::calibrate(&irqs);

    let offered = answers.cpus.len();
    let used = offered.min(MAX_CPUS);
    trace::init(options.trace, options.trace_entries, used, set_aside);
    attach_ring(cpu);
    if let Err(error) = tlb::init(options, used) {
        unusable(format_args!("command line: {error}"));
    }
    custody::init(options.deferred_pages);
    oracle::init(options.oracle);
    thread::pending::init(options.reaping);
    perturb::init(options.perturb);
    thread::set_defaults(options.stack_pages, options.guard_pages);
    thread::set_stack_cache(options.cache);
    thread::offset::init(options.stack_offset, options.seed);
    thread::set_exit_delay(options.delay);
    time::set_patience(options.patience);
    interleave::init(options.interleave, options.seed);
    tlb::came_online();
    start_others(&answers, cpu.apic_id.get(), used);

    println!(
        "{used} CPUs, {} MiB, {}, booted by {} {} ({:?})",
        memory >> 20,
        if apic::is_x2apic() { "x2APIC" } else { "xAPIC" },
        answers.bootloader.0,
        answers.bootloader.1,
        answers.firmware,
    );
    debug::describe();
    if options.trace == Trace::Lossless {
        record::mask_interrupts();
    }
    say_hello(&answers, used, memory);
    if let Err(error) = trace::start(options) {
        unusable(format_args!("{error}"));
    }
    let main = thread::Builder::new().name("main").stack_pages(MAIN_STACK_PAGES).on(CpuId::new(0)).spawn(run_main);
    if let Err(error) = main {
        unusable(format_args!("{error}"));
    }
    apic::start_timer(&irqs, time::timer_count(options.tick_hz));
    core::mem::forget(irqs); // interrupts come on with the first thread
    cpu.irq_off_depth.set(0);
    // SAFETY: stack, idle thread and descriptors are set up; interrupts are off.
    unsafe { entry::start() }
}

/// Any other CPU's way.
///
/// # Safety
/// Called once for each CPU, on the stack of its own that its handlers will use, with the kernel's page tables.
unsafe extern "C" fn start_other(cpu: &'static Cpu) -> ! {
    // SAFETY: once, on the CPU that owns them.
    unsafe {
        cpu.descriptors.load();
        cpu::install(cpu);
        features::enable(cpu, user::system_call_entry());
    }
    set_own_stacks(cpu);
    let irqs = IrqsOff::new();
    let id = apic::enable(&irqs);
    assert!(id == cpu.apic_id.get(), "a CPU that was started as APIC {} is APIC {id}", cpu.apic_id.get());
    tlb::came_online();
    apic::start_timer(&irqs, time::timer_count(options().tick_hz));
    core::mem::forget(irqs);
    cpu.irq_off_depth.set(0);
    // SAFETY: as for the first CPU.
    unsafe { entry::start() }
}

fn read_command_line(line: &'static str) -> &'static Options<'static> {
    let options = Options::parse(line).unwrap_or_else(|error| unusable(format_args!("command line: {error}")));
    if let Some(bug) = options.bug
        && let Err(error) = bug::arm(bug)
    {
        unusable(format_args!("command line: 'bug={bug}': {error}"));
    }
    OPTIONS.call_once(|| options)
}

/// Frames from the boot loader's map, page tables of our own; gives the bytes of memory that can be handed out, and the
/// address of what was set aside for the trace rings.
fn take_over_memory(answers: &loader::Answers, options: &Options<'_>) -> (u64, u64) {
    paging::set_hhdm(answers.hhdm);
    let cpus = answers.cpus.len().min(MAX_CPUS);
    let rings = trace::ring::bytes(options.trace, options.trace_entries, cpus);
    // SAFETY: usable memory is unused, and mapped at the offset.
    let taken = unsafe { frames::init(answers.usable(), answers.kept(), rings) };
    let taken = taken.unwrap_or_else(|_| unusable(format_args!("no memory for trace rings of {} KiB", rings >> 10)));
    let sections = image_sections();
    let modules = loader::modules().filter(|(_, address, size)| address.is_multiple_of(PAGE_SIZE) && *size > 0);
    let modules = modules.map(|(_, address, size)| (address - answers.hhdm, size.next_multiple_of(PAGE_SIZE)));
    paging::build(answers.mapped(), modules, &sections, answers.physical_base, answers.virtual_base);
    stack::assert_intact();
    // SAFETY: the tables map the image, and in it the boot stack.
    unsafe { paging::activate() };
    taken
}

/// The image's parts: text, constants, and the data that is not a guard of the boot stack.
fn image_sections() -> [Section; 5] {
    let edges = image_edges();
    let [text, constants, data] = [0, 1, 2].map(|part| (edges[2 * part], edges[2 * part + 1]));
    let section = |(start, end), access| Section { start, end, access };
    let [below, boot_stack, above] = stack::leave_guards_out(&section(data, Access::ReadWrite));
    [section(text, Access::ReadExecute), section(constants, Access::Read), below, boot_stack, above]
}

/// The addresses of the kernel image.
pub(crate) fn image_range() -> core::ops::Range<u64> {
    let edges = image_edges();
    edges[0]..edges[5]
}

/// Start and end of text, constants and data.
fn image_edges() -> [u64; 6] {
    #[cfg(target_os = "none")]
    {
        unsafe extern "C" {
            static palisade_text_start: u8;
            static palisade_text_end: u8;
            static palisade_rodata_start: u8;
            static palisade_rodata_end: u8;
            static palisade_data_start: u8;
            static palisade_data_end: u8;
        }
        [
            &raw const palisade_text_start as u64,
            &raw const palisade_text_end as u64,
            &raw const palisade_rodata_start as u64,
            &raw const palisade_rodata_end as u64,
            &raw const palisade_data_start as u64,
            &raw const palisade_data_end as u64,
        ]
    }
    #[cfg(not(target_os = "none"))]
    [0; 6]
}

/// Maps the stacks that a CPU has besides its threads': one for handlers and the scheduler, one for the idle thread,
/// and, in `own`, those for #DF, NMI and #MC. All between guards.
fn give_stacks(cpu: &'static Cpu) {
    let all = || -> Result<(), MapError> {
        let map = |pages, kind| {
            let stack = guarded::map_fresh(pages, 1, watermark::fill(), Access::ReadWrite, Kind::Stack)?;
            stack.set_stack_kind(kind, cpu.id());
            Ok::<_, MapError>(stack.end())
        };
        cpu.stack_top.set(map(CPU_STACK_PAGES, StackKind::Interrupt)?);
        for (top, which) in cpu.own_stack_tops.iter().zip(OwnStack::ALL) {
            top.set(map(OWN_STACK_PAGES, which.kind())?);
        }
        thread::prepare_idle(cpu)
    };
    if let Err(error) = all() {
        unusable(format_args!("no stacks for {}: {error}", cpu.id()));
    }
    if cpu.id().index() == 0 {
        set_own_stacks(cpu);
    }
}

/// On the CPU itself.
fn set_own_stacks(cpu: &'static Cpu) {
    for (top, which) in cpu.own_stack_tops.iter().zip(OwnStack::ALL) {
        // SAFETY: mapped for this purpose by `give_stacks`.
        unsafe { cpu.descriptors.set_stack(which, top.get()) }
    }
}

fn attach_ring(cpu: &Cpu) {
    trace::ring::attach(&cpu.trace, cpu.id().index(), options().trace == Trace::Lossless);
}

/// Starts all other CPUs, and waits until each is online.
fn start_others(answers: &loader::Answers, boot_apic_id: u32, used: usize) {
    let offered = answers.cpus.len();
    if offered > used {
        PARKED.store(true, Ordering::Relaxed);
        println!("the machine has {offered} CPUs, this kernel is built for {MAX_CPUS}: {} stay parked", offered - used);
    }
    let others = answers.cpus.iter().filter(|info| info.lapic_id != boot_apic_id);
    for (number, info) in (1..used).zip(others) {
        let cpu = cpu::allocate(CpuId::new(number), info.lapic_id);
        cpu.stats.allocate();
        attach_ring(cpu);
        give_stacks(cpu);
        info.extra.store(core::ptr::from_ref(cpu) as u64, Ordering::Release);
        info.goto_address.write(stack::start_other);
    }
    let all = CpuSet::first(used);
    let since = time::now();
    while REACHABLE.load(Ordering::Acquire) != all {
        if time::now() - since > time::patience() {
            let missing: CpuSet = all.filter(|cpu| !REACHABLE.load(Ordering::Relaxed).contains(*cpu)).collect();
            unusable(format_args!("the CPUs {missing:?} do not come up"));
        }
        core::hint::spin_loop();
    }
}

/// Whether some CPUs were left where the boot loader keeps them, so that "all others" is not what it seems.
pub(crate) fn has_parked_cpus() -> bool {
    PARKED.load(Ordering::Relaxed)
}

fn say_hello(answers: &loader::Answers, used: usize, memory: u64) {
    let mut name = [0u8; 48];
    let bootloader = loader::joined(answers.bootloader, &mut name);
    record::send(&Record::Hello {
        version: wire::VERSION,
        tsc_hz: time::tsc_hz(),
        cpus: used as u16,
        cpus_offered: answers.cpus.len() as u16,
        x2apic: apic::is_x2apic(),
        memory,
        bootloader,
        firmware: answers.firmware,
        cmdline: answers.cmdline,
    });
}

fn run_main() {
    match palisade_main() {
        Ok(()) => exit(true, "every promise held"),
        Err(reason) => exit(false, reason),
    }
}

/// Ends the run with a verdict.
pub fn exit(passed: bool, reason: &str) -> ! {
    println!("{}: {reason}", if passed { "PASS" } else { "FAIL" });
    trace::finish(passed);
    record::send(&Record::Verdict { passed, reason });
    palisade_exit(if passed { exit::PASS } else { exit::FAIL })
}

/// Ends a run that cannot do what it was asked to.
pub(crate) fn unusable(reason: fmt::Arguments<'_>) -> ! {
    println!("cannot run: {reason}");
    record::send(&Record::Verdict { passed: false, reason: "cannot run what was asked for" });
    palisade_exit(exit::UNUSABLE)
}

/// Ends QEMU, or if this is none, halts. A name that a debugger finds: every run that ends by itself ends here.
#[cfg_attr(target_os = "none", unsafe(no_mangle))]
pub(crate) extern "C" fn palisade_exit(value: u32) -> ! {
    // SAFETY: the debug-exit device has this port, or nothing has.
    unsafe { Port::new(exit::PORT).write(value) };
    interrupts::disable();
    loop {
        hlt();
    }
}
