//! Addresses on trial: nobody should be able to read there.

use super::super::PAGE_SIZE;
use super::super::slots::SlotId;
use super::{By, first_readable};
use crate::cpu;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crossbeam_utils::CachePadded;
use smp::MAX_CPUS;

/// Addresses on trial; a power of two.
const TRIALS: usize = 256;
/// The most that a CPU tries at once, with interrupts off; of older ones it tries none.
const TRIES: u64 = 16;

static ON_TRIAL: [Trial; TRIALS] = [const { Trial::new() }; TRIALS];
/// The youngest trial's number.
static YOUNGEST: AtomicU64 = AtomicU64::new(0);
/// The youngest that each CPU has tried.
static TRIED: [CachePadded<AtomicU64>; MAX_CPUS] = [const { CachePadded::new(AtomicU64::new(0)) }; MAX_CPUS];

/// An address at which nobody can read. One is written only when what it was for is free.
struct Trial {
    /// 0 while it is written, and when it is over.
    number: AtomicU64,
    slot: AtomicU32,
    pages: AtomicU32,
    start: AtomicU64,
    by: AtomicU64,
}

impl Trial {
    const fn new() -> Self {
        Self {
            number: AtomicU64::new(0),
            slot: AtomicU32::new(0),
            pages: AtomicU32::new(0),
            start: AtomicU64::new(0),
            by: AtomicU64::new(0),
        }
    }

    fn of(number: u64) -> &'static Self {
        &ON_TRIAL[number as usize % TRIALS]
    }

    fn begin(&self, number: u64, slot: SlotId, by: By) {
        let (start, pages) = slot.extent();
        self.slot.store(slot.into_bits(), Ordering::Relaxed);
        self.start.store(start, Ordering::Relaxed);
        self.pages.store(pages as u32, Ordering::Relaxed);
        self.by.store(by.into_bits(), Ordering::Relaxed);
        // Release: whoever sees the number sees the rest.
        self.number.store(number, Ordering::Release);
    }

    fn end(&self) {
        // A read-modify-write, so that it comes before all that follows: mapping the addresses again.
        self.number.swap(0, Ordering::AcqRel);
    }

    /// The first address at which this CPU can read, though nobody should be able to.
    fn fails(&self, number: u64) -> Option<u64> {
        if self.number.load(Ordering::Acquire) != number {
            return None;
        }
        let (start, pages) = (self.start.load(Ordering::Relaxed), self.pages.load(Ordering::Relaxed));
        let readable = first_readable(start, pages.into())?;
        // What was over by then was perhaps mapped again by then. Acquire: it is looked at after the read, which took an
        // exception's return or a load; x86 keeps loads in order.
        (self.number.load(Ordering::Acquire) == number).then_some(readable)
    }
}

/// The number that the next trial will have. Under the lock of whoever begins trials.
pub(super) fn next_number() -> u64 {
    YOUNGEST.load(Ordering::Relaxed) + 1
}

/// Whether so many more trials can begin, while those from `oldest` on go on.
pub(super) fn have_room(oldest: u64, more: usize) -> bool {
    next_number() - oldest + more as u64 <= TRIALS as u64
}

/// Puts these on trial. Under the lock of whoever begins trials, and where they [have room](have_room).
pub(super) fn begin(slots: impl Iterator<Item = SlotId>, by: By) {
    let mut number = next_number();
    for slot in slots {
        Trial::of(number).begin(number, slot, by);
        number += 1;
    }
    // Release: whoever sees the number sees the trials.
    YOUNGEST.store(number - 1, Ordering::Release);
}

/// Ends `count` trials from the number `first` on: what is there may be mapped again after that.
pub(super) fn end(first: u64, count: usize) {
    (first..first + count as u64).for_each(|number| Trial::of(number).end());
}

/// (2) The calling CPU, which is awake and is asked, tries the addresses that came on trial since it did so last.
///
/// # Panics
/// If it can read at one.
#[cold]
pub(super) fn look() {
    let me = cpu::current_id();
    let tried = &TRIED[me.index()];
    let youngest = YOUNGEST.load(Ordering::Acquire);
    let from = tried.load(Ordering::Relaxed).max(youngest.saturating_sub(TRIES));
    // Before it tries: a handler that comes in between begins where this ends.
    tried.store(youngest, Ordering::Relaxed);
    for number in from + 1..=youngest {
        let trial = Trial::of(number);
        if let Some(address) = trial.fails(number) {
            let (slot, by) = (trial.slot.load(Ordering::Relaxed), trial.by.load(Ordering::Relaxed));
            let page = (address - trial.start.load(Ordering::Relaxed)) / PAGE_SIZE;
            panic!("oracle: {me} can read {address:#x}, page {page} of slot {slot:#x}, after {}", By::from_bits(by));
        }
    }
}
