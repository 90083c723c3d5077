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

mod ahead;
mod aside;
mod request;
mod trial;

pub(super) use ahead::mapped_in_space;
pub(crate) use aside::give_all_back;
pub(super) use request::By;

use super::custody::Held;
use super::slots::SlotId;
use super::{PAGE_SIZE, probe};
use core::sync::atomic::{AtomicBool, Ordering};
use smp::{Ranges, Step};

/// The most pages that are read of one mapping.
const PAGES: u64 = 8;

static ON: AtomicBool = AtomicBool::new(false);

/// Sets it up.
pub(crate) fn init(on: bool) {
    ON.store(on, Ordering::Relaxed);
}

#[inline(always)]
pub(super) fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// The calling CPU tries the addresses on trial; see [`trial::look`]. Where the oracle is off, this and what follows is a
/// comparison.
#[inline(always)]
pub(crate) fn look() {
    if is_on() {
        trial::look();
    }
}

/// The calling CPU reads ahead; see [`ahead::speculate`].
#[inline(always)]
pub(crate) fn speculate() {
    if is_on() {
        ahead::speculate();
    }
}

/// Something was mapped.
#[inline(always)]
pub(super) fn mapped(slot: SlotId) {
    if is_on() {
        ahead::mapped(slot);
    }
}

/// The calling CPU is about to ask for these.
#[inline(always)]
pub(super) fn will_ask(ranges: &Ranges) {
    if is_on() {
        request::will_ask(ranges);
    }
}

/// The request is done.
#[inline(always)]
pub(super) fn has_asked() -> By {
    if is_on() { request::has_asked() } else { By::UNKNOWN }
}

/// (1) A step of a protocol on the calling CPU; see [`request::note`].
#[inline(always)]
pub(super) fn note(step: Step) {
    if is_on() {
        request::note(step);
    }
}

/// Keeps what every CPU has acknowledged aside for a while; gives it back, if the oracle is off.
#[inline(always)]
pub(super) fn keep(held: Held, by: By) -> Option<Held> {
    if is_on() {
        aside::keep(held, by);
        return None;
    }
    Some(held)
}

/// The first of some of these pages that the calling CPU can read.
fn first_readable(start: u64, pages: u64) -> Option<u64> {
    some_pages(start, pages).find(|address| probe::read_any(*address).is_some())
}

/// The addresses of all pages of a small mapping, and of the first and the last few of a large one.
fn some_pages(start: u64, pages: u64) -> impl Iterator<Item = u64> {
    let half = PAGES / 2;
    (0..pages).filter(move |page| *page < half || pages - page <= half).map(move |page| start + page * PAGE_SIZE)
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
