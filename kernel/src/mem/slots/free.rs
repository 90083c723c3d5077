//! Which slots are free: a list for each size class, and the slots behind it that were never handed out, whose entries are
//! made a chunk at a time.

use super::super::StackKind;
use super::super::fallible::{self, OutOfHeap};
use super::{CHUNK, CHUNK_TABLE, CLASSES, Kind, SMALLEST, Slot, SlotId, capacity};
use crate::cpu;
use crate::inject::{self, Sources};
use crate::sync::SpinLock;
use crate::thread::PreemptOff;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

struct FreeList {
    head: *const Slot,
    /// Slots from this number on were never handed out.
    fresh: u32,
    live: u32,
}

// SAFETY: the pointers are null or to slots, which live for ever and are `Sync`.
unsafe impl Send for FreeList {}

static FREE: [SpinLock<FreeList>; CLASSES] =
    [const { SpinLock::new("slots", FreeList { head: ptr::null(), fresh: 0, live: 0 }) }; CLASSES];

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
#[inline(always)]
pub(crate) fn allocate(pages: u64, guard: u64) -> Result<SlotId, NoSlot> {
    let class = class_for(pages, guard).ok_or(NoSlot::OutOfAddresses)?;
    if inject::fails(Sources::SLOTS) {
        return Err(NoSlot::OutOfAddresses);
    }
    let slot = match take_spare(class) {
        Some(slot) => slot,
        None => take_freed(class).or_else(|| take_from_others(class)).map_or_else(|| take_fresh(class), Ok)?,
    };
    slot.guard.store(guard as u32, Ordering::Relaxed);
    slot.pages.store(0, Ordering::Relaxed);
    Ok(SlotId(slot))
}

/// The smallest class whose slots have room.
fn class_for(pages: u64, guard: u64) -> Option<usize> {
    let needed = guard.checked_mul(2)?.checked_add(pages)?;
    // The smallest power of two that is not less, and SMALLEST at least.
    let class = (needed.wrapping_sub(1) | (SMALLEST - 1)).ilog2().wrapping_sub(SMALLEST.ilog2() - 1) as usize;
    (class < CLASSES).then_some(class)
}

/// The class of the slot that a CPU may keep, in a word of its own that takes no lock: the smallest that has room for a stack of
/// four pages, as most have.
const SPARE: usize = 1;

/// The slot that was freed last on this CPU, if that is of this class, and nobody took it since.
#[inline(always)]
fn take_spare(class: usize) -> Option<&'static Slot> {
    if class != SPARE {
        return None;
    }
    // SAFETY: null, or a slot that was kept. If the caller is moved to another CPU in between, it takes that one's.
    unsafe { cpu::this_racy().spare_slot.swap(ptr::null_mut(), Ordering::Acquire).cast::<Slot>().as_ref() }
}

#[inline(always)]
fn keep_spare(slot: &'static Slot) -> bool {
    let word = ptr::from_ref(slot).cast_mut().cast();
    cpu::this_racy().spare_slot.compare_exchange(ptr::null_mut(), word, Ordering::Release, Ordering::Relaxed).is_ok()
}

/// Slots that CPUs keep.
fn spares() -> impl Iterator<Item = &'static AtomicPtr<()>> {
    cpu::all().map(|cpu| &cpu.spare_slot)
}

fn take_freed(class: usize) -> Option<&'static Slot> {
    let mut free = FREE[class].lock();
    // SAFETY: null, or a slot that was freed.
    let slot = unsafe { free.head.as_ref() }?;
    free.head = slot.next.load(Ordering::Relaxed);
    free.live = free.live.wrapping_add(1);
    Some(slot)
}

/// A slot that was freed meanwhile, or was never handed out.
#[cold]
fn take_fresh(class: usize) -> Result<&'static Slot, NoSlot> {
    loop {
        match take_any(class)? {
            Taken::Slot(slot) => return Ok(slot),
            // Outside the lock, since it allocates. Others may be faster and take all that are in it: then the next.
            Taken::NeedsChunk(chunk) => make_chunk(class, chunk).map_err(|OutOfHeap| NoSlot::OutOfHeap)?,
        }
    }
}

/// A slot that another CPU keeps.
#[cold]
fn take_from_others(class: usize) -> Option<&'static Slot> {
    let mut kept = spares().filter(|spare| class == SPARE && !spare.load(Ordering::Relaxed).is_null());
    // SAFETY: as in `take_spare`.
    kept.find_map(|spare| unsafe { spare.swap(ptr::null_mut(), Ordering::Acquire).cast::<Slot>().as_ref() })
}

enum Taken {
    Slot(&'static Slot),
    /// No slot is taken: the entries of the next one are to be made first.
    NeedsChunk(usize),
}

fn take_any(class: usize) -> Result<Taken, NoSlot> {
    if let Some(slot) = take_freed(class) {
        return Ok(Taken::Slot(slot));
    }
    let mut free = FREE[class].lock();
    if free.fresh >= capacity(class) {
        return Err(NoSlot::OutOfAddresses);
    }
    let chunk = (free.fresh / CHUNK) as usize;
    let Some(slots) = CHUNK_TABLE[class][chunk].get() else { return Ok(Taken::NeedsChunk(chunk)) };
    let slot = &slots[(free.fresh % CHUNK) as usize];
    free.fresh += 1;
    free.live += 1;
    Ok(Taken::Slot(slot))
}

/// Makes the entries of a chunk's slots, once, whoever comes first; they are kept for ever.
fn make_chunk(class: usize, chunk: usize) -> Result<(), OutOfHeap> {
    // Who comes second spins, so the first is not preempted.
    let _here = PreemptOff::new();
    CHUNK_TABLE[class][chunk].try_call_once(|| {
        let mut numbers = chunk as u32 * CHUNK..;
        let slots = fallible::try_slice(CHUNK as usize, || Slot::new(class, numbers.next().unwrap_or(0)))?;
        CHUNKS_MADE.fetch_add(1, Ordering::Relaxed);
        Ok(slots)
    })?;
    Ok(())
}

/// Takes a slot back. Nothing is mapped in it, and no TLB says otherwise.
#[inline(always)]
pub(crate) fn free(id: SlotId) {
    let slot = id.0;
    slot.kind.store(Kind::Empty as u32, Ordering::Relaxed);
    slot.owner.store(ptr::null_mut(), Ordering::Relaxed);
    slot.pages.store(0, Ordering::Relaxed);
    slot.stack.store(StackKind::Thread as u32, Ordering::Relaxed);
    if let Some(lender) = id.lender() {
        slot.lender.store(ptr::null_mut(), Ordering::Relaxed);
        lender.give_back();
    }
    if id.class() != SPARE || !keep_spare(slot) {
        put_in_list(id);
    }
}

fn put_in_list(id: SlotId) {
    let mut free = FREE[id.class()].lock();
    id.0.next.store(free.head.cast_mut(), Ordering::Relaxed);
    free.head = id.0;
    free.live = free.live.wrapping_sub(1);
}

/// How many slots are handed out.
#[must_use]
pub fn live() -> u64 {
    // Those that CPUs keep count as handed out in the lists.
    let kept = spares().filter(|spare| !spare.load(Ordering::Relaxed).is_null()).count();
    FREE.iter().map(|free| u64::from(free.lock().live)).sum::<u64>().saturating_sub(kept as u64)
}

/// Chunks of slot entries there are; each is one allocation, kept for ever.
pub(in crate::mem) fn chunks() -> u64 {
    CHUNKS_MADE.load(Ordering::Relaxed).into()
}

#[cfg(test)]
mod tests {
    use super::super::classify;
    use super::*;

    #[test]
    fn a_freed_slot_is_the_next_one_handed_out() {
        let (a, b) = (allocate(30, 2).unwrap(), allocate(30, 2).unwrap());
        free(a);
        assert_eq!(allocate(30, 2), Ok(a));
        free(b);
        free(a);
    }

    #[test]
    fn what_cannot_fit_is_refused() {
        assert_eq!(allocate(1 << 20, 1), Err(NoSlot::OutOfAddresses));
        assert_eq!(allocate(1, 1 << 63), Err(NoSlot::OutOfAddresses));
        assert_eq!(classify(0), None);
        assert_eq!(classify(u64::MAX), None);
    }
}
