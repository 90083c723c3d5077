//! Interrupts at the kernel's entry: none. The legacy controllers mask all lines; of the I/O APICs' entries, those that
//! deliver to a CPU as fixed or lowest-priority interrupts are masked, as the protocol says.

use loader::acpi;
use x86_64::instructions::port::Port;

/// Mask registers of the two legacy controllers (Intel 8259A).
const LEGACY_MASKS: [u16; 2] = [0x21, 0xa1];

/// An I/O APIC's window: an index is written to the first register, and the register it names is read or written
/// through the one 16 bytes further (Intel 82093AA).
const DATA_OFFSET: u64 = 0x10;
/// The register whose bits 16 to 23 hold the number of the last entry, and the first entry's lower half.
const VERSION: u32 = 1;
const FIRST_ENTRY: u32 = 0x10;
/// Bits of an entry's lower half.
const DELIVERY_MODE: u32 = 7 << 8;
const LOWEST_PRIORITY: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;

/// Masks everything that can be.
pub(super) fn mask_all(madt: Option<&[u8]>) {
    for port in LEGACY_MASKS {
        // SAFETY: masking interrupts, which are disabled anyway, has no effect on memory; without the device, the write
        // goes nowhere.
        unsafe { Port::new(port).write(0xff_u8) }
    }
    for address in madt.into_iter().flat_map(acpi::io_apics) {
        // SAFETY: the machine's own table says that an I/O APIC is there; 32-bit addresses are shown at themselves.
        unsafe { mask_io_apic(address) }
    }
}

/// # Safety
/// There is an I/O APIC at this address, in both senses of the word.
unsafe fn mask_io_apic(address: u64) {
    let register = |index: u32| {
        // SAFETY: by the caller's promise; selecting a register has no other effect.
        unsafe { (address as *mut u32).write_volatile(index) };
        (address + DATA_OFFSET) as *mut u32
    };
    // SAFETY: by the caller's promise.
    let last = unsafe { register(VERSION).read_volatile() } >> 16 & 0xff;
    for entry in (0..=last).map(|index| FIRST_ENTRY + 2 * index) {
        // SAFETY: by the caller's promise; the controller has this entry.
        let low = unsafe { register(entry).read_volatile() };
        if low & DELIVERY_MODE <= LOWEST_PRIORITY {
            // SAFETY: as above; a masked entry delivers nothing.
            unsafe { register(entry).write_volatile(low | MASKED) }
        }
    }
}
