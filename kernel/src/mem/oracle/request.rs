//! What each CPU has asked for: what its targets must not be able to read when they acknowledge, and what is said of memory
//! that can be read all the same.

use super::super::tlb::Hardware;
use super::first_readable;
use crate::cpu;
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crossbeam_utils::CachePadded;
use smp::space::SpaceId;
use smp::{CpuId, MAX_CPUS, Machine, Ranges, Step};

/// Ranges of a request that a CPU looks at before it acknowledges.
const NAMED: usize = 4;

/// What each CPU's request names.
static REQUESTS: [CachePadded<Request>; MAX_CPUS] = [const { CachePadded::new(Request::new()) }; MAX_CPUS];

struct Request {
    generation: AtomicU32,
    /// The number of the space that it is about plus one, 0 for none.
    space: AtomicU32,
    count: AtomicU32,
    starts: [AtomicU64; NAMED],
    pages: [AtomicU32; NAMED],
}

impl Request {
    const fn new() -> Self {
        Self {
            generation: AtomicU32::new(0),
            space: AtomicU32::new(0),
            count: AtomicU32::new(0),
            starts: [const { AtomicU64::new(0) }; NAMED],
            pages: [const { AtomicU32::new(0) }; NAMED],
        }
    }

    /// The first address that it names and that the calling CPU can read, where it should not.
    fn first_readable(&self) -> Option<u64> {
        let loaded = Hardware.loaded();
        if let Some(space) = self.space.load(Ordering::Relaxed).checked_sub(1)
            && (loaded.space() != Some(SpaceId(space)) || loaded.is_lazy())
        {
            return None; // other addresses, or none of its business
        }
        let count = self.count.load(Ordering::Relaxed) as usize;
        let ranges = self.starts.iter().zip(&self.pages).take(count);
        ranges.into_iter().find_map(|(start, pages)| {
            first_readable(start.load(Ordering::Relaxed), pages.load(Ordering::Relaxed).into())
        })
    }
}

/// Which request had something flushed, as a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) struct By(u64);

impl By {
    /// Of what was deferred that is not known.
    pub(in super::super) const UNKNOWN: Self = Self(0);

    fn request(initiator: CpuId, generation: u32) -> Self {
        Self((initiator.index() as u64 + 1) << 32 | u64::from(generation))
    }

    pub(super) const fn into_bits(self) -> u64 {
        self.0
    }

    pub(super) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 >> 32).checked_sub(1) {
            Some(cpu) => write!(f, "request {:#x} of {} was done", self.0 as u32, CpuId::new(cpu as usize)),
            None => f.write_str("all CPUs had passed"),
        }
    }
}

/// The calling CPU is about to ask for these.
#[cold]
pub(super) fn will_ask(ranges: &Ranges) {
    let request = &REQUESTS[cpu::current_id().index()];
    request.space.store(ranges.space().map_or(0, |(id, _)| id.0 + 1), Ordering::Relaxed);
    let named = ranges.listed().unwrap_or_default();
    for ((range, start), pages) in named.iter().zip(&request.starts).zip(&request.pages) {
        start.store(range.start, Ordering::Relaxed);
        pages.store(range.pages, Ordering::Relaxed);
    }
    // The request that follows is published by the protocol, with release.
    request.count.store(named.len().min(NAMED) as u32, Ordering::Relaxed);
}

/// The request is done.
#[cold]
pub(super) fn has_asked() -> By {
    let me = cpu::current_id();
    let request = &REQUESTS[me.index()];
    request.count.store(0, Ordering::Relaxed);
    By::request(me, request.generation.load(Ordering::Relaxed))
}

/// (1) A step of a protocol on the calling CPU.
///
/// # Panics
/// If the CPU acknowledges what it has not flushed.
#[cold]
pub(super) fn note(step: Step) {
    match step {
        Step::Requested { generation, .. } | Step::Deferred { generation, .. } => {
            REQUESTS[cpu::current_id().index()].generation.store(generation, Ordering::Relaxed);
        }
        Step::Answered { initiator, generation } => {
            // The initiator waits for this answer, so what it names is not mapped again.
            if let Some(address) = REQUESTS[initiator.index()].first_readable() {
                let me = cpu::current_id();
                panic!(
                    "oracle: {me} can read {address:#x}, and acknowledges request {generation:#x} of {initiator} to drop it"
                );
            }
        }
        Step::Completed { .. } => {}
    }
}
