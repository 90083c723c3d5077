//! Which CPUs a request has to ask: those that are up and may use what they hold in their TLBs.
//!
//! ```text
//!   offline ──(1) came_online──▶ asked ──(2) falls_asleep──▶ asleep
//!                                  ▲                            │
//!                                  └────────(3) wakes───────────┘
//! ```
//! A CPU that is not asked must not use a translation that it loaded before, so (1) and (3) drop them all. Their order
//! is what lets an initiator trust its reading of the sets: first the set, then the fence, then the flush. If the
//! initiator takes this CPU for one that need not be asked, then by the two sequentially consistent fences (the one here
//! and the one that `to_ask` begins with) the flush comes after the page-table entries were cleared, and nothing stale can be
//! loaded after it.

use crate::bug::{self, Bug};
use crate::primitive::{Ordering, fence};
use crate::{AtomicCpuSet, CpuSet, Machine, Ranges, space};

/// (1) Puts the calling CPU among the reachable ones.
pub fn came_online<M: Machine>(machine: &M, reachable: &AtomicCpuSet) {
    if bug::armed(Bug::LateCpu) {
        space::drop_all(machine);
    }
    reachable.insert(machine.cpu(), Ordering::SeqCst);
    fence(Ordering::SeqCst);
    if !bug::armed(Bug::LateCpu) {
        space::drop_all(machine);
    }
}

/// (2) The calling CPU has nothing to do: until [`wakes`] it uses nothing that a shootdown can name, and need not be
/// asked. Interrupts are off.
pub fn falls_asleep<M: Machine>(machine: &M, asleep: &AtomicCpuSet) {
    // Release: what this CPU did through its translations comes before an initiator sees that it sleeps.
    asleep.insert(machine.cpu(), Ordering::Release);
}

/// (3) It goes on. The first thing that it does, in whatever way it was woken; interrupts are off.
pub fn wakes<M: Machine>(machine: &M, asleep: &AtomicCpuSet) {
    if bug::armed(Bug::LateCpu) {
        space::drop_all(machine);
    }
    asleep.remove(machine.cpu(), Ordering::SeqCst);
    fence(Ordering::SeqCst);
    if !bug::armed(Bug::IdleNoFlush) && !bug::armed(Bug::LateCpu) {
        space::drop_all(machine);
    }
}

/// The CPUs to ask: all that are reachable and awake, and have the address space if it is one's, but this one. If page tables
/// are freed, those that sleep too: they must not wake to walk them.
pub(crate) fn to_ask<M: Machine>(machine: &M, ranges: &Ranges) -> CpuSet {
    // Orders the clearing of the page-table entries before the reading of the sets.
    fence(Ordering::SeqCst);
    let frees_tables = ranges.frees_tables();
    let able = if frees_tables { machine.reachable() } else { awake(machine) };
    let having = ranges.space().map_or(CpuSet::ALL, |(id, _)| machine.space(id).to_ask(frees_tables));
    let others = able.and(having).without(machine.cpu());
    if bug::armed(Bug::SkipACpu) && machine.now().is_multiple_of(16) {
        return others.lowest().map_or(others, |one| others.without(one));
    }
    others
}

/// The CPUs that may use what they hold, at this moment.
pub(crate) fn awake<M: Machine>(machine: &M) -> CpuSet {
    machine.reachable().minus(machine.asleep())
}
