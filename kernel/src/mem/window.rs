//! Windows: addresses that stay, while what is mapped there comes and goes.

use super::custody::{self, Held};
use super::error::MapError;
use super::frames::FrameList;
use super::guarded;
use super::paging::{self, Access};
use super::slots::{self, Kind, SlotId, SlotList};
use super::{oracle, tlb};
use crate::sync::may_wait;
use crate::thread::{PreemptOff, Shield};
use crate::time;
use crate::trace::{Event, emit};
use smp::{Ranges, Unmapped};

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
        let slot = slots::allocate(pages, 1)?;
        Ok(Self { slot, room: pages })
    }

    /// Where it begins, mapped or not.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.slot.start_of(self.room)
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
        guarded::map_frames(self.slot, self.room, Some(pattern), Access::ReadWrite)?;
        self.slot.describe(self.room, Kind::Memory);
        emit(Event::Map { slot: self.slot.into_bits(), pages: self.room });
        oracle::mapped(self.slot);
        Ok(())
    }

    /// Unmaps what is mapped: when this returns, no CPU can read it at these addresses any more. The frames are free,
    /// and filled with `poison` if one is given.
    ///
    /// # Panics
    /// Where the caller may not wait: in a handler, with a lock held, with interrupts masked. So does dropping it.
    pub fn unmap(&mut self, poison: Option<u64>) {
        let _shield = Shield::new();
        if !self.slot.claim(Kind::Memory) {
            return;
        }
        let begun = time::now();
        let mut ranges = Ranges::new(tlb::flush_ceiling());
        let mut frames = FrameList::empty();
        guarded::clear(self.slot, &mut ranges, Some(&mut frames));
        let _here = PreemptOff::new();
        let frames = tlb::shoot_down(Unmapped::new(&ranges, frames), begun, &mut may_wait(0)).release();
        let by = oracle::has_asked();
        guarded::clear_late(self.slot);
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
        let _shield = Shield::new();
        self.unmap(None);
        slots::free(self.slot);
    }
}
