//! The types that carry unmapped memory through a shootdown.
//!
//! ```text
//!   mapped ──(1) clear the entries──▶ Unmapped<R> ──(2) every CPU acknowledged──▶ Acked<R> ──(3)──▶ R
//! ```
//! `R` is what must not be used again before (2): frames, addresses. [`Unmapped`] has no way to give it out; the only
//! way on is [`Unmapped::shoot_down`].

use crate::bug::{self, Bug};
use crate::{Machine, Protocol, Ranges};

/// (1) Translations are cleared in the page tables, and TLBs may still hold them.
#[derive(Debug)]
#[must_use = "what was unmapped leaks unless it is shot down and released"]
pub struct Unmapped<'r, R> {
    ranges: &'r Ranges,
    held: R,
}

/// (2) No TLB holds the translations any more.
#[derive(Debug)]
#[must_use = "what was unmapped leaks unless it is released"]
pub struct Acked<R>(R);

impl<'r, R> Unmapped<'r, R> {
    /// Takes `held` into custody until no TLB has a translation of `ranges`. The page-table entries of `ranges` are
    /// cleared.
    pub const fn new(ranges: &'r Ranges, held: R) -> Self {
        Self { ranges, held }
    }

    /// How many pages were unmapped.
    pub const fn pages(&self) -> u32 {
        self.ranges.pages()
    }

    /// (2) Has every CPU drop the translations, and waits until each has said so.
    pub fn shoot_down<M: Machine, P: Protocol<M> + ?Sized>(self, protocol: &P, machine: &M) -> Acked<R> {
        if !self.ranges.is_empty() && !bug::armed(Bug::SkipShootdown) {
            protocol.request(machine, self.ranges);
        }
        Acked(self.held)
    }
}

impl<R> Acked<R> {
    /// (3) What was in custody, free to be used again.
    pub fn release(self) -> R {
        self.0
    }
}
