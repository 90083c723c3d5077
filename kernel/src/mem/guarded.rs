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
use super::frames::{self, FrameList, Use};
use super::oracle;
use super::paging::{self, Access};
use super::slots::{self, Kind, SlotId, SlotList};
use super::{PAGE_SIZE, PhysAddr, probe, tlb};
use crate::bug;
use crate::sync::may_wait;
use crate::thread::{PreemptOff, Shield};
use crate::time;
use crate::trace::{Event, emit};
use core::fmt;
use core::mem::ManuallyDrop;
use smp::{MayWait, PageRange, Ranges, Unmapped};
use wire::cmdline::Bug;

/// Contents of fresh memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Whatever was there.
    AsIs,
    /// Zeros.
    Zeros,
}

/// Why something could not be mapped. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// No page was asked for, or no guard.
    Zero,
    /// The address is not the start of a page.
    Unaligned(u64),
    /// The range reaches past the last physical address.
    Overflow(u64),
    /// The memory is the kernel's own.
    InUse(u64),
    /// No frame is left for the memory or its page tables.
    OutOfFrames,
    /// No slot is left that is large enough.
    OutOfAddresses,
}

/// Why something could not be unmapped. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnmapError {
    /// No mapping starts at this address.
    NotMapped(u64),
    /// A value owns what starts there; it is unmapped when that is dropped.
    IsOwned(u64),
    /// A stack starts there; it ends with its thread.
    IsStack(u64),
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero => f.write_str("no page, or no guard, was asked for"),
            Self::Unaligned(address) => write!(f, "{address:#x} is not the start of a page"),
            Self::Overflow(address) => write!(f, "the range from {address:#x} on reaches past physical memory's end"),
            Self::InUse(address) => write!(f, "{address:#x} is memory of the kernel"),
            Self::OutOfFrames => f.write_str("no frame is left"),
            Self::OutOfAddresses => f.write_str("no range of addresses is left"),
        }
    }
}

impl fmt::Display for UnmapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMapped(address) => write!(f, "no mapping starts at {address:#x}"),
            Self::IsOwned(address) => write!(f, "what starts at {address:#x} has an owner"),
            Self::IsStack(address) => write!(f, "a stack starts at {address:#x}"),
        }
    }
}

impl core::error::Error for MapError {}
impl core::error::Error for UnmapError {}

impl From<frames::OutOfFrames> for MapError {
    fn from(_: frames::OutOfFrames) -> Self {
        Self::OutOfFrames
    }
}

/// The highest physical address plus one: 52 bits, the architecture's limit.
const PHYSICAL_END: u64 = 1 << 52;

/// A mapping between guards, owned: dropping it unmaps it, with a shootdown.
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
    pub fn physical(physical: PhysAddr, pages: u64, guard: u64, access: Access) -> Result<Self, MapError> {
        let _shield = Shield::new();
        let bytes = pages.checked_mul(PAGE_SIZE).filter(|bytes| *bytes <= PHYSICAL_END);
        let end = bytes.and_then(|bytes| physical.0.checked_add(bytes)).filter(|end| *end <= PHYSICAL_END);
        match end {
            _ if pages == 0 || guard == 0 => return Err(MapError::Zero),
            _ if !physical.0.is_multiple_of(PAGE_SIZE) => return Err(MapError::Unaligned(physical.0)),
            None => return Err(MapError::Overflow(physical.0)),
            Some(end) => {
                let mut each = (physical.0..end).step_by(PAGE_SIZE as usize);
                if let Some(ours) = each.find(|address| frames::is_ours(*address)) {
                    return Err(MapError::InUse(ours));
                }
            }
        }
        let slot = slots::allocate(pages, guard).ok_or(MapError::OutOfAddresses)?;
        let address = slot.end() - pages * PAGE_SIZE;
        if let Err(error) = paging::map_foreign(address, physical, pages, access) {
            slots::free(slot);
            return Err(error.into());
        }
        slot.describe(pages, Kind::Foreign);
        emit(Event::Map { slot: slot.into_bits(), pages });
        Ok(Self(slot))
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
        assert!(offset + 8 <= self.0.pages() * PAGE_SIZE, "offset {offset} is past the end");
        probe::read(self.start() + offset)
    }

    /// Writes the word at byte `offset`; whether this CPU's translation allowed it.
    ///
    /// # Panics
    /// If the word is not inside the mapping.
    pub fn write(&self, offset: u64, value: u64) -> bool {
        assert!(offset + 8 <= self.0.pages() * PAGE_SIZE, "offset {offset} is past the end");
        // SAFETY: inside the mapping, which this value owns and nothing else uses as Rust objects.
        unsafe { probe::write(self.start() + offset, value) }
    }

    /// The physical address of the byte at `offset`, from the page tables.
    #[must_use]
    pub fn translate(&self, offset: u64) -> Option<PhysAddr> {
        paging::translate(self.start() + offset)
    }

    /// Gives the mapping's address in place of the value: [`unmap`] takes it.
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
        take_down(core::iter::once(self.0), kind == Kind::Memory, &mut may_wait(0));
    }
}

/// Unmaps the mapping that starts at `address`, which [`GuardedMapping::into_address`] gave.
///
/// # Errors
/// [`UnmapError::NotMapped`] if none does: a wrong address, or unmapped before, or by somebody else just now.
/// [`UnmapError::IsOwned`] if a value owns the mapping, and [`UnmapError::IsStack`] for a stack.
pub fn unmap(address: u64) -> Result<(), UnmapError> {
    let _shield = Shield::new();
    let slot = slots::slot_of(address).filter(|slot| slot.pages() > 0 && slot.start() == address);
    let slot = slot.ok_or(UnmapError::NotMapped(address))?;
    let kind = match slot.kind() {
        loose @ (Kind::LooseMemory | Kind::LooseForeign) => loose,
        Kind::Memory | Kind::Foreign => return Err(UnmapError::IsOwned(address)),
        Kind::Stack => return Err(UnmapError::IsStack(address)),
        Kind::Empty => return Err(UnmapError::NotMapped(address)),
    };
    if !slot.claim(kind) {
        return Err(UnmapError::NotMapped(address));
    }
    if slot.start() != address {
        // Unmapped by somebody else and used for another loose mapping since it was looked at: not the one that was meant.
        slot.describe(slot.pages(), kind);
        return Err(UnmapError::NotMapped(address));
    }
    take_down(core::iter::once(slot), kind == Kind::LooseMemory, &mut may_wait(0));
    Ok(())
}

/// The word at any address, read through this CPU's TLB; `None` if it faults.
#[must_use]
pub fn peek(address: u64) -> Option<u64> {
    probe::read(address)
}

/// Maps fresh frames in a fresh slot.
pub(crate) fn map_fresh(pages: u64, guard: u64, fill: Fill, access: Access, kind: Kind) -> Result<SlotId, MapError> {
    if pages == 0 || guard == 0 {
        return Err(MapError::Zero);
    }
    let slot = slots::allocate(pages, guard).ok_or(MapError::OutOfAddresses)?;
    match fill_slot(slot, pages, fill, access, kind) {
        Ok(()) => Ok(slot),
        Err(error) => {
            slots::free(slot);
            Err(error)
        }
    }
}

fn fill_slot(slot: SlotId, pages: u64, fill: Fill, access: Access, kind: Kind) -> Result<(), MapError> {
    let frames = frames::allocate(pages as usize, Use::Mapped)?;
    if fill == Fill::Zeros {
        frames.for_each(frames::clear);
    }
    if let Err((error, frames)) = paging::map_frames(slot.end() - pages * PAGE_SIZE, frames, access) {
        frames::free(frames);
        return Err(error.into());
    }
    slot.describe(pages, kind);
    emit(Event::Map { slot: slot.into_bits(), pages });
    oracle::mapped(slot);
    Ok(())
}

/// Unmaps all of `taken` with one shootdown; once no CPU can use them any more, the slots come free, and the frames if they
/// are the allocator's. How many slots there were. The caller has claimed them: nobody else takes them down.
pub(crate) fn take_down(taken: impl Iterator<Item = SlotId>, owned: bool, permit: &mut MayWait) -> usize {
    let begun = time::now();
    let mut ranges = Ranges::new(tlb::flush_ceiling());
    let mut held = Held { frames: FrameList::empty(), slots: SlotList::empty(), begun, pages: 0 };
    let mut count = 0;
    for slot in taken {
        clear(slot, &mut ranges, owned.then_some(&mut held.frames));
        if bug::armed(Bug::SlotReuseEarly) {
            slots::free(slot);
        } else {
            held.slots.push(slot);
        }
        count += 1;
    }
    if count > 0 {
        held.pages = ranges.pages();
        custody::release(Unmapped::new(&ranges, held), permit);
    }
    count
}

/// Clears the slot's page-table entries; its frames join `frames`, if there is such a list.
fn clear(slot: SlotId, ranges: &mut Ranges, mut frames: Option<&mut FrameList>) {
    let (start, pages) = slot.extent();
    emit(Event::Unmap { slot: slot.into_bits(), pages });
    let keep = |frame| {
        if let Some(frames) = &mut frames {
            frames.append(frames::adopt(frame, Use::Mapped));
        }
    };
    if bug::armed(Bug::ClearAfterFlush) {
        (0..pages).filter_map(|page| paging::translate(start + page * PAGE_SIZE)).map(|frame| frame.0).for_each(keep);
    } else {
        paging::unmap(start, pages, keep);
    }
    ranges.push(PageRange { start, pages: pages as u32 });
}

/// Every CPU has flushed: the moment at which the fault `clear-after-flush` clears the entries.
pub(super) fn clear_late(slot: SlotId) {
    if bug::armed(Bug::ClearAfterFlush) {
        let (start, pages) = slot.extent();
        paging::unmap(start, pages, |_| ());
    }
}

/// A slot whose addresses stay, while what is mapped there comes and goes. Made for probing stale translations.
#[derive(Debug)]
pub struct Window {
    slot: SlotId,
    room: u64,
}

impl Window {
    /// Reserves addresses for `pages` pages.
    ///
    /// # Errors
    /// [`MapError`] if there are none, or `pages` is 0.
    pub fn new(pages: u64) -> Result<Self, MapError> {
        let _shield = Shield::new();
        if pages == 0 {
            return Err(MapError::Zero);
        }
        let slot = slots::allocate(pages, 1).ok_or(MapError::OutOfAddresses)?;
        Ok(Self { slot, room: pages })
    }

    /// Where it begins, mapped or not.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.slot.end() - self.room * PAGE_SIZE
    }

    /// Maps fresh frames, each filled with the word `pattern`, at the same addresses as ever.
    ///
    /// # Errors
    /// [`MapError`] if there are no frames.
    ///
    /// # Panics
    /// If it is mapped.
    pub fn map(&mut self, pattern: u64) -> Result<(), MapError> {
        let _shield = Shield::new();
        assert!(self.slot.pages() == 0, "the window is mapped");
        let list = frames::allocate(self.room as usize, Use::Mapped)?;
        list.for_each(|frame| frames::fill(frame, pattern));
        if let Err((error, list)) = paging::map_frames(self.start(), list, Access::ReadWrite) {
            frames::free(list);
            return Err(error.into());
        }
        self.slot.describe(self.room, Kind::Memory);
        emit(Event::Map { slot: self.slot.into_bits(), pages: self.room });
        oracle::mapped(self.slot);
        Ok(())
    }

    /// Unmaps what is mapped: when this returns, no CPU can read it at these addresses any more. The frames are free,
    /// and filled with `poison` if one is given.
    pub fn unmap(&mut self, poison: Option<u64>) {
        let _shield = Shield::new();
        if !self.slot.claim(Kind::Memory) {
            return;
        }
        let begun = time::now();
        let mut ranges = Ranges::new(tlb::flush_ceiling());
        let mut frames = FrameList::empty();
        clear(self.slot, &mut ranges, Some(&mut frames));
        let _here = PreemptOff::new();
        let frames = tlb::shoot_down(Unmapped::new(&ranges, frames), begun, &mut may_wait(0)).release();
        let by = oracle::has_asked();
        clear_late(self.slot);
        emit(Event::Free { slot: self.slot.into_bits() });
        self.slot.describe(0, Kind::Empty);
        if let Some(poison) = poison {
            frames.for_each(|frame| {
                // SAFETY: a frame that only this list owns, through the HHDM.
                unsafe { (paging::hhdm(frame) as *mut u64).write(poison) }
            });
        }
        // The addresses stay the window's, and are mapped again whenever it likes.
        custody::free(Held { frames, slots: SlotList::empty(), begun, pages: 0 }, by);
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.unmap(None);
        slots::free(self.slot);
    }
}
