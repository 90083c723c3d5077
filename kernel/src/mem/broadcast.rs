//! INVLPGB and TLBSYNC, where the processor has them (AMD64 Architecture Programmer's Manual volume 3): used by
//! `protocol=invlpgb` alone. QEMU's TCG has neither; nobody has run this on hardware yet.

use super::PAGE_SIZE;
use smp::PageRange;
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::tlb::Invlpgb;
use x86_64::structures::paging::{Page, Size4KiB};

static INVLPGB: Once<Invlpgb> = Once::new();

/// Finds out whether the processor has the instructions.
///
/// # Errors
/// That it has not.
pub(super) fn init() -> Result<(), &'static str> {
    let found = Invlpgb::new().ok_or("'protocol=invlpgb' needs a processor with INVLPGB")?;
    INVLPGB.call_once(|| found);
    Ok(())
}

fn invlpgb() -> &'static Invlpgb {
    INVLPGB.get().expect("used by the protocol that needs it, which was not set up without it")
}

/// Has all CPUs drop these pages, or everything, under all tags.
pub(super) fn flush(range: Option<PageRange>) {
    match range {
        Some(range) => {
            let page = |address| Page::<Size4KiB>::containing_address(VirtAddr::new_truncate(address));
            let (start, bytes) = (range.start, u64::from(range.pages) * PAGE_SIZE);
            invlpgb().build().pages(Page::range(page(start), page(start + bytes))).flush();
        }
        None => invlpgb().build().flush(),
    }
}

/// Waits until all CPUs have done what this one told them.
pub(super) fn wait() {
    invlpgb().tlbsync();
}
