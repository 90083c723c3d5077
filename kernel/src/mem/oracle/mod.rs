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

pub(crate) use ahead::speculate;
pub(super) use ahead::{mapped, mapped_in_space};
pub(crate) use aside::give_all_back;
pub(super) use aside::keep;
pub(super) use request::{By, has_asked, note, will_ask};
pub(crate) use trial::look;

use super::{PAGE_SIZE, probe};
use core::sync::atomic::{AtomicBool, Ordering};

/// The most pages that are read of one mapping.
const PAGES: u64 = 8;

static ON: AtomicBool = AtomicBool::new(false);

/// Sets it up.
pub(crate) fn init(on: bool) {
    ON.store(on, Ordering::Relaxed);
}

#[inline]
fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
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
