//! What the protocols need of the machine they run on.

use crate::space::{Loaded, Space, SpaceId};
use crate::{CpuId, CpuSet, PageRange};

/// A CPU's view of the machine. The kernel implements it on hardware, host tests on simulated CPUs with simulated TLBs.
///
/// All methods speak of the calling CPU; the caller cannot be moved to another one (preemption is off).
pub trait Machine {
    /// Who am I.
    fn cpu(&self) -> CpuId;

    /// CPUs that are up and answer interrupts. A CPU that stopped for good (a panic) leaves the set, and waiters look
    /// again.
    fn reachable(&self) -> CpuSet;

    /// CPUs that sleep and need not be asked; see [`crate::presence`]. None, where sleeping CPUs are asked like others.
    fn asleep(&self) -> CpuSet {
        CpuSet::EMPTY
    }

    /// Sends the shootdown interrupt to each CPU of the set. Every store before the call is visible to a CPU that takes
    /// the interrupt.
    fn interrupt(&self, targets: CpuSet);

    /// Drops this CPU's translations of these pages, under the tag in use.
    fn flush(&self, range: PageRange);

    /// Drops all of this CPU's translations of pages that a shootdown can name, under the tag in use.
    fn flush_all(&self);

    /// How many tags (PCIDs) this CPU's TLB can keep translations of spaces under, up to [`MAX_TAGS`](crate::space::MAX_TAGS); 0 if a load of other
    /// tables drops them all. The tag 0 comes on top, for the kernel's own tables.
    fn tags(&self) -> usize {
        0
    }

    /// Drops this CPU's translations of these pages under a tag that is not in use; `false` if it cannot (without INVPCID).
    fn flush_under(&self, tag: usize, range: PageRange) -> bool {
        let _ = (tag, range);
        false
    }

    /// Has all CPUs' TLBs drop these pages, or everything, under all tags, without interrupting any.
    fn broadcast_flush(&self, range: Option<PageRange>) {
        unreachable!("this machine cannot broadcast {range:?}")
    }

    /// Waits until all that this CPU broadcast is done.
    fn await_broadcasts(&self) {
        unreachable!("this machine cannot broadcast")
    }

    /// Whether the shootdown interrupt can reach this CPU now. A waiter that cannot be reached serves its own inbox.
    fn interrupts_on(&self) -> bool;

    /// The address space with this number; see [`crate::space`].
    fn space(&self, id: SpaceId) -> &Space {
        unreachable!("this machine has no {id:?}")
    }

    /// What this CPU has loaded.
    fn loaded(&self) -> &Loaded {
        unreachable!("this machine has no address spaces")
    }

    /// Loads the tables of this space, or those that map the kernel alone, under this tag. That drops all translations under
    /// the tag, unless it is to `keep` them. Without tags it drops all.
    fn load_space(&self, id: Option<SpaceId>, tag: usize, keep: bool) {
        unreachable!("this machine has no {id:?} to load under {tag}, {keep}")
    }

    /// Called once in each turn of a waiting loop.
    fn relax(&self);

    /// A clock that never goes back, in any unit.
    fn now(&self) -> u64;

    /// How long, in [`now`](Self::now)'s unit, a CPU may take to answer.
    fn patience(&self) -> u64;

    /// These CPUs have not answered for [`patience`](Self::patience). Hardware says so and stops; if it returns, the
    /// wait goes on.
    fn unanswered(&self, missing: CpuSet);

    /// Told of each step of a request when it is made, for traces; see [`Step`] for the moments.
    #[inline]
    fn note(&self, step: Step) {
        let _ = step;
    }
}

/// A step in the life of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The calling CPU begins a request; before any target is told.
    Requested {
        /// The request's number: with the CPU it names the request.
        generation: u32,
        /// Who has to acknowledge.
        targets: CpuSet,
    },
    /// The calling CPU has flushed what it was asked to; before the initiator can see that.
    Answered {
        /// Who asked.
        initiator: CpuId,
        /// Its request's number.
        generation: u32,
    },
    /// All have acknowledged; before the request returns.
    Completed {
        /// The request's number.
        generation: u32,
    },
    /// The calling CPU leaves what it has unmapped until all of `targets` have dropped all of their translations, at their
    /// next chance; nobody waits for that.
    Deferred {
        /// How much was deferred so far, as a number that counts up and wraps.
        generation: u32,
        /// Who has to.
        targets: CpuSet,
    },
}

/// Waits until `missing` gives the empty set, serving this CPU's own inbox by `serve` where no interrupt can.
pub(crate) fn wait<M: Machine>(machine: &M, mut missing: impl FnMut() -> CpuSet, serve: impl Fn()) {
    // A bounded wait needs the clock, but not in the first turns, where nearly all waits end.
    const TURNS_A_LOOK: u32 = 256;
    let (mut turns, mut since) = (0u32, None);
    loop {
        let left = missing();
        if left.is_empty() {
            return;
        }
        if !machine.interrupts_on() {
            serve();
        }
        machine.relax();
        turns = turns.wrapping_add(1);
        if turns.is_multiple_of(TURNS_A_LOOK) {
            let now = machine.now();
            if now.saturating_sub(*since.get_or_insert(now)) > machine.patience() {
                machine.unanswered(left);
                since = None;
            }
        }
    }
}
