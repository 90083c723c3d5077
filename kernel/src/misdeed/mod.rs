//! Misdeeds for tests: what a broken thread or handler might do, done on purpose. Most of them hit the calling thread alone; those that
//! hit the machine say so.
//!
//! The functions here are safe to call and keep to no rule of Rust's, which is what they are for. They are there with the cargo
//! feature `misdeeds` alone.

mod ambush;

pub(crate) use ambush::passes;
pub use ambush::{Deed, ambush, nmi};

use crate::cpu;
use crate::mem::{Access, GuardedMapping, MapError, Owner, PhysAddr, Region, StackKind, owner_of, probe};
use crate::sync::SpinLock;
use crate::sync::irq::IrqsOff;
use crate::thread::{self, Builder, StackMemory};
use core::hint::black_box;
use smp::CpuId;

/// [`Builder::on_bare`], for a thread that needs little.
pub fn on_bare<'s, const PAGES: usize>(builder: Builder<'s>, memory: &'static StackMemory<PAGES>) -> Builder<'s> {
    // SAFETY: the caller knows what the thread needs; nothing here can.
    unsafe { builder.on_bare(memory) }
}

/// [`GuardedMapping::physical`], for memory at which writing does no harm.
///
/// # Errors
/// As there.
pub fn map_physical(physical: PhysAddr, pages: u64, guard: u64, access: Access) -> Result<GuardedMapping, MapError> {
    // SAFETY: the caller knows what is there; nothing here can.
    unsafe { GuardedMapping::physical(physical, pages, guard, access) }
}

/// Writes a byte `distance` bytes below the calling thread's stack (1 is the byte next to it).
///
/// # Panics
/// If that is not inside the smallest guard.
pub fn write_below_stack(distance: u64) {
    assert!((1..=4096).contains(&distance), "{distance} is not inside a guard");
    let (start, _) = thread::stack_bounds();
    // SAFETY: in the guard, where nothing is mapped: the write faults, and ends this thread.
    unsafe { ((start - distance) as *mut u8).write_volatile(1) }
}

/// Writes a byte `distance` bytes above the calling thread's stack (1 is the byte next to it).
///
/// # Panics
/// If that is not inside the smallest guard.
pub fn write_above_stack(distance: u64) {
    assert!((1..=4096).contains(&distance), "{distance} is not inside a guard");
    let (_, end) = thread::stack_bounds();
    // SAFETY: in the guard, as above.
    unsafe { ((end + distance - 1) as *mut u8).write_volatile(1) }
}

/// Writes a byte into a guard, anybody's: the calling thread dies of it, the machine if a handler calls.
///
/// # Panics
/// If `address` is in no guard.
pub fn write_to_guard(address: u64) {
    let region = owner_of(address).and_then(|owner| owner.hit()).map(|hit| hit.region);
    assert!(matches!(region, Some(Region::Guard(..))), "{address:#x} is in no guard");
    // SAFETY: in a guard, where nothing is mapped: the write faults, and ends this thread.
    unsafe { (address as *mut u8).write_volatile(1) }
}

/// Whether the first and the last word of the calling thread's stack can be written.
#[must_use]
pub fn can_write_own_edges() -> bool {
    let (start, end) = thread::stack_bounds();
    [start, end - 8].into_iter().all(rewrite)
}

/// Whether the first and the last word of a stack can be written: those that nobody is on, of kinds that are hardly ever used.
///
/// # Panics
/// If it is of another kind.
#[must_use]
pub fn can_write_edges(kind: StackKind, start: u64, end: u64) -> bool {
    assert!(matches!(kind, StackKind::MachineCheck | StackKind::Boot), "somebody may be on a {kind} stack");
    [start, end - 8].into_iter().all(rewrite)
}

/// Whether the word at this address, of a static that somebody lends for a stack, can be written.
///
/// # Panics
/// If it is not in the image.
#[must_use]
pub fn can_rewrite(address: u64) -> bool {
    assert!(owner_of(address) == Some(Owner::Image), "{address:#x} is not in the image");
    rewrite(address)
}

fn rewrite(address: u64) -> bool {
    // SAFETY: the value that is there already, in a stack at a place that nobody writes to meanwhile.
    probe::read(address).is_some_and(|there| unsafe { probe::write(address, there) })
}

/// Reads from an address at which nothing is.
///
/// # Panics
/// If something is there.
pub fn read_nowhere(address: u64) {
    assert!(owner_of(address).is_none(), "{address:#x} is somebody's");
    // SAFETY: not mapped: the read faults, and ends this thread.
    black_box(unsafe { (address as *const u64).read_volatile() });
}

/// Reads the null page.
pub fn read_null() {
    // SAFETY: the null page is never mapped: the read faults, and ends this thread.
    black_box(unsafe { (64 as *const u64).read_volatile() });
}

/// Reads the word at any address.
pub fn read_at(address: u64) {
    // SAFETY: a read of memory has no effect, but that of what is not mapped faults, and ends this thread.
    black_box(unsafe { (address as *const u64).read_volatile() });
}

/// Writes a word at any address: the one that is there. If it is mapped and may be written nothing changes, unless somebody else writes
/// there at the same moment.
pub fn write_at(address: u64) {
    let there = crate::mem::probe::read(address).unwrap_or(0);
    // SAFETY: of memory that nobody else writes to meanwhile, by the caller's choice of it; or the write faults, and ends this thread.
    unsafe { (address as *mut u64).write_volatile(there) }
}

/// The machine's instruction to return, and nothing else.
pub const RETURN: u8 = 0xc3;

/// Calls what is at this address.
///
/// # Panics
/// If that can be read, and is not [`RETURN`].
pub fn execute_at(address: u64) {
    let there = crate::mem::probe::read(address).map(|word| word as u8);
    assert!(there.is_none_or(|byte| byte == RETURN), "what is at {address:#x} does something");
    // SAFETY: it returns at once, if it may be executed; else it faults, and ends this thread.
    unsafe { core::mem::transmute::<u64, extern "C" fn()>(address)() }
}

/// Writes to a frame that was just given free, as through a translation that should be gone.
///
/// # Panics
/// Without the oracle, which keeps such frames from everybody.
pub fn write_to_freed(frame: crate::mem::PhysAddr) {
    assert!(crate::options().oracle, "somebody else's memory would be written to");
    // SAFETY: the oracle has the frame, and nobody uses what is in it.
    unsafe { ((crate::mem::paging::hhdm(frame.0) + 64) as *mut u64).write_volatile(1) }
}

/// Executes an instruction that there is not.
pub fn execute_nonsense() {
    // SAFETY: faults, and ends this thread.
    unsafe { core::arch::asm!("ud2") }
}

/// Writes to the kernel's read-only data; whether that was allowed.
#[must_use]
pub fn write_to_constant() -> bool {
    static CONSTANT: [u64; 2] = [0x5afe, 0];
    // SAFETY: the value that is there already, so nothing changes even if the write goes through.
    unsafe { crate::mem::probe::write(&raw const CONSTANT as u64, 0x5afe) }
}

/// Writes to the kernel's code; whether that was allowed.
#[must_use]
pub fn write_to_code() -> bool {
    let at = write_to_code as *const () as u64;
    let there = crate::mem::probe::read(at).unwrap_or(0);
    // SAFETY: as above.
    unsafe { crate::mem::probe::write(at, there) }
}

/// Calls itself until the stack ends.
pub fn recurse_for_ever() {
    fn down(depth: u64) -> u64 {
        let here = black_box([depth; 8]);
        if black_box(depth) == u64::MAX { 0 } else { down(depth + 1) + here[(depth % 8) as usize] }
    }
    black_box(down(0));
}

/// Runs `f` with exactly `left` bytes of stack left, to the next multiple of 16.
///
/// # Panics
/// If the stack is not that large.
pub fn with_stack_left(left: u64, f: &mut dyn FnMut()) {
    extern "C" fn run(f: &mut &mut dyn FnMut()) {
        f();
    }
    #[unsafe(naked)]
    unsafe extern "C" fn call(f: &mut &mut dyn FnMut(), rsp: u64, run: extern "C" fn(&mut &mut dyn FnMut())) {
        core::arch::naked_asm!("push rbx", "mov rbx, rsp", "mov rsp, rsi", "call rdx", "mov rsp, rbx", "pop rbx", "ret")
    }
    let (start, end) = thread::stack_bounds();
    let rsp = (start + left).next_multiple_of(16); // as the calling convention has it
    assert!(rsp < end - 512, "{left} is not on the stack, or in use");
    let mut f = f;
    // SAFETY: below what is in use of the calling thread's own stack.
    unsafe { call(&mut f, rsp, run) }
}

/// Spins with exactly `left` bytes of stack left: an interrupt finds no more to be delivered on.
///
/// # Panics
/// If the stack is not that large.
pub fn spin_at_the_edge(left: u64, turns: u64) {
    #[unsafe(naked)]
    unsafe extern "C" fn spin(rsp: u64, turns: u64) {
        core::arch::naked_asm!("mov rax, rsp", "mov rsp, rdi", "2: pause", "dec rsi", "jnz 2b", "mov rsp, rax", "ret")
    }
    let (start, end) = thread::stack_bounds();
    assert!(left.is_multiple_of(8) && start + left < end, "{left} is not on the stack");
    // SAFETY: below what is in use of the calling thread's own stack, where interrupts may write anyway.
    unsafe { spin(start + left, turns.max(1)) }
}

/// Faults with this in the frame pointer's register.
pub fn fault_with_frame_pointer(rbp: u64) {
    #[unsafe(naked)]
    unsafe extern "C" fn fault(rbp: u64) {
        core::arch::naked_asm!("mov rbp, rdi", "ud2")
    }
    // SAFETY: faults, and ends this thread.
    unsafe { fault(rbp) }
}

/// Spins for ever with this in the frame pointer's register.
pub fn spin_with_frame_pointer(rbp: u64) {
    #[unsafe(naked)]
    unsafe extern "C" fn spin(rbp: u64) {
        core::arch::naked_asm!("mov rbp, rdi", "2: pause", "jmp 2b")
    }
    // SAFETY: does not come back; nothing is lost.
    unsafe { spin(rbp) }
}

/// CPUs that are said to idle while they run a thread.
#[must_use]
pub fn falsely_idle() -> smp::CpuSet {
    let _irqs = IrqsOff::new();
    let idle = thread::idle_cpus();
    cpu::all()
        .filter(|cpu| idle.contains(cpu.id()) && !core::ptr::eq(cpu.current(), &cpu.idle))
        .map(cpu::Cpu::id)
        .collect()
}

/// Calls a function whose frame is `BYTES` large, of which only the far end is written.
pub fn call_with_frame<const BYTES: usize>() {
    #[inline(never)]
    fn wide<const BYTES: usize>() {
        let mut frame = core::mem::MaybeUninit::<[u8; BYTES]>::uninit();
        // SAFETY: the first byte of a local.
        unsafe { frame.as_mut_ptr().cast::<u8>().write_volatile(1) };
        black_box(&mut frame);
    }
    wide::<BYTES>();
}

/// The address of code of the kernel's that may fault, and is gone on with.
#[must_use]
pub fn forgiven_code() -> u64 {
    crate::mem::probe::code()
}

/// Sends each other CPU an NMI, wherever it is. They answer, and go on.
pub fn interrupt_all_others_by_nmi() {
    let irqs = IrqsOff::new();
    for cpu in cpu::all().filter(|cpu| cpu.id() != irqs.cpu().id()) {
        crate::cpu::apic::send_nmi(&irqs, cpu.apic_id.get());
    }
}

/// Spins with interrupts masked until `done`: other CPUs' interrupts wait as long.
pub fn spin_masked(done: &dyn Fn() -> bool) {
    let _irqs = IrqsOff::new();
    while !done() {
        core::hint::spin_loop();
    }
}

/// Spins for ever with a lock held.
pub fn spin_with_lock_held() {
    static LOCK: SpinLock<u64> = SpinLock::new("misdeed", 0);
    let _held = LOCK.lock();
    loop {
        core::hint::spin_loop();
    }
}

/// Takes the interrupt table away and faults, which resets the machine: the exception, the double fault and the CPU's shutdown, all in one.
pub fn triple_fault() -> ! {
    let none = x86_64::structures::DescriptorTablePointer { limit: 0, base: x86_64::VirtAddr::zero() };
    // SAFETY: the machine does not go on after this, which is the point.
    unsafe {
        x86_64::instructions::tables::lidt(&none);
        core::arch::asm!("ud2", options(noreturn))
    }
}

/// Runs `f` with interrupts masked.
pub fn with_interrupts_masked<R>(f: impl FnOnce() -> R) -> R {
    let _irqs = IrqsOff::new();
    f()
}

/// Runs off the end of the calling thread's stack with a lock held, so that the thread cannot be ended: panics the machine.
pub fn overflow_with_lock_held() {
    static LOCK: SpinLock<u64> = SpinLock::new("misdeed", 0);
    let mut held = LOCK.lock();
    *held += 1;
    recurse_for_ever();
}

/// The stacks that are CPUs' and not threads': for each, the CPU, the kind, the first byte, and the first past the end.
pub fn for_each_cpu_stack(mut f: impl FnMut(CpuId, StackKind, u64, u64)) {
    for cpu in cpu::all() {
        let tops = [cpu.stack_top.get()].into_iter().chain(cpu.own_stack_tops.iter().map(cpu::cell::Own::<u64>::get));
        let tops = tops.chain(cpu.idle.stack().map(crate::mem::slots::SlotId::end));
        for top in tops.chain((cpu.id().index() == 0).then(|| crate::boot::stack::bounds().1)) {
            if let Some(Owner::Cpu { cpu, kind, hit }) = owner_of(top - 1) {
                f(cpu, kind, hit.start, hit.end);
            }
        }
    }
}
