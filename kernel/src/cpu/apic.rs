//! The local APIC: the crate `x2apic`, with what a caller would have to know put right here.
//!
//! * In xAPIC mode a destination goes into bits 24 to 31 of the upper command word, and the ID comes out of the same
//!   bits: [`shift`] does both.
//! * `enable` starts an unmasked timer and unmasks LINT0 and LINT1 with vector 0: both are masked again at once.
//! * The x2APIC command register is written by WRMSR, which (against the rule for MSRs) does not wait for earlier
//!   stores: Intel SDM volume 3, 11.12.3. [`publish`] does, with `mfence; lfence`.
//! * The crate takes x2APIC mode whenever CPUID has it, and so does this kernel: the boot loader is asked for it too.
//! * In-service bits cannot be read through the crate; [`in_service`] reads the registers.

use crate::cpu;
use crate::mem::paging;
use crate::sync::irq::IrqsOff;
use crate::time;
use crate::trap;
use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, compiler_fence};
use x2apic::lapic::{IpiAllShorthand, LocalApic, LocalApicBuilder, TimerDivide, TimerMode, xapic_base};
use x86_64::registers::model_specific::Msr;

/// Vectors; a higher one has priority over a lower one with another upper digit.
pub(crate) mod vector {
    /// Timer tick.
    pub(crate) const TIMER: u8 = 0x40;
    /// Look at the run queue again.
    pub(crate) const RESCHEDULE: u8 = 0x50;
    /// A function that somebody wants run in a handler.
    pub(crate) const CALL: u8 = 0x60;
    /// Raised by software: a kernel function was called with too little stack left.
    pub(crate) const OVERFLOW_ON_CALL: u8 = 0x80;
    /// That nobody serves: sent by a misdeed.
    #[cfg(feature = "misdeeds")]
    pub(crate) const STRAY: u8 = 0x90;
    /// A bare interrupt that is only answered, to measure the round trip.
    pub(crate) const PING: u8 = 0xe0;
    /// TLB shootdown.
    pub(crate) const SHOOTDOWN: u8 = 0xf0;
    /// The APIC found an error.
    pub(crate) const ERROR: u8 = 0xfe;
    /// Spurious; gets no end-of-interrupt.
    pub(crate) const SPURIOUS: u8 = 0xff;
}

/// Where the registers are mapped in xAPIC mode.
static XAPIC: AtomicU64 = AtomicU64::new(0);
static X2APIC: AtomicBool = AtomicBool::new(false);

/// A CPU's local APIC; its registers can be reached from that CPU only.
pub(crate) struct Slot(UnsafeCell<Option<LocalApic>>);

// SAFETY: only `with`, which runs on the owning CPU with interrupts off, reaches inside.
unsafe impl Sync for Slot {}

impl Slot {
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(None))
    }
}

/// Whether the local APICs are in x2APIC mode.
#[must_use]
pub(crate) fn is_x2apic() -> bool {
    X2APIC.load(Ordering::Relaxed)
}

/// Finds out the mode, and maps the registers if they are in memory. On the first CPU, once.
pub(crate) fn discover() {
    // SAFETY: CPUID leaf 1 is on every 64-bit CPU.
    let has_x2apic = core::arch::x86_64::__cpuid(1).ecx & 1 << 21 != 0;
    X2APIC.store(has_x2apic, Ordering::Relaxed);
    if !has_x2apic {
        // SAFETY: the MSR is on every CPU with a local APIC, and 64-bit CPUs have one.
        let physical = unsafe { xapic_base() };
        XAPIC.store(paging::map_device_page(physical), Ordering::Relaxed);
    }
}

/// Enables the local APIC of the CPU that this runs on, its timer stopped; gives its ID.
pub(crate) fn enable(irqs: &IrqsOff) -> u32 {
    let mut apic = LocalApicBuilder::new()
        .timer_vector(vector::TIMER.into())
        .error_vector(vector::ERROR.into())
        .spurious_vector(vector::SPURIOUS.into())
        .timer_mode(TimerMode::Periodic)
        .timer_divide(TimerDivide::Div16)
        .timer_initial(0)
        .set_xapic_base(XAPIC.load(Ordering::Relaxed))
        .build()
        .expect("vectors and base are given");
    // SAFETY: the registers are this CPU's own, mapped uncached by `discover`; the vectors have handlers.
    let id = unsafe {
        apic.enable();
        write(Register::Lint0, MASKED);
        write(Register::Lint1, MASKED);
        apic.disable_timer();
        // Nothing is held back by priority.
        write(Register::TaskPriority, 0);
        apic.id()
    };
    // SAFETY: this CPU's slot, with interrupts off, before anybody uses it.
    unsafe { *irqs.cpu().apic.0.get() = Some(apic) };
    id >> shift()
}

/// Starts the timer: a tick each `count` of its periods (of 16 bus cycles).
pub(crate) fn start_timer(irqs: &IrqsOff, count: u32) {
    // SAFETY: the timer's vector has a handler.
    with(irqs, |apic| unsafe {
        apic.set_timer_mode(TimerMode::Periodic);
        apic.enable_timer();
        apic.set_timer_initial(count);
    });
}

/// Lets the timer that runs begin again, with a tick after `count` of its periods.
pub(crate) fn restart_timer(irqs: &IrqsOff, count: u32) {
    // SAFETY: the timer's vector has a handler.
    with(irqs, |apic| unsafe { apic.set_timer_initial(count) });
}

/// Lets the timer count down from its highest value without interrupting, to be measured; `timer_count` reads it.
pub(crate) fn start_timer_for_measuring(irqs: &IrqsOff) {
    // SAFETY: the timer is masked.
    with(irqs, |apic| unsafe { apic.set_timer_initial(u32::MAX) });
}

/// What the timer has counted down to.
pub(crate) fn timer_count(irqs: &IrqsOff) -> u32 {
    // SAFETY: reading has no effect.
    with(irqs, |apic| unsafe { apic.timer_current() })
}

/// Ends the interrupt that is being served.
pub(crate) fn end_of_interrupt(irqs: &IrqsOff) {
    // SAFETY: called once for each interrupt, by its handler.
    with(irqs, |apic| unsafe { apic.end_of_interrupt() });
}

/// Sends `vector` to one CPU. Every store before the call is visible to the CPU that takes the interrupt.
pub(crate) fn send(irqs: &IrqsOff, vector: u8, apic_id: u32) {
    publish();
    // SAFETY: the vector has a handler on every CPU.
    with(irqs, |apic| unsafe {
        await_delivery(apic);
        apic.send_ipi(vector, apic_id << shift());
    });
}

/// Sends `vector` to each of these CPUs; in x2APIC mode by one command for all neighbours in a cluster of 16. How many
/// commands that were. Like [`send`] otherwise.
pub(crate) fn send_to_each(irqs: &IrqsOff, vector: u8, apic_ids: impl Iterator<Item = u32>) -> u64 {
    publish();
    let mut commands = 0;
    if is_x2apic() {
        for destination in logical_destinations(apic_ids) {
            // SAFETY: the vector has a handler on every CPU that is up.
            unsafe { Msr::new(X2APIC_COMMAND).write(u64::from(destination) << 32 | LOGICAL | u64::from(vector)) };
            commands += 1;
        }
    } else {
        for apic_id in apic_ids {
            // SAFETY: as above.
            with(irqs, |apic| unsafe {
                await_delivery(apic);
                apic.send_ipi(vector, apic_id << shift());
            });
            commands += 1;
        }
    }
    commands
}

/// The command register in x2APIC mode (Intel SDM volume 3, 11.12.9), and its bit for a logical destination.
const X2APIC_COMMAND: u32 = 0x830;
const LOGICAL: u64 = 1 << 11;

/// The logical destinations that stand for these APIC IDs: the cluster in the upper half, a bit for each member in the
/// lower (Intel SDM volume 3, 11.12.10.2). Neighbours are put together if they come one after the other.
fn logical_destinations(apic_ids: impl Iterator<Item = u32>) -> impl Iterator<Item = u32> {
    let mut ids = apic_ids.peekable();
    core::iter::from_fn(move || {
        let first = ids.next()?;
        let mut destination = (first >> 4) << 16 | 1 << (first & 15);
        while let Some(next) = ids.next_if(|next| next >> 4 == first >> 4) {
            destination |= 1 << (next & 15);
        }
        Some(destination)
    })
}

/// Sends `vector` to all other CPUs of the machine by one command; like [`send`] otherwise.
pub(crate) fn send_to_all_others(irqs: &IrqsOff, vector: u8) {
    publish();
    // SAFETY: the vector has a handler on every CPU that is up; one that is not up does not take it.
    with(irqs, |apic| unsafe {
        await_delivery(apic);
        apic.send_ipi_all(vector, IpiAllShorthand::AllExcludingSelf);
    });
}

/// Sends an NMI to one CPU.
pub(crate) fn send_nmi(irqs: &IrqsOff, apic_id: u32) {
    publish();
    // SAFETY: the NMI handler takes no lock and is there on every CPU that is up.
    with(irqs, |apic| unsafe {
        await_delivery(apic);
        apic.send_nmi(apic_id << shift());
    });
}

/// Stops all other CPUs by NMI, and waits until they are, or do not answer that either. In a panic.
pub(crate) fn stop_others() {
    let irqs = IrqsOff::new();
    let me = irqs.cpu();
    // SAFETY: this CPU's own slot, with interrupts off.
    if unsafe { (*me.apic.0.get()).is_none() } {
        return; // too early for there to be others
    }
    // One by one: a CPU that is still the boot loader's has no handler.
    for other in cpu::REACHABLE.load(Ordering::Acquire).without(me.id()).filter_map(cpu::get) {
        send_nmi(&irqs, other.apic_id.get());
    }
    let until = time::now() + time::tsc_hz() * trap::NMI_SECONDS;
    while !cpu::REACHABLE.load(Ordering::Acquire).without(me.id()).is_empty() && time::now() < until {
        core::hint::spin_loop();
    }
}

/// Vectors whose handlers have begun and not ended, highest first.
pub(crate) fn in_service(_irqs: &IrqsOff) -> impl Iterator<Item = u8> {
    (0..8u32).rev().flat_map(|word| {
        // SAFETY: reading has no effect.
        let bits = unsafe { read(Register::InService(word)) };
        (0..32u32).rev().filter(move |bit| bits >> bit & 1 == 1).map(move |bit| (word * 32 + bit) as u8)
    })
}

fn with<R>(irqs: &IrqsOff, f: impl FnOnce(&mut LocalApic) -> R) -> R {
    // SAFETY: this CPU's own slot. With interrupts off nothing else on this CPU can be inside; the NMI handler comes
    // here only to stop the CPU for good.
    let apic = unsafe { &mut *irqs.cpu().apic.0.get() };
    f(apic.as_mut().expect("the local APIC is enabled before it is used"))
}

/// Makes every earlier store visible before the command register is written.
fn publish() {
    if is_x2apic() {
        // SAFETY: fences have no other effect. No `nomem`: the compiler keeps earlier stores earlier.
        unsafe { asm!("mfence", "lfence", options(nostack, preserves_flags)) }
    } else {
        // A store to uncached memory is not done before earlier stores are (Intel SDM volume 3, 9.2.2); the compiler
        // must keep the order too.
        compiler_fence(Ordering::SeqCst);
    }
}

/// In xAPIC mode a command must not be written while the one before is pending.
///
/// # Safety
/// On the CPU whose APIC this is.
unsafe fn await_delivery(apic: &LocalApic) {
    // SAFETY: reading has no effect.
    while !is_x2apic() && unsafe { apic.get_ipi_delivery_status() } {
        core::hint::spin_loop();
    }
}

/// How far an APIC ID is shifted in the ID and command registers.
const fn shift_in(x2apic: bool) -> u32 {
    if x2apic { 0 } else { 24 }
}

fn shift() -> u32 {
    shift_in(is_x2apic())
}

const MASKED: u32 = 1 << 16;

/// Registers that the crate does not reach, or not in the way that is needed here.
enum Register {
    TaskPriority,
    InService(u32),
    Lint0,
    Lint1,
}

impl Register {
    /// Number of the 16-byte slot: the offset in xAPIC mode is 16 times that, the MSR 0x800 plus that.
    const fn slot(self) -> u32 {
        match self {
            Self::TaskPriority => 0x08,
            Self::InService(word) => 0x10 + word,
            Self::Lint0 => 0x35,
            Self::Lint1 => 0x36,
        }
    }
}

/// # Safety
/// On a CPU whose APIC is mapped or in x2APIC mode.
unsafe fn read(register: Register) -> u32 {
    let slot = register.slot();
    // SAFETY: by the caller's promise the register is there.
    unsafe {
        if is_x2apic() {
            Msr::new(0x800 + slot).read() as u32
        } else {
            let base = XAPIC.load(Ordering::Relaxed);
            ((base + u64::from(slot) * 16) as *const u32).read_volatile()
        }
    }
}

/// # Safety
/// As for `read`, and what the value does must be wanted.
unsafe fn write(register: Register, value: u32) {
    let slot = register.slot();
    // SAFETY: by the caller's promise the register is there, and the value right.
    unsafe {
        if is_x2apic() {
            Msr::new(0x800 + slot).write(value.into());
        } else {
            let base = XAPIC.load(Ordering::Relaxed);
            ((base + u64::from(slot) * 16) as *mut u32).write_volatile(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_xapic_destination_stands_in_the_top_byte() {
        assert_eq!(5u32 << shift_in(false), 0x0500_0000);
        assert_eq!(300u32 << shift_in(true), 300);
    }

    #[test]
    fn neighbours_in_a_cluster_are_one_destination() {
        let destinations = |ids: &[u32]| logical_destinations(ids.iter().copied()).collect::<Vec<_>>();
        assert_eq!(destinations(&[0, 2, 3]), [0b1101]);
        assert_eq!(destinations(&[15, 16, 17, 40]), [0x8000, 0x1_0003, 0x2_0100]);
        assert_eq!(destinations(&[]), []);
    }

    #[test]
    fn registers_have_their_architectural_places() {
        assert_eq!(Register::TaskPriority.slot() * 16, 0x80);
        assert_eq!(Register::InService(7).slot() * 16, 0x170);
        assert_eq!((Register::Lint0.slot() * 16, Register::Lint1.slot() * 16), (0x350, 0x360));
    }
}
