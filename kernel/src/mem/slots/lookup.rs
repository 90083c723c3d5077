//! From an address to its slot, and to what it hits there: for fault handlers, without a lock.

use super::{CLASSES, RANGE, START, SlotId, WINDOW, capacity, size};
use wire::record::Guard;

/// What an address in the slots' range belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// First byte of the mapping in the slot.
    pub start: u64,
    /// First byte past it.
    pub end: u64,
    /// Where the address lies.
    pub region: Region,
}

/// Where an address lies in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// In the mapping.
    Mapped,
    /// In a guard, this many bytes past the edge (1 is the byte next to the mapping).
    Guard(Guard, u64),
    /// In a slot that holds no mapping.
    Empty,
}

/// What `address` hits, if it lies in a slot that was ever handed out. Takes no lock.
#[must_use]
pub fn classify(address: u64) -> Option<Hit> {
    let id = slot_of(address)?;
    let (start, end) = (id.start(), id.end());
    let region = if start == end {
        Region::Empty
    } else if address < start {
        Region::Guard(Guard::Front, start - address)
    } else if address >= end {
        Region::Guard(Guard::Rear, address - end + 1)
    } else {
        Region::Mapped
    };
    Some(Hit { start, end, region })
}

/// Whether `address` lies where slots are, handed out or not.
pub(in crate::mem) const fn is_slots(address: u64) -> bool {
    address >= RANGE.0 && address - RANGE.0 < RANGE.1
}

/// The slot that `address` lies in, if it was ever handed out.
pub(crate) fn slot_of(address: u64) -> Option<SlotId> {
    let offset = address.checked_sub(START)?;
    let class = usize::try_from(offset / WINDOW).ok().filter(|class| *class < CLASSES)?;
    let number = u32::try_from(offset % WINDOW / size(class)).ok().filter(|number| *number < capacity(class))?;
    SlotId::find(class, number)
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, allocate, free};
    use super::*;
    use crate::mem::PAGE_SIZE;
    use wire::record::Guard::{Front, Rear};

    #[test]
    fn every_byte_around_a_mapping_is_told_apart() {
        let id = allocate(3, 1).unwrap();
        id.describe(3, Kind::Memory);
        let (start, end) = (id.start(), id.end());
        assert_eq!(end - start, 3 * PAGE_SIZE);
        let region = |address| classify(address).unwrap().region;
        assert_eq!(region(start - 1), Region::Guard(Front, 1));
        assert_eq!(region(start - PAGE_SIZE), Region::Guard(Front, PAGE_SIZE));
        assert_eq!(region(start), Region::Mapped);
        assert_eq!(region(end - 1), Region::Mapped);
        assert_eq!(region(end), Region::Guard(Rear, 1));
        assert_eq!(region(end + PAGE_SIZE - 1), Region::Guard(Rear, PAGE_SIZE));
        free(id);
        assert_eq!(region(start), Region::Empty);
    }
}
