//! A walk of the kernel's tables without a lock, for [`translate`](crate::mem::translate): entries are atomics, and the kernel's
//! tables are never freed.

use super::{ADDRESS, Flags, PAGE_SIZE, PhysAddr, ROOT_ADDRESS, entry, index, is_present};
use core::sync::atomic::Ordering;

/// The first address of the upper half; those between the halves are none.
const UPPER_HALF: u64 = 0xffff_8000_0000_0000;

/// The physical address behind an address of the kernel's half, by pages of any size.
pub(in crate::mem) fn walk(address: u64) -> Option<PhysAddr> {
    let root = ROOT_ADDRESS.load(Ordering::Acquire);
    if root == 0 || address < UPPER_HALF {
        return None;
    }
    let mut table = root;
    for level in (1..=4).rev() {
        let value = entry(table, index(address, level)).load(Ordering::Acquire);
        if !is_present(value) {
            return None;
        }
        if level == 1 || level < 4 && value & Flags::HUGE_PAGE.bits() != 0 {
            let size = PAGE_SIZE << (9 * (level - 1));
            return Some(PhysAddr((value & ADDRESS & !(size - 1)) + address % size));
        }
        table = value & ADDRESS;
    }
    None
}

/// Whether reading this address of the kernel's half does not fault, as far as the tables say; while there are none yet, it is
/// worth a try.
pub(crate) fn may_be_mapped(address: u64) -> bool {
    ROOT_ADDRESS.load(Ordering::Acquire) == 0 || walk(address).is_some()
}
