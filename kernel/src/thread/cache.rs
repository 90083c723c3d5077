//! Stacks that are kept mapped when their threads have left them, a few on each CPU, so that a spawn after an exit maps nothing
//! and unmaps nothing: `cache=`, off unless it is asked for.
//!
//! ```text
//!   epilogue ──(1) keep──▶ [ … ] of this CPU ──(2) take──▶ the next thread that this CPU starts
//!                             └──(3) drain: whoever lacks memory, or wants a quiet moment──▶ unmapped, shot down, freed
//! ```
//! Each place is one word that is swapped, so that (3) may come from any CPU at any time. Only stacks of the default size are
//! kept.
//!
//! What a thread left on its stack is not shown to the next: (2) clears what may have been written to. That is known by the
//! page: a page's dirty bit is set by the first write after it was mapped, and nobody ever clears it, so a page without it
//! holds what it held when the stack was first taken, cleared as a whole.

use super::{Shield, builder};
use crate::bug;
use crate::cpu;
use crate::mem::guarded::{self, Fill, TakeDown};
use crate::mem::slots::{Kind, SlotId};
use crate::stats;
use crate::sync::may_wait;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use wire::cmdline::Bug;

/// The most stacks that a CPU can keep. Linux keeps two (`kernel/fork.c`, `NR_CACHED_STACKS`).
pub(crate) const MOST: usize = 16;
/// How many each CPU keeps.
static SIZE: AtomicU32 = AtomicU32::new(0);

/// A CPU's stacks.
pub(crate) struct Cache {
    places: [AtomicPtr<()>; MOST],
    /// Where the next goes: nothing is in this place, nor in those after it. Only the CPU itself writes it.
    top: AtomicU32,
}

impl Cache {
    pub(crate) const fn new() -> Self {
        Self { places: [const { AtomicPtr::new(ptr::null_mut()) }; MOST], top: AtomicU32::new(0) }
    }

    /// The place of this number, which is less than [`MOST`].
    #[inline(always)]
    const fn place(&self, number: u32) -> &AtomicPtr<()> {
        &self.places[number as usize % MOST] // no check, and no panic, on the way of each exit
    }

    /// Keeps a stack in a place that others have drained, where the places are filled up to the last.
    #[cold]
    fn keep_in_gap(&self, slot: SlotId, size: u32) -> bool {
        let is_free = |place: &&AtomicPtr<()>| place.load(Ordering::Relaxed).is_null();
        if !self.places[size as usize..].iter().all(|place| is_free(&place)) {
            return false; // it was more once
        }
        let Some(gap) = self.places[..size as usize].iter().find(is_free) else { return false };
        self.top.store(size, Ordering::Relaxed);
        put(slot, gap);
        true
    }
}

/// Sets how many stacks each CPU keeps, 0 to 16; 0 turns the cache off.
pub fn set_size(stacks: u32) {
    SIZE.store(stacks.min(MOST as u32), Ordering::Relaxed);
}

/// (1) Keeps a stack that its CPU has left, with interrupts off; false if it is not to be kept. Nobody owns it any more.
#[inline(always)]
pub(super) fn keep(slot: SlotId) -> bool {
    let size = SIZE.load(Ordering::Relaxed);
    if size == 0 || !builder::is_default(slot) || !slot.has_entries() {
        return false;
    }
    let cache = &cpu::this_racy().stacks;
    let top = cache.top.load(Ordering::Relaxed);
    if top >= size {
        return cache.keep_in_gap(slot, size);
    }
    put(slot, cache.place(top));
    cache.top.store(top.wrapping_add(1), Ordering::Relaxed);
    true
}

#[inline(always)]
fn put(slot: SlotId, place: &AtomicPtr<()>) {
    slot.release_owner();
    // Release: pairs with the acquire of whoever takes it, on whichever CPU.
    place.store(slot.into_raw(), Ordering::Release);
}

/// (2) Takes the stack that was kept last, if there is one and it is such as is wanted.
#[inline(always)]
pub(super) fn take(pages: u64, guard: u64, fill: Option<Fill>) -> Option<SlotId> {
    if SIZE.load(Ordering::Relaxed) == 0 { None } else { take_kept(pages, guard, fill) }
}

#[inline(always)]
fn take_kept(pages: u64, guard: u64, fill: Option<Fill>) -> Option<SlotId> {
    if !builder::are_default(pages, guard) {
        return None;
    }
    let slot = {
        let _here = super::PreemptOff::new();
        let cache = &cpu::this_racy().stacks;
        pop(cache)
    };
    let Some(slot) = slot else {
        stats::count(stats::CACHE_MISSES);
        return None;
    };
    stats::count(stats::CACHE_HITS);
    match fill {
        Some(Fill::AsIs) => {}
        None | Some(Fill::Zeros) if bug::armed(Bug::CacheKeepsContents) => {}
        None | Some(Fill::Zeros) => guarded::clear_dirty(slot),
    }
    Some(slot)
}

#[inline(always)]
fn pop(cache: &Cache) -> Option<SlotId> {
    loop {
        let top = cache.top.load(Ordering::Relaxed).checked_sub(1)?;
        cache.top.store(top, Ordering::Relaxed);
        // SAFETY: null, or of a slot, by `keep`.
        let kept = unsafe { SlotId::from_raw(cache.place(top).swap(ptr::null_mut(), Ordering::Acquire)) };
        if kept.is_some() {
            return kept; // else others have drained it
        }
    }
}

/// (3) Frees all stacks that are kept, on all CPUs, with one shootdown for as many as fit. How many there were. Waits for other
/// CPUs.
pub(super) fn drain() -> usize {
    if kept() == 0 {
        return 0;
    }
    let _shield = Shield::new();
    let mut ranges = guarded::no_ranges();
    let mut down = TakeDown::new(&mut ranges);
    for place in cpu::all().flat_map(|cpu| &cpu.stacks.places) {
        // SAFETY: as above; the swap gives it to one only.
        let taken = unsafe { SlotId::from_raw(place.swap(ptr::null_mut(), Ordering::Acquire)) };
        if let Some(slot) = taken.filter(|slot| slot.claim(Kind::Stack)) {
            down.add(slot, true);
        }
    }
    down.finish(&mut may_wait(0))
}

/// How many stacks are kept at the moment.
#[must_use]
pub fn kept() -> usize {
    cpu::all().flat_map(|cpu| &cpu.stacks.places).filter(|place| !place.load(Ordering::Relaxed).is_null()).count()
}
