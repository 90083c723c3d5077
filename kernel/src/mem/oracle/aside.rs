//! What every CPU has acknowledged and is not free yet.

use super::super::custody::{self, Held};
use super::super::slots::SlotId;
use super::super::{PAGE_SIZE, paging};
use super::{By, is_on, look, trial};
use crate::sync::SpinLock;
use crate::thread::{PreemptOff, Shield};

/// The most unmaps kept aside, and the most pages.
const ROOM: usize = 128;
const MOST_PAGES: u64 = 768;

static ASIDE: SpinLock<Aside> = SpinLock::new("oracle", Aside::new());

/// The oldest comes free first.
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

impl Aside {
    const fn new() -> Self {
        Self { kept: [const { None }; ROOM], oldest: 0, count: 0, pages: 0 }
    }

    fn has_room(&self, pages: u64, trials: usize) -> bool {
        let Some(oldest) = &self.kept[self.oldest] else { return true };
        self.count < ROOM && self.pages + pages <= MOST_PAGES && trial::have_room(oldest.trial, trials)
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
        trial::end(kept.trial, kept.held.slots.iter().count());
        Some(kept)
    }
}

/// Keeps what every CPU has acknowledged aside for a while.
#[cold]
pub(super) fn keep(held: Held, by: By) {
    let _shield = Shield::new();
    held.frames.for_each(poison);
    let (pages, trials) = (held.frames.len() as u64, held.slots.iter().count());
    loop {
        let oldest = {
            let mut aside = ASIDE.lock();
            if aside.has_room(pages, trials) {
                let first = trial::next_number();
                trial::begin(held.slots.iter(), by);
                aside.put(Kept { held, by, trial: first });
                return;
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
fn look_again(mut kept: Kept) {
    let mut touched = None;
    kept.held.frames.for_each(|frame| {
        if touched.is_none() {
            touched = first_touched(frame);
        }
    });
    if let Some(address) = touched {
        let slot = kept.held.slots.iter().next().map_or(0, SlotId::into_bits);
        panic!("oracle: memory {address:#x}, of slot {slot:#x}, was written to after {}", kept.by);
    }
    custody::give_back(&mut kept.held);
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
