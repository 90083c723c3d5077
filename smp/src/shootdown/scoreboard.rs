//! `scoreboard`: a slot for each pair of initiator and target, so that initiators never wait for one another.
//!
//! ```text
//!   initiator i                                    target t
//!   (1) notice(i) = ranges
//!   (2) slot(i,t).asked = generation     ────▶     (5) bits = take inbox(t)
//!   (3) inbox(t) |= bit i; interrupt t             (6) for each i in bits: flush notice(i),
//!   (4) flush here, meanwhile                          slot(i,t).acked = slot(i,t).asked
//!   (7) wait for slot(i,t).acked = generation ◀────
//! ```
//! A stray interrupt finds an empty inbox, a late acknowledgement carries an old generation: neither can be taken for
//! the answer to another request. The slots follow FreeBSD's `smp_targeted_tlb_shootdown` (amd64, 2020); the inbox is
//! ours: a target looks at the initiators that asked, not at all of them, and an initiator that finds an inbox filled
//! need not send an interrupt, since the one who filled it does.

use super::{Notice, Protocol, Sent, flush_here, flush_then, not_dropped};
use crate::bug::{self, Bug};
use crate::primitive::{AtomicU32, Ordering};
use crate::presence::to_ask;
use crate::{AtomicCpuSet, CpuId, CpuSet, Machine, Ranges, Step, generation, machine};
use alloc::boxed::Box;
use crossbeam_utils::CachePadded;

/// The protocol's state: `cpus` notices and inboxes, `cpus`² slots.
#[derive(Debug)]
pub struct Scoreboard {
    cpus: usize,
    initiators: Box<[CachePadded<Initiator>]>,
    inboxes: Box<[CachePadded<AtomicCpuSet>]>,
    slots: Box<[CachePadded<Slot>]>,
}

#[derive(Debug)]
struct Initiator {
    /// The generation of the latest request. Only its own CPU writes it.
    generation: AtomicU32,
    notice: Notice,
}

/// One initiator, one target. The initiator writes `asked`, the target `acked`, which the initiator sets back before it asks.
#[derive(Debug, Default)]
struct Slot {
    asked: AtomicU32,
    acked: AtomicU32,
}

impl Scoreboard {
    /// The state for CPUs 0 to `cpus` - 1. Generations count up from `first`; a test starts near the wrap.
    #[must_use]
    pub fn new(cpus: usize, first: u32) -> Self {
        let initiator = || CachePadded::new(Initiator { generation: AtomicU32::new(first), notice: Notice::new() });
        Self {
            cpus,
            initiators: (0..cpus).map(|_| initiator()).collect(),
            inboxes: (0..cpus).map(|_| CachePadded::new(AtomicCpuSet::new())).collect(),
            slots: (0..cpus * cpus).map(|_| CachePadded::new(Slot::default())).collect(),
        }
    }

    fn slot(&self, initiator: CpuId, target: CpuId) -> &Slot {
        &self.slots[initiator.index() * self.cpus + target.index()]
    }

    /// (2), (3) Asks each target, and gives those back that must be interrupted.
    fn ask(&self, me: CpuId, targets: CpuSet, generation: u32) -> CpuSet {
        let asleep = targets.filter(|&target| {
            let slot = self.slot(me, target);
            // What it answered before is taken back: it may be from the last time that the numbers came round. Relaxed: the
            // target's own store comes after the next line.
            if !bug::armed(Bug::WrapUnsafe) {
                slot.acked.store(0, Ordering::Relaxed);
            }
            // Release: pairs with the target's acquire in `answer`; the notice and the cleared page-table entries come
            // before it.
            slot.asked.store(generation, Ordering::Release);
            // Release again, because a target reads `asked` only after it took the inbox (acquire). An inbox that was
            // not empty has its interrupt on the way: who filled it sends it, and the target has not taken it yet.
            self.inboxes[target.index()].insert(me, Ordering::AcqRel).is_empty()
        });
        asleep.collect()
    }

    /// (6) Does what `initiator` asked of `me`.
    fn answer<M: Machine>(&self, machine: &M, initiator: CpuId, me: CpuId) {
        let slot = self.slot(initiator, me);
        let asked = slot.asked.load(Ordering::Acquire);
        let notice = &self.initiators[initiator.index()].notice;
        // Release: the flush is done before the initiator can see this. It pairs with the acquire in (7).
        flush_then(machine, notice, initiator, asked, || slot.acked.store(asked, Ordering::Release));
    }

    /// A request of these CPUs, of which there is one at least. Apart, so that one of none costs next to nothing.
    #[inline(never)]
    fn request_of<M: Machine>(&self, machine: &M, ranges: &Ranges, generation: u32, mut waiting: CpuSet) -> Sent {
        let me = machine.cpu();
        let targets = waiting.len();
        self.initiators[me.index()].notice.write(ranges); // (1)
        let interrupts = not_dropped(machine, self.ask(me, waiting, generation)); // (2), (3)
        if !interrupts.is_empty() {
            machine.interrupt(interrupts);
        }
        flush_here(machine, ranges); // (4)

        let cost = Sent { targets, interrupts: interrupts.len() };
        if bug::armed(Bug::FreeBeforeAck) {
            return cost;
        }
        // (7) Acquire: pairs with the release in `answer`; what the caller frees is freed after the flushes.
        let answers =
            if bug::armed(Bug::WrapUnsafe) { generation::answers_unless_wrapped } else { generation::answers };
        let answered = |cpu: CpuId| answers(self.slot(me, cpu).acked.load(Ordering::Acquire), generation);
        let missing = || {
            while waiting.lowest().is_some_and(answered) {
                waiting.next();
            }
            if !waiting.is_empty() {
                waiting = waiting.filter(|&cpu| !answered(cpu)).collect::<CpuSet>().and(machine.reachable());
            }
            waiting
        };
        machine::wait(machine, missing, || self.serve(machine));
        machine.note(Step::Completed { generation });
        cost
    }
}

impl<M: Machine> Protocol<M> for Scoreboard {
    fn name(&self) -> &'static str {
        "scoreboard"
    }

    fn request(&self, machine: &M, ranges: &Ranges) -> Sent {
        let me = machine.cpu();
        let initiator = &self.initiators[me.index()];
        let generation = generation::after(initiator.generation.load(Ordering::Relaxed));
        initiator.generation.store(generation, Ordering::Relaxed);

        let targets = to_ask(machine, ranges);
        machine.note(Step::Requested { generation, targets });
        if !targets.is_empty() {
            return self.request_of(machine, ranges, generation, targets);
        }
        flush_here(machine, ranges);
        machine.note(Step::Completed { generation });
        Sent::default()
    }

    fn serve(&self, machine: &M) {
        let me = machine.cpu();
        let inbox = &self.inboxes[me.index()];
        if bug::armed(Bug::StrayAck) {
            for slot in (0..self.cpus).map(|initiator| self.slot(CpuId::new(initiator), me)) {
                slot.acked.store(slot.asked.load(Ordering::Acquire), Ordering::Release);
            }
        }
        // (5) Acquire: pairs with the release in `ask`.
        for initiator in inbox.swap(CpuSet::EMPTY, Ordering::AcqRel) {
            self.answer(machine, initiator, me);
        }
    }
}

#[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))]
mod tests {
    use super::*;

    #[test]
    fn an_answer_from_the_last_time_round_is_none() {
        let (board, me, target) = (Scoreboard::new(2, 1), CpuId::new(0), CpuId::new(1));
        board.slot(me, target).acked.store(7, Ordering::Relaxed);
        board.ask(me, CpuSet::only(target), 7);
        let acked = board.slot(me, target).acked.load(Ordering::Relaxed);
        assert!(!generation::answers(acked, 7));
    }
}
