//! Chains of slots.

use super::{Slot, SlotId};
use core::ptr;
use core::sync::atomic::Ordering;

/// Slots on their way to be freed, chained through their own entries.
pub(crate) struct SlotList(*const Slot);

// SAFETY: as for the list of free ones.
unsafe impl Send for SlotList {}

impl SlotList {
    pub(crate) const fn empty() -> Self {
        Self(ptr::null())
    }

    pub(crate) fn push(&mut self, id: SlotId) {
        id.0.next.store(self.0.cast_mut(), Ordering::Relaxed);
        self.0 = id.0;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = SlotId> + use<> {
        let mut left = Self(self.0);
        core::iter::from_fn(move || left.pop())
    }

    pub(crate) fn pop(&mut self) -> Option<SlotId> {
        // SAFETY: null, or a slot that was pushed.
        let slot = unsafe { self.0.as_ref() }?;
        self.0 = slot.next.load(Ordering::Relaxed);
        Some(SlotId(slot))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{allocate, free};
    use super::*;

    #[test]
    fn a_list_of_slots_gives_back_what_it_got() {
        let ids = [allocate(900, 1).unwrap(), allocate(900, 1).unwrap(), allocate(2000, 1).unwrap()];
        let mut list = SlotList::empty();
        ids.iter().for_each(|id| list.push(*id));
        let mut back: Vec<_> = std::iter::from_fn(|| list.pop()).collect();
        back.reverse();
        assert_eq!(back, ids);
        back.into_iter().for_each(free);
    }
}
