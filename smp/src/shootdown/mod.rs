//! Shootdown protocols: how all CPUs come to drop translations. One protocol a file.
//!
//! Whatever the protocol, the same holds when [`Protocol::request`] returns: each CPU that was reachable when it began
//! has, after it began, dropped the translations (invariant I1 of ARCHITECTURE.md). A CPU that becomes reachable
//! meanwhile drops all of its translations first thing (see [`came_online`]).

mod broadcast;
mod counter;
mod scoreboard;

pub use broadcast::Broadcast;
pub use counter::Counter;
pub use scoreboard::Scoreboard;

use crate::primitive::{AtomicU32, AtomicU64, Ordering, fence};
use crate::{AtomicCpuSet, CpuSet, Machine, PageRange, Ranges};
use alloc::boxed::Box;

/// A shootdown protocol.
pub trait Protocol<M: Machine>: Sync {
    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// Has every reachable CPU, this one included, drop its translations of `ranges`; returns when all have. How many
    /// interrupts were sent is in the answer, one for each CPU that was interrupted.
    ///
    /// The page-table entries are cleared. The caller holds no lock and cannot be preempted; with interrupts off it
    /// serves its own inbox while it waits.
    fn request(&self, machine: &M, ranges: &Ranges) -> Sent;

    /// The interrupt's handler: does what this CPU was asked to, and acknowledges. Harmless when nothing was asked.
    fn serve(&self, machine: &M);
}

/// The names of all protocols.
pub const NAMES: [&str; 3] = ["scoreboard", "counter", "broadcast"];

/// The protocol of this name, for CPUs 0 to `cpus` - 1, with generations that count up from `first`.
#[must_use]
pub fn by_name<M: Machine>(name: &str, cpus: usize, first: u32) -> Option<Box<dyn Protocol<M> + Send>> {
    Some(match name {
        "scoreboard" => Box::new(Scoreboard::new(cpus, first)),
        "counter" => Box::new(Counter::new(cpus, first)),
        "broadcast" => Box::new(Broadcast::new()),
        _ => return None,
    })
}

/// What a request cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// CPUs that had to acknowledge.
    pub targets: usize,
    /// Interrupts that were sent; fewer than targets where one was on its way already.
    pub interrupts: usize,
}

/// Puts the calling CPU among the reachable ones.
///
/// The order is what lets an initiator trust its reading of the set: first the set, then the fence, then the flush. If
/// the initiator does not see this CPU, then by the two sequentially consistent fences (this one and the one that
/// `targets` begins with) the flush here comes after the page-table entries were cleared, and nothing stale can be loaded.
pub fn came_online<M: Machine>(machine: &M, reachable: &AtomicCpuSet) {
    reachable.insert(machine.cpu(), Ordering::SeqCst);
    fence(Ordering::SeqCst);
    machine.flush_all();
}

/// The CPUs to ask: all that are reachable but this one. Pairs with [`came_online`].
fn targets<M: Machine>(machine: &M) -> CpuSet {
    // Orders the clearing of the page-table entries before the reading of the set.
    fence(Ordering::SeqCst);
    machine.reachable().without(machine.cpu())
}

/// A request's ranges where other CPUs read them. Only its owner writes it, and only while nobody may read.
#[derive(Debug)]
struct Notice {
    /// Number of ranges, or [`EVERYTHING`].
    count: AtomicU32,
    starts: [AtomicU64; crate::ranges::MAX_RANGES],
    pages: [AtomicU32; crate::ranges::MAX_RANGES],
}

const EVERYTHING: u32 = u32::MAX;

impl Notice {
    fn new() -> Self {
        Self {
            count: AtomicU32::new(0),
            starts: core::array::from_fn(|_| AtomicU64::new(0)),
            pages: core::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// Relaxed: the store that tells a target to look (release) comes after, and the target's load of that (acquire)
    /// comes before it reads.
    fn write(&self, ranges: &Ranges) {
        let Some(listed) = ranges.listed() else {
            return self.count.store(EVERYTHING, Ordering::Relaxed);
        };
        for (at, range) in listed.iter().enumerate() {
            self.starts[at].store(range.start, Ordering::Relaxed);
            self.pages[at].store(range.pages, Ordering::Relaxed);
        }
        self.count.store(listed.len() as u32, Ordering::Relaxed);
    }

    /// Flushes on this CPU what the notice says.
    fn flush<M: Machine>(&self, machine: &M) {
        let count = self.count.load(Ordering::Relaxed);
        if count == EVERYTHING {
            return machine.flush_all();
        }
        for (start, pages) in self.starts.iter().zip(&self.pages).take(count as usize) {
            machine.flush(PageRange { start: start.load(Ordering::Relaxed), pages: pages.load(Ordering::Relaxed) });
        }
    }
}

/// Flushes on this CPU what the initiator itself asks for.
fn flush_here<M: Machine>(machine: &M, ranges: &Ranges) {
    match ranges.listed() {
        None => machine.flush_all(),
        Some(listed) => listed.iter().for_each(|range| machine.flush(*range)),
    }
}
