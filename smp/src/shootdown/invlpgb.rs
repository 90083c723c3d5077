//! `invlpgb`: no interrupt, because the CPU itself tells the others: AMD's INVLPGB, and TLBSYNC to wait for them.
//!
//! ```text
//!   initiator                                 the other CPUs' TLBs
//!   (1) fence: entries cleared before
//!   (2) broadcast the ranges          ────▶   (3) drop them, whatever the CPU does at that moment
//!   (4) flush here; wait for all      ◀────
//! ```
//! AMD64 Architecture Programmer's Manual volume 3. What was broadcast is dropped under all tags. The generation of a space
//! counts on, but only the initiator notes that it is up to date: another CPU flushes once more when it comes back to the
//! space, which costs time and nothing else. Page tables are freed by a `scoreboard` request: lazy CPUs have to load others,
//! which no broadcast makes them do.

use super::{Protocol, Scoreboard, Sent, flush_here};
use crate::bug::{self, Bug};
use crate::primitive::{AtomicU32, Ordering, fence};
use crate::{CpuSet, Machine, Ranges, Step, generation};

/// The protocol's state: a `scoreboard` for what the instruction cannot do.
#[derive(Debug)]
pub struct Invlpgb {
    asked: Scoreboard,
    /// The youngest request, for traces only.
    generation: AtomicU32,
}

impl Invlpgb {
    /// The state for CPUs 0 to `cpus` - 1. Generations count up from `first`.
    #[must_use]
    pub fn new(cpus: usize, first: u32) -> Self {
        Self { asked: Scoreboard::new(cpus, first), generation: AtomicU32::new(first) }
    }
}

impl<M: Machine> Protocol<M> for Invlpgb {
    fn name(&self) -> &'static str {
        "invlpgb"
    }

    fn request(&self, machine: &M, ranges: &Ranges) -> Sent {
        if ranges.frees_tables() {
            return self.asked.request(machine, ranges);
        }
        let generation = generation::after(self.generation.fetch_add(1, Ordering::Relaxed));
        machine.note(Step::Requested { generation, targets: CpuSet::EMPTY });
        fence(Ordering::SeqCst); // (1)
        match ranges.listed() {
            Some(listed) => listed.iter().for_each(|range| machine.broadcast_flush(Some(*range))), // (2)
            None => machine.broadcast_flush(None),
        }
        flush_here(machine, ranges); // (4)
        if !bug::armed(Bug::FreeBeforeAck) {
            machine.await_broadcasts();
            machine.note(Step::Completed { generation });
        }
        Sent::default()
    }

    fn serve(&self, machine: &M) {
        Protocol::<M>::serve(&self.asked, machine);
    }
}
