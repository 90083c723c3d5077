//! Memory that is unmapped and waits for a request that nobody waits for.
//!
//! ```text
//!   Unmapped ──defer──▶ Deferred ──(1) put──▶ quarantine ──(2) settled──────────────────────────▶ R
//!                                                 └──(3) hurry: marked ──(4) one request ──(5)──▶ R
//! ```
//! The quarantine lies under a lock of the caller's. (1), (2), (3) and (5) are done with it held, since they only look; for
//! (4), which waits for other CPUs, it has to be given up (invariant I3): what was marked stays where it is, and only
//! whoever has made the request takes it out. Nothing large is moved: kernel stacks are small.

use crate::bug::{self, Bug};
use crate::{Deferred, Machine, MayWait, Protocol, Ranges};

/// What waits; room for `N`.
#[derive(Debug)]
pub struct Quarantine<R, const N: usize> {
    waiting: [Option<Waiting<R>>; N],
    count: usize,
    pages: u64,
    /// How often all of it was marked.
    marks: u64,
}

#[derive(Debug)]
struct Waiting<R> {
    deferred: Deferred<R>,
    /// The first request that includes it, by its mark; 0 if there is none yet. All later ones include it too.
    mark: u64,
}

/// (3) The ranges of all that waited when it was marked.
#[derive(Debug)]
#[must_use = "what was marked is not asked for yet"]
pub struct Marked {
    ranges: Ranges,
    mark: u64,
}

/// (4) A request for all that was marked is done.
#[derive(Debug)]
pub struct Asked(u64);

impl<R, const N: usize> Quarantine<R, N> {
    /// With nothing in it.
    #[must_use]
    pub const fn empty() -> Self {
        Self { waiting: [const { None }; N], count: 0, pages: 0, marks: 0 }
    }

    /// (1) Puts something in. Gives it back if there is no room.
    #[must_use]
    pub fn put(&mut self, deferred: Deferred<R>) -> Option<Deferred<R>> {
        let Some(place) = self.waiting.iter_mut().find(|place| place.is_none()) else {
            return Some(deferred);
        };
        self.count += 1;
        self.pages += u64::from(deferred.pages());
        *place = Some(Waiting { deferred, mark: 0 });
        None
    }

    /// How many unmaps wait.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// How many pages wait.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.pages
    }

    /// (2) Takes out one that has settled, if any has.
    pub fn take_settled<M: Machine, P: Protocol<M> + ?Sized>(&mut self, protocol: &P, machine: &M) -> Option<R> {
        self.take(|waiting| waiting.deferred.settled(protocol, machine))
    }

    /// (3) Marks all that waits, with the ranges that a request for it has to name.
    pub fn hurry(&mut self, ceiling: u32) -> Marked {
        self.marks += 1;
        let mut ranges = Ranges::new(ceiling);
        for waiting in self.waiting.iter_mut().flatten() {
            if waiting.mark == 0 {
                waiting.mark = self.marks;
            }
            ranges.add(waiting.deferred.ranges());
        }
        Marked { ranges, mark: self.marks }
    }

    /// (5) Takes out one that the request has included, if others have left any: because it settled, or by a request of
    /// their own. So whoever has asked finds room when this gives nothing more, or others have put something in since.
    pub fn take_asked(&mut self, asked: &Asked) -> Option<R> {
        self.take(|waiting| (1..=asked.0).contains(&waiting.mark))
    }

    fn take(&mut self, wanted: impl Fn(&Waiting<R>) -> bool) -> Option<R> {
        if self.count == 0 {
            return None;
        }
        let place = self.waiting.iter_mut().find(|place| place.as_ref().is_some_and(&wanted))?;
        let Waiting { deferred, .. } = place.take()?;
        self.count -= 1;
        self.pages -= u64::from(deferred.pages());
        Some(deferred.into_held())
    }
}

impl Marked {
    /// (4) Has every CPU drop the translations of all of it, by one request that interrupts them.
    pub fn shoot_down<M: Machine, P: Protocol<M> + ?Sized>(
        self,
        protocol: &P,
        machine: &M,
        _permit: &mut MayWait,
    ) -> Asked {
        if !self.ranges.is_empty() && !bug::armed(Bug::SkipShootdown) {
            protocol.hurry(machine, &self.ranges);
        }
        Asked(self.mark)
    }
}
