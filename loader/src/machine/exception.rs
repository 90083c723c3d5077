//! CPU exceptions, of the loader and of a kernel that has no handlers of its own yet: without an answer to them the
//! virtual machine would reset, and QEMU would end as if all were well.
//!
//! The protocol leaves the interrupt descriptor table undefined at the kernel's entry. The one left there works in the
//! direct map as long as the kernel neither reuses the loader's memory nor loads a table of its own.

use super::{memory, stop};
use core::cell::UnsafeCell;
use core::ops::Range;
use loader::HHDM;
use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::structures::DescriptorTablePointer;

core::arch::global_asm!(include_str!("exception.s"), options(att_syntax));

/// Exceptions of the architecture, and the distance between their entries in `exception.s`.
const EXCEPTIONS: usize = 32;
const ENTRY_SIZE: u64 = 16;
/// The 64-bit code segment, and an interrupt gate that is present.
const CODE_SEGMENT: u64 = 0x28;
const INTERRUPT_GATE: u64 = 0x8e00;

unsafe extern "C" {
    static exception_entries: u8;
}

/// Gates of two words each (Intel SDM volume 3A, section 6.14.1).
struct Table(UnsafeCell<[[u64; 2]; EXCEPTIONS]>);

// SAFETY: written by the first CPU before any other runs; from then on only CPUs read it.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new([[0; 2]; EXCEPTIONS]));

/// Fills the table and loads it. For the first CPU, before it starts others.
pub(super) fn install() {
    let gates = core::array::from_fn(|vector| {
        let entry = HHDM + (&raw const exception_entries) as u64 + vector as u64 * ENTRY_SIZE;
        [entry & 0xffff | CODE_SEGMENT << 16 | INTERRUPT_GATE << 32 | (entry >> 16 & 0xffff) << 48, entry >> 32]
    });
    // SAFETY: no other CPU runs, and this one has not loaded the table.
    unsafe { *TABLE.0.get() = gates }
    load();
}

/// Loads the table, by its address in the direct map. For each CPU.
pub(super) fn load() {
    let base = VirtAddr::new(HHDM + TABLE.0.get() as u64);
    // SAFETY: every gate leads to an entry that does not return, in memory that stays mapped while the loader runs.
    unsafe { lidt(&DescriptorTablePointer { limit: (size_of::<Table>() - 1) as u16, base }) }
}

/// Entered from `exception.s`, by one CPU at most.
#[unsafe(no_mangle)]
extern "C" fn exception_report(vector: u64, error_code: u64, at: u64, address: u64) -> ! {
    let Range { start, end } = memory::image();
    let place = match at {
        _ if (start..end).contains(&(at & !HHDM)) => "bug",
        _ => "the kernel had no handlers of its own yet",
    };
    stop::failed(format_args!("{place}: exception {vector} at {at:#x}, error code {error_code:#x}, CR2 {address:#x}"))
}
