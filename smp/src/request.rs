//! The types that carry unmapped memory through a shootdown.
//!
//! ```text
//!   mapped ──(1) clear the entries──▶ Unmapped<R> ──(2) every CPU acknowledged──▶ Acked<R> ──(3)──▶ R
//!                                └─(2') deferred ─▶ Deferred<R> ─ quarantine, until every CPU has passed ─▶ R
//! ```
//! `R` is what must not be used again before (2): frames, addresses. [`Unmapped`] has no way to give it out; the only
//! ways on are [`Unmapped::shoot_down`] and, where the protocol knows it, [`Unmapped::defer`].

use crate::bug::{self, Bug};
use crate::shootdown::Ticket;
use crate::space::SpaceId;
use crate::{Machine, MayWait, Protocol, Ranges};

/// (1) Translations are cleared in the page tables, and TLBs may still hold them.
#[derive(Debug)]
#[must_use = "what was unmapped leaks unless it is shot down and released"]
pub struct Unmapped<'r, R> {
    ranges: &'r Ranges,
    held: R,
}

/// (2') Some CPU may not have passed yet; nobody waits for it.
#[derive(Debug)]
#[must_use = "what was unmapped leaks unless it is put into a quarantine"]
pub struct Deferred<R> {
    ticket: Ticket,
    ranges: Ranges,
    held: R,
}

/// (2) No TLB holds the translations any more.
#[derive(Debug)]
#[must_use = "what was unmapped leaks unless it is released"]
pub struct Acked<R>(R);

impl<'r, R> Unmapped<'r, R> {
    /// Takes `held` into custody until no TLB has a translation of `ranges`. The page-table entries of `ranges` are
    /// cleared.
    #[inline(always)]
    pub const fn new(ranges: &'r Ranges, held: R) -> Self {
        Self { ranges, held }
    }

    /// As [`new`](Self::new), of ranges in the address space `id` of the machine.
    pub fn in_space<M: Machine>(machine: &M, id: SpaceId, ranges: &'r mut Ranges, held: R) -> Self {
        ranges.set_space(id, machine.space(id).changed());
        Self { ranges, held }
    }

    /// How many pages were unmapped.
    pub const fn pages(&self) -> u32 {
        self.ranges.pages()
    }

    /// What was unmapped.
    pub const fn ranges(&self) -> &Ranges {
        self.ranges
    }

    /// What is in custody, to look at.
    pub const fn held(&self) -> &R {
        &self.held
    }

    /// (2) Has every CPU drop the translations, and waits until each has said so.
    #[inline(always)]
    pub fn shoot_down<M: Machine, P: Protocol<M> + ?Sized>(
        self,
        protocol: &P,
        machine: &M,
        _permit: &mut MayWait,
    ) -> Acked<R> {
        if !self.ranges.is_empty() && !bug::armed(Bug::SkipShootdown) {
            protocol.request(machine, self.ranges);
        }
        Acked(self.held)
    }
}

impl<R> Unmapped<'_, R> {
    /// (2') Leaves it to the CPUs to drop the translations when they pass.
    ///
    /// # Errors
    /// Gives it back if the protocol knows no such way.
    pub fn defer<M: Machine, P: Protocol<M> + ?Sized>(self, protocol: &P, machine: &M) -> Result<Deferred<R>, Self> {
        match protocol.defer(machine, self.ranges) {
            Some(ticket) => Ok(Deferred { ticket, ranges: self.ranges.clone(), held: self.held }),
            None => Err(self),
        }
    }
}

impl<R> Deferred<R> {
    /// How many pages were unmapped.
    pub const fn pages(&self) -> u32 {
        self.ranges.pages()
    }

    /// What was unmapped.
    pub(crate) const fn ranges(&self) -> &Ranges {
        &self.ranges
    }

    /// Whether every CPU has passed.
    pub fn settled<M: Machine, P: Protocol<M> + ?Sized>(&self, protocol: &P, machine: &M) -> bool {
        bug::armed(Bug::SkipShootdown) || protocol.settled(machine, self.ticket)
    }

    /// What was held. For the quarantine alone, which asks [`settled`](Self::settled) before, or for a request that included
    /// its ranges.
    pub(crate) fn into_held(self) -> R {
        self.held
    }
}

impl<R> Acked<R> {
    /// (3) What was in custody, free to be used again.
    #[inline(always)]
    pub fn release(self) -> R {
        self.0
    }
}
