//! Memory that is unmapped and waits for a request that nobody waits for.
//!
//! ```text
//!   Unmapped ──defer──▶ Deferred ──(1) put──▶ quarantine ──(2) settled──▶ R
//!                                                 └──(3) take_all──▶ Hurried ──one request for all──▶ R …
//! ```
//! The quarantine lies under a lock of the caller's. (1) and (2) are done with it held, since they only look; (3) takes
//! everything out by value, so that whoever waits for other CPUs holds no lock (invariant I3).

use crate::{Deferred, Machine, Protocol, Ranges};

/// What waits; room for `N`.
#[derive(Debug)]
pub struct Quarantine<R, const N: usize> {
    waiting: [Option<Deferred<R>>; N],
    count: usize,
    pages: u64,
}

/// Everything that waited, to be shot down at once.
#[derive(Debug)]
#[must_use = "what was unmapped leaks unless it is shot down and released"]
pub struct Hurried<R, const N: usize>([Option<Deferred<R>>; N]);

impl<R, const N: usize> Quarantine<R, N> {
    /// With nothing in it.
    #[must_use]
    pub const fn empty() -> Self {
        Self { waiting: [const { None }; N], count: 0, pages: 0 }
    }

    /// (1) Puts something in. Gives it back if there is no room.
    #[must_use]
    pub fn put(&mut self, deferred: Deferred<R>) -> Option<Deferred<R>> {
        let Some(place) = self.waiting.iter_mut().find(|place| place.is_none()) else {
            return Some(deferred);
        };
        self.count += 1;
        self.pages += u64::from(deferred.pages());
        *place = Some(deferred);
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
        if self.count == 0 {
            return None;
        }
        let settled = |place: &&mut Option<Deferred<R>>| place.as_ref().is_some_and(|d| d.settled(protocol, machine));
        let deferred = self.waiting.iter_mut().find(settled)?.take()?;
        self.count -= 1;
        self.pages -= u64::from(deferred.pages());
        Some(deferred.into_held())
    }

    /// (3) Takes everything out.
    pub fn take_all(&mut self) -> Hurried<R, N> {
        Hurried(core::mem::replace(self, Self::empty()).waiting)
    }
}

impl<R, const N: usize> Hurried<R, N> {
    /// Has every CPU drop the translations of all of it by one request that interrupts them, and gives it out.
    pub fn shoot_down<M: Machine, P: Protocol<M> + ?Sized>(
        self,
        protocol: &P,
        machine: &M,
        ceiling: u32,
    ) -> impl Iterator<Item = R> {
        let mut all = Ranges::new(ceiling);
        self.0.iter().flatten().for_each(|deferred| all.add(deferred.ranges()));
        if !all.is_empty() {
            protocol.hurry(machine, &all);
        }
        self.0.into_iter().flatten().map(Deferred::into_held)
    }
}
