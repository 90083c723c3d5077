//! Which slots are free: a list for each size class, and the slots behind it that were never handed out, whose entries are
//! made a chunk at a time.

use super::super::fallible::{self, OutOfHeap};
use super::{CHUNK, CHUNK_TABLE, CLASSES, Kind, NONE, SMALLEST, Slot, SlotId, capacity};
use crate::inject::{self, Sources};
use crate::sync::SpinLock;
use crate::thread::PreemptOff;
use core::sync::atomic::{AtomicU32, Ordering};

struct FreeList {
    head: u32,
    /// Slots from this number on were never handed out.
    fresh: u32,
    live: u32,
}

static FREE: [SpinLock<FreeList>; CLASSES] =
    [const { SpinLock::new("slots", FreeList { head: NONE, fresh: 0, live: 0 }) }; CLASSES];

static CHUNKS_MADE: AtomicU32 = AtomicU32::new(0);

/// Why there is no slot. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSlot {
    /// There is none left, or none so large.
    OutOfAddresses,
    /// There is no memory for the slots' entries.
    OutOfHeap,
}

/// Hands out a slot for `pages` pages between guards of at least `guard` pages.
///
/// # Errors
/// [`NoSlot`] says what is missing.
pub(crate) fn allocate(pages: u64, guard: u64) -> Result<SlotId, NoSlot> {
    let class = class_for(pages, guard).ok_or(NoSlot::OutOfAddresses)?;
    if inject::fails(Sources::SLOTS) {
        return Err(NoSlot::OutOfAddresses);
    }
    let number = loop {
        match take(class)? {
            Taken::Slot(number) => break number,
            // Outside the lock, since it allocates. Others may be faster and take all that are in it: then the next.
            Taken::NeedsChunk(chunk) => make_chunk(class, chunk).map_err(|OutOfHeap| NoSlot::OutOfHeap)?,
        }
    };
    let id = SlotId::new(class, number);
    let slot = id.slot();
    slot.guard.store(guard as u32, Ordering::Relaxed);
    slot.pages.store(0, Ordering::Relaxed);
    Ok(id)
}

fn class_for(pages: u64, guard: u64) -> Option<usize> {
    let needed = guard.checked_mul(2)?.checked_add(pages)?;
    (0..CLASSES).find(|class| SMALLEST << class >= needed)
}

enum Taken {
    Slot(u32),
    /// No slot is taken: the entries of the next one are to be made first.
    NeedsChunk(usize),
}

fn take(class: usize) -> Result<Taken, NoSlot> {
    let mut free = FREE[class].lock();
    let number = if free.head != NONE {
        let number = free.head;
        free.head = SlotId::new(class, number).slot().next.load(Ordering::Relaxed);
        number
    } else if free.fresh < capacity(class) {
        let chunk = (free.fresh / CHUNK) as usize;
        if CHUNK_TABLE[class][chunk].get().is_none() {
            return Ok(Taken::NeedsChunk(chunk));
        }
        free.fresh += 1;
        free.fresh - 1
    } else {
        return Err(NoSlot::OutOfAddresses);
    };
    free.live += 1;
    Ok(Taken::Slot(number))
}

/// Makes the entries of a chunk's slots, once, whoever comes first; they are kept for ever.
fn make_chunk(class: usize, chunk: usize) -> Result<(), OutOfHeap> {
    // Who comes second spins, so the first is not preempted.
    let _here = PreemptOff::new();
    CHUNK_TABLE[class][chunk].try_call_once(|| {
        let slots = fallible::try_slice(CHUNK as usize, Slot::empty)?;
        CHUNKS_MADE.fetch_add(1, Ordering::Relaxed);
        Ok(slots)
    })?;
    Ok(())
}

/// Takes a slot back. Nothing is mapped in it, and no TLB says otherwise.
pub(crate) fn free(id: SlotId) {
    let slot = id.slot();
    slot.kind.store(Kind::Empty as u32, Ordering::Relaxed);
    slot.owner.store(core::ptr::null_mut(), Ordering::Relaxed);
    slot.pages.store(0, Ordering::Relaxed);
    let mut free = FREE[id.class()].lock();
    slot.next.store(free.head, Ordering::Relaxed);
    free.head = id.number();
    free.live -= 1;
}

/// How many slots are handed out.
#[must_use]
pub fn live() -> u64 {
    FREE.iter().map(|free| u64::from(free.lock().live)).sum()
}

/// Chunks of slot entries there are; each is one allocation, kept for ever.
pub(in crate::mem) fn chunks() -> u64 {
    CHUNKS_MADE.load(Ordering::Relaxed).into()
}
