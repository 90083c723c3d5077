//! The local APIC, as far as starting CPUs needs it: its mode, and the two interrupts that start a CPU (Intel SDM volume
//! 3A, chapters 10.6 and 10.12).

use super::cpu;
use core::arch::x86_64::{_mm_lfence, _mm_mfence};

/// The register that holds the registers' address, and the bits for enabled and for x2APIC.
const APIC_BASE: u32 = 0x1b;
const ENABLED: u64 = 1 << 11;
const X2APIC: u64 = 1 << 10;
const BASE_ADDRESS: u64 = 0xf_ffff_f000;

/// The interrupt command register: offsets of its halves in memory, its number with x2APIC.
const COMMAND_LOW: u64 = 0x300;
const COMMAND_HIGH: u64 = 0x310;
const X2APIC_COMMAND: u32 = 0x830;
/// The bit that says that the last command is still on its way, and how often to look.
const PENDING: u32 = 1 << 12;
const PATIENCE: u32 = 1_000_000;

/// Commands: reset a CPU so that it waits; start a waiting CPU, with the start address's page in the lowest byte.
const INIT: u32 = 0x4500;
const STARTUP: u32 = 0x4600;

/// The highest identity that the older mode can address; the next one means all CPUs.
const HIGHEST_XAPIC_ID: u32 = 0xfe;

/// This CPU's local APIC, in the mode that the kernel gets it in.
pub(super) struct LocalApic {
    x2apic: bool,
}

impl LocalApic {
    /// Enables this CPU's local APIC, with x2APIC or without.
    ///
    /// # Safety
    /// With x2APIC, this CPU has it.
    pub(super) unsafe fn in_mode(x2apic: bool) -> Self {
        // SAFETY: every 64-bit CPU has this register. The values keep the address; the steps between the modes are those
        // that the architecture allows: x2APIC is left through disabled.
        unsafe {
            let base = cpu::read(APIC_BASE);
            let enabled = base & !X2APIC | ENABLED;
            match (x2apic, base & X2APIC != 0) {
                (true, false) => {
                    cpu::write(APIC_BASE, enabled);
                    cpu::write(APIC_BASE, enabled | X2APIC);
                }
                (false, true) => {
                    cpu::write(APIC_BASE, base & !(X2APIC | ENABLED));
                    cpu::write(APIC_BASE, enabled);
                }
                _ => cpu::write(APIC_BASE, base | ENABLED),
            }
        }
        Self { x2apic }
    }

    /// Whether interrupts can be sent to a CPU of this identity.
    pub(super) fn reaches(&self, id: u32) -> bool {
        self.x2apic || id <= HIGHEST_XAPIC_ID
    }

    /// Resets another CPU; it waits to be started.
    pub(super) fn reset(&self, id: u32) {
        self.send(id, INIT);
    }

    /// Starts a waiting CPU, in real mode at the start of a page below 1 MiB. A CPU that runs ignores it.
    ///
    /// # Safety
    /// The page holds code that keeps that CPU from doing harm.
    pub(super) unsafe fn start(&self, id: u32, page: u64) {
        self.send(id, STARTUP | (page >> 12) as u32);
    }

    fn send(&self, id: u32, command: u32) {
        if self.x2apic {
            // SAFETY: the mode is on. Unlike a store, this write does not wait for earlier ones, which the other CPU must
            // see: the fences make it wait.
            unsafe {
                _mm_mfence();
                _mm_lfence();
                cpu::write(X2APIC_COMMAND, u64::from(id) << 32 | u64::from(command));
            }
            return;
        }
        // SAFETY: every 64-bit CPU has the register.
        let base = unsafe { cpu::read(APIC_BASE) } & BASE_ADDRESS;
        let (low, high) = ((base + COMMAND_LOW) as *mut u32, (base + COMMAND_HIGH) as *mut u32);
        // SAFETY: the registers are there, below 4 GiB, where addresses are physical ones. The lower half's store sends.
        unsafe {
            high.write_volatile(id << 24);
            low.write_volatile(command);
            for _ in 0..PATIENCE {
                if low.read_volatile() & PENDING == 0 {
                    break;
                }
                core::hint::spin_loop();
            }
        }
    }
}
