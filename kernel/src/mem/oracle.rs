//! The oracle, `oracle=on`: looks whether what the protocols promise is so, on every CPU, through its own TLB.
//!
//! ```text
//!   unmapped ─▶ acknowledged ─▶ kept aside: frames poisoned, addresses on trial ─▶ looked at once more ─▶ free
//!                  │ (1)                      │ (2)                                   (3)
//! ```
//! 1. A CPU that acknowledges a request must not be able to read what the request names.
//! 2. No CPU can read at an address that is on trial: each tries once, at its next tick, switch or shootdown.
//! 3. The poison is as it was left: nobody wrote through a translation that should be gone.
//!
//! Hardware loads translations whenever it likes; QEMU loads them when an instruction needs them, so most CPUs would have
//! nothing stale to be found. Each CPU therefore reads, now and then, memory that was mapped a moment ago ([`speculate`]):
//! what the architecture allows a CPU to do at any moment, done.

use super::custody::{self, Held};
use super::slots::{Kind, SlotId};
use super::tlb::Hardware;
use super::{PAGE_SIZE, paging, probe};
use crate::cpu;
use crate::sync::SpinLock;
use crate::thread::{PreemptOff, Shield};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crossbeam_utils::CachePadded;
use smp::space::SpaceId;
use smp::{CpuId, MAX_CPUS, Machine, PageRange, Ranges, Step};

/// The most unmaps kept aside, and the most pages.
const ROOM: usize = 128;
const MOST_PAGES: u64 = 768;
/// Addresses on trial; a power of two.
const TRIALS: usize = 256;
/// The most that a CPU tries at once, with interrupts off; of older ones it tries none.
const TRIES: u64 = 16;
/// The most pages that are read of one mapping.
const PAGES: u64 = 8;
/// Mappings that are read ahead.
const FRESH: usize = 4;
/// Ranges of a request that a CPU looks at before it acknowledges.
const NAMED: usize = 4;

static ON: AtomicBool = AtomicBool::new(false);
static ASIDE: SpinLock<Aside> = SpinLock::new("oracle", Aside::new());
static ON_TRIAL: [Trial; TRIALS] = [const { Trial::new() }; TRIALS];
/// The youngest trial's number.
static YOUNGEST: AtomicU64 = AtomicU64::new(0);
/// The youngest that each CPU has tried.
static TRIED: [CachePadded<AtomicU64>; MAX_CPUS] = [const { CachePadded::new(AtomicU64::new(0)) }; MAX_CPUS];
/// What each CPU's request names.
static REQUESTS: [CachePadded<Request>; MAX_CPUS] = [const { CachePadded::new(Request::new()) }; MAX_CPUS];
/// The slots that were mapped last, as bits.
static MAPPED: [AtomicU32; FRESH] = [const { AtomicU32::new(0) }; FRESH];
static NEXT_MAPPED: AtomicU32 = AtomicU32::new(0);
/// What was mapped last in address spaces: the space's number plus one, the first address.
static MAPPED_IN_SPACES: [(AtomicU32, AtomicU64, AtomicU32); FRESH] =
    [const { (AtomicU32::new(0), AtomicU64::new(0), AtomicU32::new(0)) }; FRESH];

/// What every CPU has acknowledged and is not free yet: the oldest comes free first.
struct Aside {
    kept: [Option<Kept>; ROOM],
    oldest: usize,
    count: usize,
    pages: u64,
}

struct Kept {
    held: Held,
    by: By,
    /// Its oldest trial's number, or what that would be.
    trial: u64,
}

/// Which request had it flushed: the initiator and its generation; of what was deferred that is not known.
pub(super) type By = Option<(CpuId, u32)>;

/// An address at which nobody can read. One is written only when what it was for is free.
struct Trial {
    /// 0 while it is written, and when it is over.
    number: AtomicU64,
    slot: AtomicU32,
    pages: AtomicU32,
    start: AtomicU64,
    by: AtomicU64,
}

struct Request {
    generation: AtomicU32,
    /// The number of the space that it is about plus one, 0 for none.
    space: AtomicU32,
    count: AtomicU32,
    starts: [AtomicU64; NAMED],
    pages: [AtomicU32; NAMED],
}

/// Sets it up.
pub(crate) fn init(on: bool) {
    ON.store(on, Ordering::Relaxed);
}

#[inline]
fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

impl Aside {
    const fn new() -> Self {
        Self { kept: [const { None }; ROOM], oldest: 0, count: 0, pages: 0 }
    }

    fn has_room(&self, pages: u64, trials: usize) -> bool {
        let Some(oldest) = &self.kept[self.oldest] else { return true };
        let on_trial = YOUNGEST.load(Ordering::Relaxed) + 1 - oldest.trial;
        self.count < ROOM && self.pages + pages <= MOST_PAGES && on_trial + trials as u64 <= TRIALS as u64
    }

    fn put(&mut self, kept: Kept) {
        self.pages += kept.held.frames.len() as u64;
        self.kept[(self.oldest + self.count) % ROOM] = Some(kept);
        self.count += 1;
    }

    fn take(&mut self) -> Option<Kept> {
        let kept = self.kept[self.oldest].take()?;
        self.pages -= kept.held.frames.len() as u64;
        self.oldest = (self.oldest + 1) % ROOM;
        self.count -= 1;
        // Before anything there can be mapped again.
        kept.held.slots.iter().zip(kept.trial..).for_each(|(_, number)| Trial::of(number).end());
        Some(kept)
    }
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
        self.by.store(
            by.map_or(0, |(cpu, generation)| (cpu.index() as u64 + 1) << 32 | u64::from(generation)),
            Ordering::Relaxed,
        );
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
        let readable = some_pages(start, pages.into()).find(|address| probe::read(*address).is_some())?;
        // What was over by then was perhaps mapped again by then. Acquire: it is looked at after the read, which took an
        // exception's return or a load; x86 keeps loads in order.
        (self.number.load(Ordering::Acquire) == number).then_some(readable)
    }
}

/// The addresses of all pages of a small mapping, and of the first and the last few of a large one.
fn some_pages(start: u64, pages: u64) -> impl Iterator<Item = u64> {
    let half = PAGES / 2;
    (0..pages).filter(move |page| *page < half || pages - page <= half).map(move |page| start + page * PAGE_SIZE)
}

impl Request {
    const fn new() -> Self {
        Self {
            generation: AtomicU32::new(0),
            space: AtomicU32::new(0),
            count: AtomicU32::new(0),
            starts: [const { AtomicU64::new(0) }; NAMED],
            pages: [const { AtomicU32::new(0) }; NAMED],
        }
    }
}

/// The calling CPU is about to ask for these.
pub(super) fn will_ask(ranges: &Ranges) {
    if !is_on() {
        return;
    }
    let request = &REQUESTS[cpu::current_id().index()];
    request.space.store(ranges.space().map_or(0, |(id, _)| id.0 + 1), Ordering::Relaxed);
    let named = ranges.listed().unwrap_or_default();
    for ((range, start), pages) in named.iter().zip(&request.starts).zip(&request.pages) {
        start.store(range.start, Ordering::Relaxed);
        pages.store(range.pages, Ordering::Relaxed);
    }
    // The request that follows is published by the protocol, with release.
    request.count.store(named.len().min(NAMED) as u32, Ordering::Relaxed);
}

/// The request is done.
pub(super) fn has_asked() -> By {
    let me = cpu::current_id();
    let request = &REQUESTS[me.index()];
    request.count.store(0, Ordering::Relaxed);
    Some((me, request.generation.load(Ordering::Relaxed)))
}

/// A step of a protocol on the calling CPU.
///
/// # Panics
/// If the CPU acknowledges what it has not flushed.
pub(super) fn note(step: Step) {
    if !is_on() {
        return;
    }
    match step {
        Step::Requested { generation, .. } | Step::Deferred { generation, .. } => {
            REQUESTS[cpu::current_id().index()].generation.store(generation, Ordering::Relaxed);
        }
        Step::Answered { initiator, generation } => {
            // (1) The initiator waits for this answer, so what it names is not mapped again.
            let request = &REQUESTS[initiator.index()];
            let loaded = Hardware.loaded();
            let here = match request.space.load(Ordering::Relaxed).checked_sub(1) {
                Some(space) => loaded.space() == Some(SpaceId(space)) && !loaded.is_lazy(),
                None => true,
            };
            let count = if here { request.count.load(Ordering::Relaxed) as usize } else { 0 };
            for (start, pages) in request.starts.iter().zip(&request.pages).take(count) {
                let range = PageRange { start: start.load(Ordering::Relaxed), pages: pages.load(Ordering::Relaxed) };
                let found = some_pages(range.start, range.pages.into()).find(|address| probe::read(*address).is_some());
                if let Some(address) = found {
                    panic!(
                        "oracle: {} can read {address:#x}, and acknowledges request {generation:#x} of {initiator} to drop it",
                        cpu::current_id()
                    );
                }
            }
        }
        Step::Completed { .. } => {}
    }
}

/// Something was mapped.
pub(super) fn mapped(slot: SlotId) {
    if is_on() {
        let place = NEXT_MAPPED.fetch_add(1, Ordering::Relaxed) as usize % FRESH;
        MAPPED[place].store(slot.into_bits(), Ordering::Relaxed);
    }
}

/// Something was mapped in an address space.
pub(super) fn mapped_in_space(id: SpaceId, start: u64, pages: u64) {
    if is_on() {
        let place = NEXT_MAPPED.fetch_add(1, Ordering::Relaxed) as usize % FRESH;
        let (space, first, count) = &MAPPED_IN_SPACES[place];
        // What comes of a mixture of two is an address that is read and perhaps not mapped.
        first.store(start, Ordering::Relaxed);
        count.store(pages as u32, Ordering::Relaxed);
        space.store(id.0 + 1, Ordering::Relaxed);
    }
}

/// (2) The calling CPU, which is awake and is asked, tries the addresses that came on trial since it did so last.
///
/// # Panics
/// If it can read at one.
pub(crate) fn look() {
    if !is_on() {
        return;
    }
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
            panic!("oracle: {me} can read {address:#x}, page {page} of slot {slot:#x}, after {}", Flushed(by));
        }
    }
}

/// What was said to have flushed it.
struct Flushed(u64);

impl core::fmt::Display for Flushed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match (self.0 >> 32).checked_sub(1) {
            Some(cpu) => write!(f, "request {:#x} of {} was done", self.0 as u32, CpuId::new(cpu as usize)),
            None => f.write_str("all CPUs had passed"),
        }
    }
}

/// Loads translations, as any CPU may at any moment: those of what was mapped last, and may be unmapped at this moment. The
/// calling CPU is awake and is asked.
pub(crate) fn speculate() {
    if !is_on() {
        return;
    }
    for slot in MAPPED.iter().filter_map(|bits| SlotId::from_bits(bits.load(Ordering::Relaxed))) {
        // Not what a device may have behind it: reading that may have effects.
        if matches!(slot.kind(), Kind::Stack | Kind::Memory | Kind::LooseMemory) {
            let (start, pages) = slot.extent();
            some_pages(start, pages).for_each(|address| _ = probe::read(address));
        }
    }
    let here = Hardware.loaded().space().map_or(0, |id| id.0 + 1);
    for (space, start, pages) in MAPPED_IN_SPACES.iter().filter(|_| here != 0) {
        if space.load(Ordering::Relaxed) == here {
            let (start, pages) = (start.load(Ordering::Relaxed), pages.load(Ordering::Relaxed));
            some_pages(start, pages.into()).for_each(|address| _ = probe::read(address));
        }
    }
}

/// Keeps what every CPU has acknowledged aside for a while; gives it back, if the oracle is off.
pub(super) fn keep(held: Held, by: By) -> Option<Held> {
    if !is_on() {
        return Some(held);
    }
    let _shield = Shield::new();
    held.frames.for_each(poison);
    let (pages, trials) = (held.frames.len() as u64, held.slots.iter().count());
    loop {
        let oldest = {
            let mut aside = ASIDE.lock();
            if aside.has_room(pages, trials) {
                let before = YOUNGEST.load(Ordering::Relaxed);
                for (number, slot) in (before + 1..).zip(held.slots.iter()) {
                    Trial::of(number).begin(number, slot, by);
                }
                // Release: whoever sees the number sees the trials.
                YOUNGEST.store(before + trials as u64, Ordering::Release);
                aside.put(Kept { held, by, trial: before + 1 });
                return None;
            }
            aside.take()
        };
        if let Some(oldest) = oldest {
            look_again(oldest);
        }
    }
}

/// Gives free all that is kept aside. How many unmaps it was.
pub(crate) fn give_all_back() -> usize {
    if !is_on() {
        return 0;
    }
    let _shield = Shield::new();
    {
        let _here = PreemptOff::new();
        look(); // this CPU at least
    }
    let mut count = 0;
    loop {
        let oldest = ASIDE.lock().take();
        let Some(oldest) = oldest else { return count };
        look_again(oldest);
        count += 1;
    }
}

/// (3)
fn look_again(kept: Kept) {
    let mut touched = None;
    kept.held.frames.for_each(|frame| {
        if touched.is_none() {
            touched = first_touched(frame);
        }
    });
    if let Some(address) = touched {
        let bits = kept.by.map_or(0, |(cpu, generation)| (cpu.index() as u64 + 1) << 32 | u64::from(generation));
        let slot = kept.held.slots.iter().next().map_or(0, SlotId::into_bits);
        panic!("oracle: memory {address:#x}, of slot {slot:#x}, was written to after {}", Flushed(bits));
    }
    custody::give_back(kept.held);
}

const POISON: u64 = 0xdead_57ac_c000_0000;

fn poison(frame: u64) {
    words(frame).for_each(|word| {
        // SAFETY: a frame that the caller owns, through the HHDM.
        unsafe { word.write_volatile(POISON ^ word as u64) }
    });
}

fn first_touched(frame: u64) -> Option<u64> {
    // SAFETY: as above.
    words(frame)
        .find(|word| unsafe { word.read_volatile() } != POISON ^ *word as u64)
        .map(|word| frame + word as u64 % PAGE_SIZE)
}

fn words(frame: u64) -> impl Iterator<Item = *mut u64> {
    let start = paging::hhdm(frame) as *mut u64;
    (0..PAGE_SIZE as usize / 8).map(move |word| start.wrapping_add(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_small_mapping_all_pages_are_tried_and_of_a_large_one_both_ends() {
        let tried = |pages| some_pages(0, pages).map(|address| address / PAGE_SIZE).collect::<Vec<_>>();
        assert_eq!(tried(3), [0, 1, 2]);
        assert_eq!(tried(8), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(tried(40), [0, 1, 2, 3, 36, 37, 38, 39]);
    }
}
