//! Guarded mappings: memory between two guard pages, and the one path by which all of it is unmapped again.
//!
//! ```text
//!        slot
//!   ┌───────────┬───────────────────────────┬────────┐
//!   │   guard   │  mapping                  │ guard  │
//!   └───────────┴───────────────────────────┴────────┘
//!               start                       end
//! ```
//! Taking one down: entries cleared, frames and slots into the request's custody, one shootdown, then free
//! ([`take_down`], invariant I1).

use super::custody::{self, Held};
use super::error::MapError;
use super::frames::{self, FrameList, OutOfFrames, Use};
use super::general::Cache;
use super::oracle;
use super::paging::{self, Access};
use super::slots::{self, Kind, SlotId, SlotList};
use super::{PAGE_SIZE, PhysAddr, general, probe, tlb};
use crate::bug;
use crate::sync::may_wait;
use crate::thread::Shield;
use crate::time;
use crate::trace::{Event, emit};
use core::mem::ManuallyDrop;
use smp::{MayWait, PageRange, Ranges};
use wire::cmdline::Bug;

/// Contents of fresh memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Whatever was there.
    AsIs,
    /// Zeros.
    Zeros,
}

/// A mapping between guards, owned: dropping it unmaps it, with a shootdown.
///
/// ```no_run
/// use kernel::mem::{Access, Fill, GuardedMapping, MapError};
///
/// # fn example() -> Result<(), MapError> {
/// let mapping = GuardedMapping::anonymous(4, 1, Fill::Zeros, Access::ReadWrite)?; // pages, pages of each guard
/// assert!(mapping.write(8, 42) && mapping.read(8) == Some(42));
/// kernel::println!("{:#x} is backed by {:?}", mapping.start(), mapping.translate(0));
/// # Ok(())
/// # }
/// ```
///
/// # Panics
/// Dropping it, where the caller may not wait: in a handler, with a lock held, with interrupts masked.
#[derive(Debug)]
pub struct GuardedMapping(SlotId);

impl GuardedMapping {
    /// Maps `pages` fresh frames between guards of `guard` pages each.
    ///
    /// # Errors
    /// [`MapError`] says what is wrong or missing; nothing has changed then.
    pub fn anonymous(pages: u64, guard: u64, fill: Fill, access: Access) -> Result<Self, MapError> {
        let _shield = Shield::new();
        map_fresh(pages, guard, fill, access, Kind::Memory).map(Self)
    }

    /// Maps the physical range of `pages` pages at `physical`, which must not be memory that the kernel hands out.
    ///
    /// # Errors
    /// [`MapError`] says what is wrong or missing; nothing has changed then.
    ///
    /// # Safety
    /// With [`write`](Self::write), whoever has the value may write there: if it is a device's, that may do anything.
    pub unsafe fn physical(physical: PhysAddr, pages: u64, guard: u64, access: Access) -> Result<Self, MapError> {
        let _shield = Shield::new();
        let bytes = pages.checked_mul(PAGE_SIZE).ok_or(MapError::Overflow(physical.0))?;
        general::map_physical(physical, bytes, guard, access, Cache::AsUsual, Kind::Foreign).map(Self)
    }

    /// First byte.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.0.start()
    }

    /// First byte past the end.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.0.end()
    }

    /// The word at byte `offset`, read from memory at this moment through this CPU's TLB; `None` if this CPU's
    /// translation does not allow it.
    ///
    /// # Panics
    /// If the word is not inside the mapping.
    #[must_use]
    pub fn read(&self, offset: u64) -> Option<u64> {
        probe::read(self.word_at(offset))
    }

    /// Writes the word at byte `offset`; whether this CPU's translation allowed it.
    ///
    /// # Panics
    /// If the word is not inside the mapping.
    #[must_use = "nothing was written if it was not allowed"]
    pub fn write(&self, offset: u64, value: u64) -> bool {
        // SAFETY: inside the mapping, which this value owns and nothing else uses as Rust objects.
        unsafe { probe::write(self.word_at(offset), value) }
    }

    /// The address of the word at byte `offset`, which is inside.
    fn word_at(&self, offset: u64) -> u64 {
        let inside = offset.checked_add(8).is_some_and(|end| end <= self.0.pages() * PAGE_SIZE);
        assert!(inside, "offset {offset} is past the end");
        self.start() + offset
    }

    /// The physical address of the byte at `offset`, from the page tables; `None` past the end.
    #[must_use]
    pub fn translate(&self, offset: u64) -> Option<PhysAddr> {
        (offset < self.0.pages() * PAGE_SIZE).then(|| paging::translate(self.start() + offset))?
    }

    /// Gives the mapping's address in place of the value: [`unmap`](super::unmap) takes it.
    #[must_use]
    pub fn into_address(self) -> u64 {
        let slot = ManuallyDrop::new(self).0;
        let (loose, pages) =
            (if slot.kind() == Kind::Foreign { Kind::LooseForeign } else { Kind::LooseMemory }, slot.pages());
        slot.describe(pages, loose);
        slot.start()
    }
}

impl Drop for GuardedMapping {
    fn drop(&mut self) {
        let _shield = Shield::new();
        let kind = self.0.kind();
        assert!(self.0.claim(kind), "an owned mapping is mapped");
        take_down(self.0, kind == Kind::Memory, &mut may_wait(0));
    }
}

/// The word at any address, read through this CPU's TLB; `None` if it faults.
#[must_use]
pub fn peek(address: u64) -> Option<u64> {
    probe::read(address)
}

/// Maps fresh frames in a fresh slot.
#[inline(always)]
pub(crate) fn map_fresh(pages: u64, guard: u64, fill: Fill, access: Access, kind: Kind) -> Result<SlotId, MapError> {
    if pages == 0 || guard == 0 {
        return Err(MapError::Zero);
    }
    let slot = slots::allocate(pages, guard)?;
    match fill_slot(slot, pages, fill, access, kind) {
        Ok(()) => Ok(slot),
        Err(error) => {
            slots::free(slot);
            Err(error)
        }
    }
}

#[inline(always)]
fn fill_slot(slot: SlotId, pages: u64, fill: Fill, access: Access, kind: Kind) -> Result<(), MapError> {
    let word = match fill {
        Fill::AsIs => None,
        Fill::Zeros => Some(0),
    };
    map_frames(slot, pages, word, access)?;
    slot.describe(pages, kind);
    slot.set_clean(fill == Fill::Zeros);
    emit(Event::Map { slot: slot.into_bits(), pages });
    oracle::mapped(slot);
    Ok(())
}

/// Maps the `pages` pages of kernel memory from `memory` on once more, as a stack between guards, in a fresh slot.
pub(crate) fn map_view(memory: u64, pages: u64, guard: u64) -> Result<SlotId, MapError> {
    if pages == 0 || guard == 0 {
        return Err(MapError::Zero);
    }
    let slot = slots::allocate(pages, guard)?;
    let start = slot.start_of(pages);
    let each = (0..pages).map(|page| (page * PAGE_SIZE, paging::translate(memory + page * PAGE_SIZE)));
    let mut mapped = 0;
    let done = each.clone().try_for_each(|(offset, physical)| {
        let physical = physical.ok_or(MapError::Unaligned(memory + offset))?;
        paging::map_foreign(start + offset, physical, 1, Access::ReadWrite, Cache::AsUsual)?;
        mapped += 1;
        Ok(())
    });
    if let Err(error) = done {
        // Nobody has seen what was mapped: no CPU has to be told.
        paging::unmap(start, mapped, |_| ());
        slots::free(slot);
        return Err(error);
    }
    slot.describe(pages, Kind::View);
    emit(Event::Map { slot: slot.into_bits(), pages });
    Ok(slot)
}

/// Fills those pages of a stack that may have been written to since it was last taken with zeros.
#[inline]
pub(crate) fn clear_dirty(slot: SlotId) {
    let Ok(Some(entries)) = slot.entries() else { return };
    let (pages, all) = (slot.pages(), !slot.is_clean());
    let first = slot.first_page(pages);
    for page in first..first.wrapping_add(pages) {
        if let Some(frame) = entries.frame_if_written(page, all) {
            // Not through the mapping, whose dirty bit would be set: what was cleared is clean.
            frames::clear(frame);
        }
    }
    slot.set_clean(true);
}

/// Maps fresh frames, filled with a word if one is given, in a slot in which nothing is mapped. The slot keeps the list of them.
#[inline(always)]
pub(super) fn map_frames(slot: SlotId, pages: u64, word: Option<u64>, access: Access) -> Result<(), OutOfFrames> {
    let frames = match slot.entries()? {
        Some(entries) => {
            let mut page = slot.first_page(pages);
            frames::allocate_each(pages as usize, Use::Mapped, |frame| {
                if let Some(word) = word {
                    frames::fill(frame, word);
                }
                entries.map(page, frame, access);
                page = page.wrapping_add(1);
            })?
        }
        None => {
            let frames = frames::allocate(pages as usize, Use::Mapped)?;
            if let Some(word) = word {
                frames.for_each(|frame| frames::fill(frame, word));
            }
            match paging::map_frames(slot.start_of(pages), &frames, access) {
                Ok(()) => frames,
                Err(error) => {
                    frames::free(frames);
                    return Err(error);
                }
            }
        }
    };
    slot.set_frames(frames);
    Ok(())
}

/// Slots on their way out: all of them with one shootdown. Once no CPU can use what was mapped in them any more, they come free, and
/// the frames, if they are the allocator's.
///
/// The ranges are the caller's, so that what is moved is small.
#[must_use = "what was added is unmapped, and nothing is free"]
pub(crate) struct TakeDown<'r> {
    ranges: &'r mut Ranges,
    held: Held,
    count: usize,
}

/// Ranges for a [`TakeDown`].
#[inline(always)]
pub(crate) fn no_ranges() -> Ranges {
    Ranges::new(tlb::flush_ceiling())
}

impl<'r> TakeDown<'r> {
    /// None yet; `ranges` are empty.
    #[inline(always)]
    pub(crate) fn new(ranges: &'r mut Ranges) -> Self {
        let held = Held { frames: FrameList::empty(), slots: SlotList::empty(), begun: time::now(), pages: 0 };
        Self { ranges, held, count: 0 }
    }

    /// Clears the entries of a slot that the caller has claimed: nobody else takes it down. Whether it `owns` its frames is said by
    /// the caller.
    #[inline(always)]
    pub(crate) fn add(&mut self, slot: SlotId, owns: bool) {
        clear(slot, self.ranges, owns.then_some(&mut self.held.frames));
        if bug::armed(Bug::SlotReuseEarly) {
            slots::free(slot);
        } else {
            self.held.slots.push(slot);
        }
        self.count = self.count.wrapping_add(1);
    }

    /// Has the CPUs drop what was added, and nothing is added afterwards. How many slots that was.
    #[inline(always)]
    pub(crate) fn finish(&mut self, permit: &mut MayWait) -> usize {
        if self.count > 0 {
            self.held.pages = self.ranges.pages();
            custody::release(self.ranges, &mut self.held, permit);
        }
        core::mem::take(&mut self.count)
    }
}

/// Takes one slot down.
pub(crate) fn take_down(slot: SlotId, owns: bool, permit: &mut MayWait) {
    let mut ranges = no_ranges();
    let mut down = TakeDown::new(&mut ranges);
    down.add(slot, owns);
    down.finish(permit);
}

/// Clears the slot's page-table entries; its frames join `frames`, if there is such a list.
#[inline(always)]
pub(super) fn clear(slot: SlotId, ranges: &mut Ranges, frames: Option<&mut FrameList>) {
    let (start, pages) = slot.extent();
    emit(Event::Unmap { slot: slot.into_bits(), pages });
    if !bug::armed(Bug::ClearAfterFlush) {
        clear_entries(slot, start, pages);
    }
    if let Some(frames) = frames {
        frames.append(slot.take_frames());
    }
    ranges.push(PageRange { start, pages: pages as u32 });
}

#[inline(always)]
fn clear_entries(slot: SlotId, start: u64, pages: u64) {
    match slot.entries() {
        Ok(Some(entries)) => entries.unmap(slot.first_page(pages), pages),
        _ => paging::unmap(start, pages, |_| ()),
    }
}

/// Every CPU has flushed: the moment at which the fault `clear-after-flush` clears the entries.
#[inline]
pub(super) fn clear_late(slot: SlotId) {
    if bug::armed(Bug::ClearAfterFlush) {
        let (start, pages) = slot.extent();
        clear_entries(slot, start, pages);
    }
}
