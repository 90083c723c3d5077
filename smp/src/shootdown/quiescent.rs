//! `quiescent`: no interrupt at all. What was unmapped waits until every CPU has dropped all of its translations at its
//! next context switch or timer tick, and comes free then.
//!
//! ```text
//!   initiator                               each CPU, at a switch or a tick
//!   (1) ticket = epoch += 1       ────▶     (2) e = epoch; if e is not what it was the last time:
//!   (4) settled when every CPU               (3) flush everything, passed = e
//!       that is awake has
//!       passed >= ticket          ◀────
//! ```
//! After LATR (Kumar, Maass, Woo, Shinn and Krishna, ASPLOS 2018), with one number for all that waits in place of a list
//! of ranges a CPU: a CPU that passes flushes once for everybody.
//!
//! Whoever needs an answer sooner, because too much is waiting, asks for all of it by one `batched` request.

use super::{Batched, Protocol, Sent, Ticket, flush_here};
use crate::bug::{self, Bug};
use crate::presence::awake;
use crate::primitive::{AtomicU64, Ordering, fence};
use crate::{CpuId, CpuSet, Machine, Ranges, Step, machine, space};
use alloc::boxed::Box;
use crossbeam_utils::CachePadded;

/// The protocol's state: a number that counts up, how far each CPU has come, and a `batched` for the hurried.
#[derive(Debug)]
pub struct Quiescent {
    /// The youngest ticket. 64 bits do not wrap.
    epoch: CachePadded<AtomicU64>,
    passed: Box<[CachePadded<AtomicU64>]>,
    hurried: Batched,
}

impl Quiescent {
    /// The state for CPUs 0 to `cpus` - 1. Generations of hurried requests count up from `first`.
    #[must_use]
    pub fn new(cpus: usize, first: u32) -> Self {
        Self {
            epoch: CachePadded::new(AtomicU64::new(0)),
            passed: (0..cpus).map(|_| CachePadded::new(AtomicU64::new(0))).collect(),
            hurried: Batched::new(cpus, first),
        }
    }

    /// (1) A ticket for what was unmapped so far.
    fn ticket(&self) -> Ticket {
        // Release: pairs with the acquire in (2); the page-table entries are cleared before it. A read-modify-write, so
        // whoever acquires a younger ticket has acquired this one.
        Ticket(self.epoch.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// (2), (3) This CPU drops all of its translations, unless it has done so since the youngest ticket.
    fn pass<M: Machine>(&self, machine: &M) {
        let passed = &self.passed[machine.cpu().index()];
        let epoch = self.epoch.load(Ordering::Acquire);
        if passed.load(Ordering::Relaxed) < epoch {
            space::drop_all(machine);
            // Release: pairs with the acquire in (4). The maximum, because this may be interrupted by a tick that
            // passes, too.
            passed.fetch_max(epoch, Ordering::Release);
        }
    }

    /// (4) CPUs that may still use what the ticket waits for.
    fn missing<M: Machine>(&self, machine: &M, ticket: Ticket) -> CpuSet {
        let has_passed = |cpu: &CpuId| self.passed[cpu.index()].load(Ordering::Acquire) >= ticket.0;
        awake(machine).filter(|cpu| !has_passed(cpu)).collect()
    }
}

impl<M: Machine> Protocol<M> for Quiescent {
    fn name(&self) -> &'static str {
        "quiescent"
    }

    fn request(&self, machine: &M, ranges: &Ranges) -> Sent {
        if ranges.frees_tables() {
            return self.hurry(machine, ranges); // lazy CPUs have to let the tables go, which a flush does not do
        }
        let ticket = self.ticket();
        let generation = ticket.0 as u32;
        self.pass(machine);
        fence(Ordering::SeqCst); // as in `settled`
        let targets = self.missing(machine, ticket);
        machine.note(Step::Deferred { generation, targets });
        if !bug::armed(Bug::FreeBeforeAck) {
            machine::wait(machine, || self.missing(machine, ticket), || Protocol::<M>::serve(self, machine));
            machine.note(Step::Completed { generation });
        }
        Sent { targets: targets.len(), interrupts: 0 }
    }

    fn serve(&self, machine: &M) {
        self.pass(machine);
        Protocol::<M>::serve(&self.hurried, machine);
    }

    fn passes(&self, machine: &M) {
        self.pass(machine);
    }

    fn defer(&self, machine: &M, ranges: &Ranges) -> Option<Ticket> {
        if ranges.frees_tables() {
            return None;
        }
        let ticket = self.ticket();
        flush_here(machine, ranges);
        fence(Ordering::SeqCst);
        machine.note(Step::Deferred { generation: ticket.0 as u32, targets: awake(machine) });
        Some(ticket)
    }

    fn settled(&self, machine: &M, ticket: Ticket) -> bool {
        // The entries are cleared before the sets of CPUs are read; see `presence`.
        fence(Ordering::SeqCst);
        let missing = self.missing(machine, ticket);
        missing.is_empty() || bug::armed(Bug::SettleEarly) && missing.len() == 1 || bug::armed(Bug::FreeBeforeAck)
    }

    fn hurry(&self, machine: &M, ranges: &Ranges) -> Sent {
        self.hurried.request(machine, ranges)
    }
}
