//! The entries of one table, for whoever has the range that they map.

use super::{ADDRESS, Access, ENTRIES, Flags, ROOT, is_present};
use crate::bug;
use crate::mem::PAGE_SIZE;
use crate::mem::frames::OutOfFrames;
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};
use wire::cmdline::Bug;

/// The page-table entries of a range of the kernel's that lies in one table. The kernel's tables are never freed, so they stay
/// where they are; whoever has the range has its entries, and needs no lock to change them.
#[derive(Clone, Copy)]
pub(in crate::mem) struct Entries(*const AtomicU64);

impl Entries {
    /// Bytes of the largest range that may lie in one table.
    pub(in crate::mem) const SPAN: u64 = ENTRIES * PAGE_SIZE;

    /// The entries from `address` on, which the caller has up to the end of the range; a table is made if there is none.
    ///
    /// # Errors
    /// [`OutOfFrames`] if there is no memory for a table.
    pub(in crate::mem) fn create(address: u64) -> Result<Self, OutOfFrames> {
        let mut root = ROOT.lock();
        if bug::armed(Bug::LockOrder) {
            drop(core::hint::black_box(Box::new(address)));
        }
        root.create(address, 1).map(|first| Self(first))
    }

    pub(in crate::mem) fn into_raw(self) -> *mut AtomicU64 {
        self.0.cast_mut()
    }

    pub(in crate::mem) fn from_raw(raw: *mut AtomicU64) -> Option<Self> {
        (!raw.is_null()).then_some(Self(raw))
    }

    #[inline(always)]
    fn entry(self, page: u64) -> &'static AtomicU64 {
        // SAFETY: in the table in which `create` found the first, by the caller's promise to stay in its range; see `entry`.
        unsafe { &*self.0.add(page as usize) }
    }

    /// Maps the page with this number of the range, which was not mapped: no TLB knows it, and no CPU has to be told.
    #[inline(always)]
    pub(in crate::mem) fn map(self, page: u64, frame: u64, access: Access) {
        let entry = self.entry(page);
        debug_assert!(entry.load(Ordering::Relaxed) == 0, "page {page} of a slot is mapped already");
        entry.store(frame | access.flags().bits(), Ordering::Release);
    }

    /// The frame behind the page with this number, if it was written to since it was mapped, or `anyway`: the dirty bit, which
    /// nobody clears.
    #[inline(always)]
    pub(in crate::mem) fn frame_if_written(self, page: u64, anyway: bool) -> Option<u64> {
        let value = self.entry(page).load(Ordering::Relaxed);
        (anyway || value & Flags::DIRTY.bits() != 0).then_some(value & ADDRESS)
    }

    /// Clears the entries of `pages` pages from the one with this number on. TLBs may still hold the translations.
    ///
    /// # Panics
    /// If one of the pages is not mapped.
    #[inline(always)]
    pub(in crate::mem) fn unmap(self, first: u64, pages: u64) {
        // SAFETY: as in `entry`.
        let entries = unsafe { core::slice::from_raw_parts(self.0.add(first as usize), pages as usize) };
        for entry in entries {
            let value = entry.swap(0, Ordering::AcqRel);
            assert!(is_present(value), "a page of a slot at {entry:p} is unmapped, and was not mapped");
        }
    }
}
