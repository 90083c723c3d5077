//! `counter`: targeted, one counter a request. Between `broadcast` and `scoreboard`: initiators run in parallel, each with
//! a request of its own, and wait for a number to come down; who is missing is read off the set of those asked.
//!
//! ```text
//!   initiator i                                      target t
//!   (1) notice(i) = ranges; left(i) = targets
//!   (2) asked(i) = targets                   ────▶   (4) bits = take inbox(t)
//!   (3) inbox(t) |= i; interrupt t                   (5) for each i in bits, if t is taken out of asked(i):
//!       flush here, meanwhile                            flush notice(i), left(i) -= 1
//!   (6) wait for left(i) = 0  ◀────
//! ```
//! A target takes itself out of `asked` before it flushes, so a stray interrupt, or one that was answered already, counts
//! nothing down; the request's slot is used again only when all were counted. This is Linux's `smp_call_function_many`
//! (one `csd` a pair, here one counter a request) without its allocation.

use super::{Notice, Protocol, Sent, flush_here, flush_then, not_dropped};
use crate::bug::{self, Bug};
use crate::primitive::{AtomicU32, Ordering};
use crate::presence::to_ask;
use crate::{AtomicCpuSet, CpuId, CpuSet, Machine, Ranges, Step, generation, machine};
use alloc::boxed::Box;
use crossbeam_utils::CachePadded;

/// The protocol's state: a request and an inbox for each CPU.
#[derive(Debug)]
pub struct Counter {
    requests: Box<[CachePadded<Request>]>,
    inboxes: Box<[CachePadded<AtomicCpuSet>]>,
}

#[derive(Debug)]
struct Request {
    notice: Notice,
    asked: AtomicCpuSet,
    left: AtomicU32,
    /// Its number, for traces: only its own CPU writes it.
    generation: AtomicU32,
}

impl Counter {
    /// The state for CPUs 0 to `cpus` - 1. Generations count up from `first`.
    #[must_use]
    pub fn new(cpus: usize, first: u32) -> Self {
        let request = || {
            CachePadded::new(Request {
                notice: Notice::new(),
                asked: AtomicCpuSet::new(),
                left: AtomicU32::new(0),
                generation: AtomicU32::new(first),
            })
        };
        Self {
            requests: (0..cpus).map(|_| request()).collect(),
            inboxes: (0..cpus).map(|_| CachePadded::new(AtomicCpuSet::new())).collect(),
        }
    }

    /// (5) Does what `initiator` asked of `me`, if it did.
    fn answer<M: Machine>(&self, machine: &M, initiator: CpuId, me: CpuId) {
        let request = &self.requests[initiator.index()];
        // Acquire: pairs with the release in (2); the notice and the cleared page-table entries come before it.
        if request.asked.remove(me, Ordering::Acquire).contains(me) {
            let generation = request.generation.load(Ordering::Relaxed);
            flush_then(machine, &request.notice, initiator, generation, || {
                // Release: the flush is done before the initiator can see this. A read-modify-write, so the initiator
                // that acquires the last one has acquired them all.
                request.left.fetch_sub(1, Ordering::Release);
            });
        } else if bug::armed(Bug::StrayAck) {
            let _ = request.left.try_update(Ordering::Release, Ordering::Relaxed, |left| left.checked_sub(1));
        }
    }
}

impl<M: Machine> Protocol<M> for Counter {
    fn name(&self) -> &'static str {
        "counter"
    }

    fn request(&self, machine: &M, ranges: &Ranges) -> Sent {
        let me = machine.cpu();
        let request = &self.requests[me.index()];
        let generation = generation::after(request.generation.load(Ordering::Relaxed));
        request.generation.store(generation, Ordering::Relaxed);
        let targets = to_ask(machine, ranges);
        machine.note(Step::Requested { generation, targets });
        request.notice.write(ranges); // (1)
        request.left.store(targets.len() as u32, Ordering::Relaxed);
        // (2) Release: pairs with the acquire in `answer`.
        request.asked.swap(targets, Ordering::Release);
        // (3) An inbox that was not empty has its interrupt on the way, as in `scoreboard`.
        let asleep = targets.filter(|target| self.inboxes[target.index()].insert(me, Ordering::AcqRel).is_empty());
        let interrupts = not_dropped(machine, asleep.collect());
        if !interrupts.is_empty() {
            machine.interrupt(interrupts);
        }
        flush_here(machine, ranges);
        let cost = Sent { targets: targets.len(), interrupts: interrupts.len() };
        if bug::armed(Bug::FreeBeforeAck) {
            return cost;
        }
        let missing = || match request.left.load(Ordering::Acquire) {
            0 => CpuSet::EMPTY,
            // Who has taken itself out of `asked` is at it; who has not may be gone for good. When only those are left
            // that count nothing down any more, there is nobody to wait for.
            _ => targets.and(machine.reachable()),
        };
        machine::wait(machine, missing, || self.serve(machine)); // (6)
        machine.note(Step::Completed { generation });
        cost
    }

    fn serve(&self, machine: &M) {
        let me = machine.cpu();
        // (4) Acquire: pairs with the release in (3).
        let inbox = self.inboxes[me.index()].swap(CpuSet::EMPTY, Ordering::AcqRel);
        let inbox = if bug::armed(Bug::StrayAck) { CpuSet::first(self.requests.len()) } else { inbox };
        for initiator in inbox {
            self.answer(machine, initiator, me);
        }
    }
}
