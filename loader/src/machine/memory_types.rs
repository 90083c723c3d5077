//! Caching: the page attribute table in the protocol's layout, and the first CPU's memory type ranges on every CPU.
//!
//! Firmware sets the ranges on the CPUs that it started itself. Where they already agree nothing is written, for
//! changing them means stopping the caches (Intel SDM volume 3A, section 11.11.8).

use super::cpu;
use core::sync::atomic::{AtomicU64, Ordering};
use x86_64::instructions::tlb;
use x86_64::registers::control::{Cr0, Cr0Flags};

/// The page attribute table: WB, WT, UC-, UC, WP, WC, UC-, UC, from its lowest byte on.
const PAT: u32 = 0x277;
const PAT_LAYOUT: u64 = 0x0007_0105_0007_0406;

/// Range registers: capabilities, default type, first of the variable ones, and all fixed ones.
const CAPABILITIES: u32 = 0xfe;
const DEFAULT_TYPE: u32 = 0x2ff;
const FIRST_VARIABLE: u32 = 0x200;
const FIXED: [u32; 11] = [0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f];
/// The bit of the capabilities that says that there are fixed ones, and that of the default type that enables any.
const HAS_FIXED: u64 = 1 << 8;
const ENABLE: u64 = 1 << 11;

/// Most registers that are kept: the fixed ones, 16 variable pairs, the default type. CPUs have about 8 pairs.
const MOST: usize = 11 + 32 + 1;

/// The first CPU's values, in the order of [`registers`].
static FIRST_CPU: [AtomicU64; MOST] = [const { AtomicU64::new(0) }; MOST];

/// The first CPU's part, whether or not there are others to start.
pub(super) fn set_and_keep() {
    set_pat();
    for (register, kept) in registers().zip(&FIRST_CPU) {
        // SAFETY: this CPU has the register. Relaxed: the other CPUs are started by an interrupt sent afterwards, in an
        // order that `LocalApic` sees to.
        kept.store(unsafe { cpu::read(register) }, Ordering::Relaxed);
    }
}

/// Every other CPU's part.
pub(super) fn set_as_kept() {
    set_pat();
    let kept = || registers().zip(FIRST_CPU.iter().map(|kept| kept.load(Ordering::Relaxed)));
    // SAFETY: this CPU has the registers.
    if kept().all(|(register, value)| unsafe { cpu::read(register) } == value) {
        return;
    }
    let flags = Cr0::read();
    // SAFETY: the order that the architecture demands: caches off and empty, ranges off, new values, which are the first
    // CPU's and thus valid, and all of it on again. No mapping or right changes.
    unsafe {
        Cr0::write((flags | Cr0Flags::CACHE_DISABLE) & !Cr0Flags::NOT_WRITE_THROUGH);
        core::arch::asm!("wbinvd", options(nostack, preserves_flags));
        tlb::flush_all();
        cpu::write(DEFAULT_TYPE, cpu::read(DEFAULT_TYPE) & !ENABLE);
        // The default type, and with it the enabling, comes last in this order.
        kept().for_each(|(register, value)| cpu::write(register, value));
        core::arch::asm!("wbinvd", options(nostack, preserves_flags));
        tlb::flush_all();
        Cr0::write(flags);
    }
}

fn set_pat() {
    if cpu::has_pat() {
        // SAFETY: this CPU has the register; the loader's page tables use entry 0 alone, which stays write-back.
        unsafe { cpu::write(PAT, PAT_LAYOUT) }
    }
}

/// The range registers that this CPU has, the default type last.
fn registers() -> impl Iterator<Item = u32> {
    let capabilities = if cpu::has_mtrrs() {
        // SAFETY: this CPU has the register.
        Some(unsafe { cpu::read(CAPABILITIES) })
    } else {
        None
    };
    capabilities.into_iter().flat_map(|capabilities| {
        let fixed = FIXED.into_iter().filter(move |_| capabilities & HAS_FIXED != 0);
        let pairs = (capabilities as u32 & 0xff).min(16);
        fixed.chain((0..2 * pairs).map(|index| FIRST_VARIABLE + index)).chain([DEFAULT_TYPE])
    })
}
