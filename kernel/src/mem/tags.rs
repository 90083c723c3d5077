//! PCIDs: the tags under which the TLB keeps translations of several address spaces (Intel SDM volume 3, 4.10). `pcid=on`
//! uses them, `invpcid=on` drops kernel pages under tags that are not in use by INVPCID in place of forgetting the tag.
//! QEMU's TCG has neither; nobody has run this on hardware yet, which is why both are off by default.

use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use smp::PageRange;
use smp::space::MAX_TAGS;
use x86_64::VirtAddr;
use x86_64::instructions::tlb::{InvPcidCommand, Pcid, flush_pcid};
use x86_64::registers::control::{Cr4, Cr4Flags};

static COUNT: AtomicUsize = AtomicUsize::new(0);
static INVPCID: AtomicBool = AtomicBool::new(false);

/// Finds out whether the processor has what is asked for.
///
/// # Errors
/// What it lacks.
pub(super) fn init(pcid: bool, invpcid: bool) -> Result<(), &'static str> {
    let has_pcid = __cpuid(1).ecx & 1 << 17 != 0;
    let has_invpcid = __cpuid(0).eax >= 7 && __cpuid_count(7, 0).ebx & 1 << 10 != 0;
    match (pcid, invpcid) {
        (false, false) => return Ok(()),
        (false, true) => return Err("'invpcid=on' needs 'pcid=on'"),
        (true, _) if !has_pcid => return Err("'pcid=on' needs a processor with PCIDs"),
        (true, true) if !has_invpcid => return Err("'invpcid=on' needs a processor with INVPCID"),
        (true, _) => {}
    }
    COUNT.store(MAX_TAGS, Ordering::Relaxed);
    INVPCID.store(invpcid, Ordering::Relaxed);
    Ok(())
}

/// How many are used besides tag 0.
#[inline]
pub(super) fn count() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// Turns them on, on each CPU, which has the kernel's tables loaded: under tag 0, as the architecture demands.
pub(super) fn enable() {
    if count() > 0 {
        // SAFETY: the processor has them, and the tag in CR3 is 0.
        unsafe { Cr4::update(|cr4| cr4.insert(Cr4Flags::PCID)) }
    }
}

/// The tag as the architecture has it.
pub(super) fn pcid(tag: usize) -> Pcid {
    Pcid::new(tag as u16).expect("tags are few")
}

/// Drops pages under a tag that is not in use; `false` if the processor cannot, or is not asked to.
pub(super) fn flush_under(tag: usize, range: PageRange) -> bool {
    if !INVPCID.load(Ordering::Relaxed) {
        return false;
    }
    for address in range.addresses() {
        // SAFETY: the processor has INVPCID; dropping a translation changes nothing but speed.
        unsafe { flush_pcid(InvPcidCommand::Address(VirtAddr::new_truncate(address), pcid(tag))) }
    }
    true
}
