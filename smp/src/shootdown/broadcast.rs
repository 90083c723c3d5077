//! `broadcast`: one request at a time, to all other CPUs, counted down. What simple kernels do; here for comparison.
//!
//! ```text
//!   initiator                                      target t
//!   (1) take the turn (served meanwhile)
//!   (2) notice = ranges; left = targets
//!   (3) todo = targets; interrupt them   ────▶     (5) was t in todo? take it out: flush the notice
//!   (4) flush here, meanwhile                      (6) left -= 1
//!   (7) wait for left = 0; give the turn up  ◀────
//! ```
//! The turn is the one thing in Palisade that is held while CPUs wait for each other. It cannot close a circle, because
//! whoever waits for it can be interrupted or serves its own inbox.

use super::{Notice, Protocol, Sent, flush_here, flush_then, not_dropped};
use crate::bug::{self, Bug};
use crate::primitive::{AtomicBool, AtomicU32, Ordering};
use crate::presence::to_ask;
use crate::{AtomicCpuSet, CpuId, CpuSet, Machine, Ranges, Step, generation, machine};
use crossbeam_utils::CachePadded;

/// The protocol's state: one request.
#[derive(Debug)]
pub struct Broadcast {
    turn: CachePadded<AtomicBool>,
    notice: CachePadded<Notice>,
    todo: CachePadded<AtomicCpuSet>,
    left: CachePadded<AtomicU32>,
    /// The request's number, and the CPU that began it: for traces only.
    generation: AtomicU32,
    initiator: AtomicU32,
}

impl Broadcast {
    /// The state, whatever the number of CPUs. Generations count up from `first`.
    #[must_use]
    pub fn new(_cpus: usize, first: u32) -> Self {
        Self {
            turn: CachePadded::new(AtomicBool::new(false)),
            notice: CachePadded::new(Notice::new()),
            todo: CachePadded::new(AtomicCpuSet::new()),
            left: CachePadded::new(AtomicU32::new(0)),
            generation: AtomicU32::new(first),
            initiator: AtomicU32::new(0),
        }
    }

    fn take_turn<M: Machine>(&self, machine: &M) {
        // Whoever has the turn is who we wait for; nobody else knows which CPU that is, so a wait that is too long
        // names all others. Looked up each time: one that was not there at first may have taken the turn since.
        let missing = || {
            // Acquire: pairs with the release that gave the turn up; and with that of the swap, so that whoever has the
            // turn is among the others.
            let taken = !self.turn.load(Ordering::Acquire) && !self.turn.swap(true, Ordering::AcqRel);
            if taken { CpuSet::EMPTY } else { machine.reachable().without(machine.cpu()) }
        };
        machine::wait(machine, missing, || self.serve(machine));
    }
}

impl<M: Machine> Protocol<M> for Broadcast {
    fn name(&self) -> &'static str {
        "broadcast"
    }

    fn request(&self, machine: &M, ranges: &Ranges) -> Sent {
        self.take_turn(machine); // (1)
        let targets = to_ask(machine, ranges);
        let generation = generation::after(self.generation.load(Ordering::Relaxed));
        self.generation.store(generation, Ordering::Relaxed);
        self.initiator.store(machine.cpu().index() as u32, Ordering::Relaxed);
        machine.note(Step::Requested { generation, targets });
        self.notice.write(ranges); // (2)
        self.left.store(targets.len() as u32, Ordering::Relaxed);
        // (3) Release: pairs with the acquire in `serve`.
        self.todo.swap(targets, Ordering::Release);
        let interrupts = not_dropped(machine, targets);
        if !interrupts.is_empty() {
            machine.interrupt(interrupts);
        }
        flush_here(machine, ranges); // (4)
        let missing = || match self.left.load(Ordering::Acquire) {
            0 => CpuSet::EMPTY,
            // The counter does not say who is missing: all who could be. A CPU that stopped for good counts nothing
            // down any more; when all did, there is nobody left to wait for.
            _ => targets.and(machine.reachable()),
        };
        if !bug::armed(Bug::FreeBeforeAck) {
            machine::wait(machine, missing, || self.serve(machine)); // (7)
            machine.note(Step::Completed { generation });
        }
        self.turn.store(false, Ordering::Release);
        Sent { targets: targets.len(), interrupts: interrupts.len() }
    }

    fn serve(&self, machine: &M) {
        let me = machine.cpu();
        if bug::armed(Bug::StrayAck) && !self.todo.load(Ordering::Relaxed).contains(me) {
            let _ = self.left.try_update(Ordering::Release, Ordering::Relaxed, |left| left.checked_sub(1));
        }
        // (5) A stray interrupt finds this CPU not in `todo`, and counts nothing down.
        if self.todo.load(Ordering::Relaxed).contains(me) && self.todo.remove(me, Ordering::Acquire).contains(me) {
            let initiator = CpuId::new(self.initiator.load(Ordering::Relaxed) as usize);
            let generation = self.generation.load(Ordering::Relaxed);
            flush_then(machine, &self.notice, initiator, generation, || {
                // (6) Release: the flush is done before the initiator can see this.
                self.left.fetch_sub(1, Ordering::Release);
            });
        }
    }
}
