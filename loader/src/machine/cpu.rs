//! What this CPU is and can do, and its model-specific registers.

use core::arch::x86_64::{__cpuid, _rdtsc};
use loader::paging::Largest;
use x86_64::registers::model_specific::Msr;

/// The largest page of this CPU.
pub(super) fn largest_page() -> Largest {
    // Entry checked that this leaf exists.
    if __cpuid(0x8000_0001).edx & 1 << 26 != 0 { Largest::Gigantic } else { Largest::Large }
}

/// Identity of this CPU's local APIC, of 32 bits where the CPU has them, else of 8.
pub(super) fn apic_id() -> u32 {
    const TOPOLOGY: u32 = 0xb;
    if __cpuid(0).eax >= TOPOLOGY {
        let topology = __cpuid(TOPOLOGY);
        if topology.ebx != 0 {
            return topology.edx;
        }
    }
    __cpuid(1).ebx >> 24
}

/// Whether this CPU has x2APIC.
pub(super) fn has_x2apic() -> bool {
    __cpuid(1).ecx & 1 << 21 != 0
}

/// Whether this CPU has memory type range registers.
pub(super) fn has_mtrrs() -> bool {
    __cpuid(1).edx & 1 << 12 != 0
}

/// Whether this CPU has a page attribute table.
pub(super) fn has_pat() -> bool {
    __cpuid(1).edx & 1 << 16 != 0
}

/// Cycles of the time stamp counter.
pub(super) fn cycles() -> u64 {
    // SAFETY: every 64-bit CPU has the counter, and nothing forbids reading it.
    unsafe { _rdtsc() }
}

/// Reads a model-specific register.
///
/// # Safety
/// This CPU has it.
pub(super) unsafe fn read(register: u32) -> u64 {
    // SAFETY: by the caller's promise; reading has no effect on memory.
    unsafe { Msr::new(register).read() }
}

/// Writes a model-specific register.
///
/// # Safety
/// This CPU has it, the value is valid for it, and what it changes breaks nothing that the loader relies on.
pub(super) unsafe fn write(register: u32, value: u64) {
    // SAFETY: by the caller's promise.
    unsafe { Msr::new(register).write(value) }
}
