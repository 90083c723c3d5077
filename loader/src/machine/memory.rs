//! Physical memory below 4 GiB, where the loader's page tables show it at its physical address: the audit boundary of
//! everything that the loader reads and writes by address.

use core::ops::Range;
use core::slice;
use loader::Physical;

/// What the loader's page tables show, but for address 0, which Rust reserves. QEMU puts its memory map on the first page.
const SHOWN: Range<u64> = 1..4 << 30;
/// Most ranges that are taken during a boot.
const MOST_TAKEN: usize = 16;

unsafe extern "C" {
    static loader_image_start: u8;
    static loader_image_end: u8;
}

/// Physical addresses of the loader itself, its stack and tables included.
pub(super) fn image() -> Range<u64> {
    (&raw const loader_image_start) as u64..(&raw const loader_image_end) as u64
}

/// All memory but the loader's own image, and the right to hand it out. Ranges once taken are no longer in it.
pub(super) struct Memory {
    taken: [Range<u64>; MOST_TAKEN],
    used: usize,
}

impl Memory {
    /// # Safety
    /// There is no other one, and nothing but the loader writes to memory.
    pub(super) unsafe fn new() -> Self {
        let mut taken = [const { 0..0 }; MOST_TAKEN];
        taken[0] = image();
        Self { taken, used: 1 }
    }

    /// Takes a range that was allocated for the loader or the kernel.
    ///
    /// # Panics
    /// Part of it is not memory that can be reached, or is taken already.
    pub(super) fn take(&mut self, range: Range<u64>) -> &'static mut [u8] {
        assert!(self.is_free(&range), "memory at {:#x} to {:#x} is not free", range.start, range.end);
        self.taken[self.used] = range.clone();
        self.used += 1;
        let length = (range.end - range.start) as usize;
        // SAFETY: the range is shown at its physical address and lies in memory; its bytes are valid whatever they are.
        // From now on it is listed as taken, so neither `take` nor `bytes` gives it out again; and no slice of `bytes` is
        // alive, for those borrow `self`.
        unsafe { slice::from_raw_parts_mut(range.start as *mut u8, length) }
    }

    fn is_free(&self, range: &Range<u64>) -> bool {
        let overlaps = |taken: &Range<u64>| range.start < taken.end && taken.start < range.end;
        let shown = SHOWN.start <= range.start && range.start <= range.end && range.end <= SHOWN.end;
        shown && !self.taken[..self.used].iter().any(overlaps)
    }
}

impl Physical for Memory {
    fn bytes(&self, address: u64, length: u64) -> Option<&[u8]> {
        let range = address..address.checked_add(length)?;
        if !self.is_free(&range) {
            return None;
        }
        // SAFETY: the range is shown at its physical address, and reading what is no memory does no harm; nobody writes
        // to it, for only ranges that are taken are written to, and taking needs `self` exclusively.
        Some(unsafe { slice::from_raw_parts(address as *const u8, length as usize) })
    }
}
