//! Address spaces: page tables of their own for the lower half, under the kernel's upper half.
//!
//! ```text
//!   create ──▶ threads run in it, map and unmap ──▶ the last `Arc` is dropped: tables cleared,
//!                                                    every CPU that has them loaded lets them go, then free
//! ```
//! Which CPUs have a space loaded, who is asked and what is due are `smp::space`'s; here are the tables. The upper half's
//! entries of a root table are copied when the space is made, and the kernel's own never change after boot.
//!
//! A page that was unmapped keeps its entry, marked, until every CPU has dropped the translation: nothing can be mapped
//! there before.

use super::custody::{self, Held};
use super::fallible::{self, OutOfHeap};
use super::frames::{self, FrameList, OutOfFrames, Use};
use super::paging::{self, Access, Root};
use super::slots::SlotList;
use super::tlb::{self, Hardware};
use super::{PAGE_SIZE, PhysAddr, oracle};
use crate::bug;
use crate::sync::{SpinLock, may_wait};
use crate::thread::{PreemptOff, Shield};
use crate::time;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use smp::space::{Space, SpaceId};
use smp::{PageRange, Ranges, Unmapped};
use wire::cmdline::Bug;

/// The most spaces at a time: bits of a word.
const MAX_SPACES: usize = 64;
/// The first page stays unmapped, as for the kernel.
const LOWEST: u64 = PAGE_SIZE;
/// The lower half's end.
const END: u64 = 1 << 47;

/// What is behind a number. The numbers are used again, the generations count on.
struct Entry {
    space: Space,
    /// The root table's physical address, for CPUs that load it; 0 if the number is free.
    root: AtomicU64,
    tables: SpinLock<Root>,
}

static ENTRIES: [Entry; MAX_SPACES] = [const {
    Entry { space: Space::new(), root: AtomicU64::new(0), tables: SpinLock::new("space tables", Root::none()) }
}; MAX_SPACES];
/// Numbers in use, a bit each.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// Why a space could not be made or changed. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpaceError {
    /// There are as many as there can be.
    TooMany,
    /// No frame is left for the memory or its page tables.
    OutOfFrames,
    /// The heap is used up.
    OutOfHeap,
    /// No page was asked for.
    Zero,
    /// The address is not the start of a page.
    Unaligned(u64),
    /// The range from this address on is not in the lower half.
    OutOfRange(u64),
    /// Something is mapped here, or is just being unmapped.
    InUse(u64),
    /// Nothing is mapped here.
    NotMapped(u64),
}

impl fmt::Display for SpaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => write!(f, "there are {MAX_SPACES} address spaces already"),
            Self::OutOfFrames => f.write_str("no frame is left"),
            Self::OutOfHeap => OutOfHeap.fmt(f),
            Self::Zero => f.write_str("no page was asked for"),
            Self::Unaligned(address) => write!(f, "{address:#x} is not the start of a page"),
            Self::OutOfRange(address) => write!(f, "the range from {address:#x} on is not in the lower half"),
            Self::InUse(address) => write!(f, "{address:#x} is mapped"),
            Self::NotMapped(address) => write!(f, "{address:#x} is not mapped"),
        }
    }
}

impl core::error::Error for SpaceError {}

impl From<OutOfFrames> for SpaceError {
    fn from(_: OutOfFrames) -> Self {
        Self::OutOfFrames
    }
}

/// An address space. Threads that run in it hold it ([`crate::thread::Builder::space`]); when the last holder lets go, all
/// that is mapped in it is unmapped, and it ends.
#[derive(Debug)]
pub struct AddressSpace(SpaceId);

impl AddressSpace {
    /// A space with nothing in its lower half.
    ///
    /// # Errors
    /// [`SpaceError::TooMany`], [`SpaceError::OutOfFrames`] and [`SpaceError::OutOfHeap`].
    pub fn new() -> Result<Arc<Self>, SpaceError> {
        let _shield = Shield::new();
        let taken = TAKEN.try_update(Ordering::AcqRel, Ordering::Relaxed, |taken| {
            (taken != u64::MAX).then_some(taken | taken.wrapping_add(1)) // the lowest that is free
        });
        let id = SpaceId(taken.map_err(|_| SpaceError::TooMany)?.trailing_ones());
        match Root::create_space() {
            Ok((root, address)) => {
                *entry(id).tables.lock() = root;
                entry(id).root.store(address, Ordering::Release);
                // Without memory for the handle it ends as every space does.
                fallible::try_arc(Self(id)).map_err(|OutOfHeap| SpaceError::OutOfHeap)
            }
            Err(error) => {
                give_back(id);
                Err(error.into())
            }
        }
    }

    /// Maps `pages` fresh frames from `address` on, each filled with the word `pattern`.
    ///
    /// # Errors
    /// [`SpaceError`] says what is wrong or missing; nothing has changed then.
    pub fn map(&self, address: u64, pages: u64, pattern: u64, access: Access) -> Result<(), SpaceError> {
        let _shield = Shield::new();
        check(address, pages)?;
        let list = frames::allocate(pages as usize, Use::Mapped)?;
        list.for_each(|frame| frames::fill(frame, pattern));
        let mapped = {
            let mut tables = entry(self.0).tables.lock();
            match tables.first_where(address, pages, |value| value != 0) {
                Some(used) => Err(SpaceError::InUse(used)),
                None => tables.map_frames(address, &list, access).map_err(SpaceError::from),
            }
        };
        match mapped {
            Ok(()) => {
                frames::disown(list); // the tables have them
                oracle::mapped_in_space(self.0, address, pages);
            }
            Err(_) => frames::free(list),
        }
        mapped
    }

    /// Unmaps `pages` pages from `address` on. When this returns no CPU can use them any more; the frames are free.
    ///
    /// # Errors
    /// [`SpaceError`] says what is wrong: the first page, if one is not mapped. Nothing has changed then.
    pub fn unmap(&self, address: u64, pages: u64) -> Result<(), SpaceError> {
        let _shield = Shield::new();
        check(address, pages)?;
        let begun = time::now();
        let mut taken = FrameList::empty();
        {
            let mut tables = entry(self.0).tables.lock();
            if let Some(missing) = tables.first_where(address, pages, |value| !paging::is_present(value)) {
                return Err(SpaceError::NotMapped(missing));
            }
            let left_behind = if bug::armed(Bug::VaReuseEarly) { 0 } else { paging::LEAVING };
            tables.unmap(address, pages, left_behind, |frame| taken.append(frames::adopt(frame, Use::Mapped)));
        }
        let mut ranges = Ranges::new(tlb::flush_ceiling());
        ranges.push(PageRange { start: address, pages: pages as u32 });
        let _here = PreemptOff::new();
        let unmapped = Unmapped::in_space(&Hardware, self.0, &mut ranges, taken);
        let taken = tlb::shoot_down(unmapped, begun, &mut may_wait(0)).release();
        let by = oracle::has_asked();
        if !bug::armed(Bug::VaReuseEarly) {
            entry(self.0).tables.lock().forget(address, pages);
        }
        custody::free(Held { frames: taken, slots: SlotList::empty(), begun, pages: 0 }, by);
        Ok(())
    }

    /// The physical address behind `address`, from the page tables.
    #[must_use]
    pub fn translate(&self, address: u64) -> Option<PhysAddr> {
        let _shield = Shield::new();
        check(address & !(PAGE_SIZE - 1), 1).ok()?;
        entry(self.0).tables.lock().translate(address)
    }

    /// Its number.
    pub(crate) const fn id(&self) -> SpaceId {
        self.0
    }
}

impl Drop for AddressSpace {
    /// No thread runs in it. CPUs may still have it loaded, lazily: they are asked to let it go before its tables are freed.
    fn drop(&mut self) {
        let _shield = Shield::new();
        let begun = time::now();
        let (mut mapped, mut tables) = (FrameList::empty(), FrameList::empty());
        let root = core::mem::replace(&mut *entry(self.0).tables.lock(), Root::none());
        root.take_apart(
            |frame| mapped.append(frames::adopt(frame, Use::Mapped)),
            |table| tables.append(frames::adopt(table, Use::Table)),
        );
        let mut ranges = Ranges::new(0); // everything
        ranges.push(PageRange { start: LOWEST, pages: mapped.len() as u32 });
        ranges.free_tables();
        let _here = PreemptOff::new();
        let unmapped = Unmapped::in_space(&Hardware, self.0, &mut ranges, (mapped, tables));
        let (mapped, tables) = tlb::shoot_down(unmapped, begun, &mut may_wait(0)).release();
        let by = oracle::has_asked();
        entry(self.0).root.store(0, Ordering::Relaxed);
        give_back(self.0);
        for frames in [mapped, tables] {
            custody::free(Held { frames, slots: SlotList::empty(), begun, pages: 0 }, by);
        }
    }
}

/// The number may be used again: no CPU has the space loaded.
fn give_back(id: SpaceId) {
    // Release: pairs with the acquire of the next user.
    TAKEN.fetch_and(!(1 << id.0), Ordering::AcqRel);
}

fn entry(id: SpaceId) -> &'static Entry {
    &ENTRIES[id.0 as usize]
}

fn check(address: u64, pages: u64) -> Result<(), SpaceError> {
    if pages == 0 {
        return Err(SpaceError::Zero);
    }
    if !address.is_multiple_of(PAGE_SIZE) {
        return Err(SpaceError::Unaligned(address));
    }
    let end = pages.checked_mul(PAGE_SIZE).and_then(|bytes| address.checked_add(bytes));
    match end {
        Some(end) if address >= LOWEST && end <= END => Ok(()),
        _ => Err(SpaceError::OutOfRange(address)),
    }
}

/// What the protocols know of a space.
pub(super) fn known(id: SpaceId) -> &'static Space {
    &entry(id).space
}

/// Loads the space's tables on the calling CPU under this tag, or the kernel's own; see [`paging::load`].
pub(super) fn load(id: Option<SpaceId>, tag: usize, keep: bool) {
    let root = id.map(|id| entry(id).root.load(Ordering::Acquire));
    assert!(root != Some(0), "a space that is loaded exists");
    // SAFETY: a root with the kernel's upper half; it is not freed before this CPU has let it go.
    unsafe { paging::load(root, tag, keep) }
}

/// The calling CPU goes on with a thread of this space, or of none. Interrupts are off.
#[inline]
pub(crate) fn enter(space: Option<SpaceId>) {
    smp::space::switch_to(&Hardware, space);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_pages_of_the_lower_half_are_a_range() {
        assert_eq!(check(LOWEST, 1), Ok(()));
        assert_eq!(check(END - PAGE_SIZE, 1), Ok(()));
        assert_eq!(check(0, 1), Err(SpaceError::OutOfRange(0)));
        assert_eq!(check(END - PAGE_SIZE, 2), Err(SpaceError::OutOfRange(END - PAGE_SIZE)));
        assert_eq!(check(LOWEST, u64::MAX), Err(SpaceError::OutOfRange(LOWEST)));
        assert_eq!(check(LOWEST + 1, 1), Err(SpaceError::Unaligned(LOWEST + 1)));
        assert_eq!(check(LOWEST, 0), Err(SpaceError::Zero));
    }
}
