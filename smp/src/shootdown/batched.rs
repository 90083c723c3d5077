//! `batched`: several unmaps, one request. Whoever unmaps while a request is under way joins the next one, and one of those
//! who joined asks for all.
//!
//! ```text
//!   initiator i
//!   (1) notice(i) = ranges, number(i) = next
//!   (2) joined |= i
//!   (3) wait for done(i) = number(i), or take the turn      (served meanwhile)
//!         │ the turn                        │ done
//!   (4) all = take joined                   └──▶ (7) all CPUs have flushed what i unmapped
//!   (5) one `scoreboard` request for the ranges of all of them
//!   (6) done(j) = number(j) for each j of them; give the turn up
//! ```
//! Flat combining (Hendler, Incze, Shavit and Tzafrir, 2010) of shootdowns. The turn is held while CPUs wait for each
//! other, as in `broadcast`, and as there whoever waits for it can be interrupted or serves its own inbox.

use super::{Notice, Protocol, Scoreboard, Sent};
use crate::bug::{self, Bug};
use crate::primitive::{AtomicBool, AtomicU32, Ordering};
use crate::{AtomicCpuSet, CpuId, CpuSet, Machine, Ranges, Step, generation, machine};
use alloc::boxed::Box;
use crossbeam_utils::CachePadded;

/// The protocol's state: a `scoreboard`, and a place for each CPU that joins.
#[derive(Debug)]
pub struct Batched {
    requests: Scoreboard,
    turn: CachePadded<AtomicBool>,
    joined: CachePadded<AtomicCpuSet>,
    members: Box<[CachePadded<Member>]>,
}

#[derive(Debug)]
struct Member {
    notice: Notice,
    /// Above how many pages it means everything.
    ceiling: AtomicU32,
    /// The number of its latest unmap; only its own CPU writes it, and only when the one before is done.
    number: AtomicU32,
    /// The latest that is done; whoever has the turn writes it.
    done: AtomicU32,
}

impl Batched {
    /// The state for CPUs 0 to `cpus` - 1. Generations count up from `first`.
    #[must_use]
    pub fn new(cpus: usize, first: u32) -> Self {
        let member = || {
            CachePadded::new(Member {
                notice: Notice::new(),
                ceiling: AtomicU32::new(0),
                number: AtomicU32::new(first),
                done: AtomicU32::new(first),
            })
        };
        Self {
            requests: Scoreboard::new(cpus, first),
            turn: CachePadded::new(AtomicBool::new(false)),
            joined: CachePadded::new(AtomicCpuSet::new()),
            members: (0..cpus).map(|_| member()).collect(),
        }
    }

    /// (4) to (6) Asks for all that have joined, if there are any: whoever had the turn before may have asked for them.
    fn ask_for_all<M: Machine>(&self, machine: &M) -> Option<Sent> {
        // Acquire: pairs with the release in (2); their notices and their cleared page-table entries come before it.
        let all = self.joined.swap(CpuSet::EMPTY, Ordering::AcqRel);
        let first = all.lowest()?;
        let mut ranges = Ranges::new(self.member(first).ceiling.load(Ordering::Relaxed));
        let asked_for = if bug::armed(Bug::BatchDrops) && all.len() > 1 { all.without(first) } else { all };
        for member in asked_for {
            ranges.add(&self.member(member).notice.read(u32::MAX - 1));
        }
        let sent = self.requests.request(machine, &ranges); // (5)
        for member in all {
            let member = self.member(member);
            // (6) Release: pairs with the acquire in (3).
            member.done.store(member.number.load(Ordering::Relaxed), Ordering::Release);
        }
        Some(sent)
    }

    fn member(&self, cpu: CpuId) -> &Member {
        &self.members[cpu.index()]
    }
}

impl<M: Machine> Protocol<M> for Batched {
    fn name(&self) -> &'static str {
        "batched"
    }

    fn request(&self, machine: &M, ranges: &Ranges) -> Sent {
        if ranges.frees_tables() {
            return self.requests.request(machine, ranges); // has to reach CPUs that others need not
        }
        let me = machine.cpu();
        let member = self.member(me);
        let number = generation::after(member.number.load(Ordering::Relaxed));
        member.notice.write(ranges); // (1)
        member.ceiling.store(ranges.ceiling(), Ordering::Relaxed);
        member.number.store(number, Ordering::Relaxed);
        // (2) Release: pairs with the acquire in (4).
        self.joined.insert(me, Ordering::AcqRel);

        // (3) Nobody but the one who has the turn knows who is waited for, so a wait that is too long names all others.
        let mut turn = false;
        let missing = || {
            // Acquire, both: what the one who asked has seen flushed is flushed for us, too.
            if member.done.load(Ordering::Acquire) == number {
                return CpuSet::EMPTY;
            }
            turn = !self.turn.load(Ordering::Relaxed) && !self.turn.swap(true, Ordering::Acquire);
            if turn { CpuSet::EMPTY } else { machine.reachable() }
        };
        machine::wait(machine, missing, || Protocol::<M>::serve(self, machine));
        let mut sent = None;
        if turn {
            sent = self.ask_for_all(machine);
            // Release: pairs with the swap in (3).
            self.turn.store(false, Ordering::Release);
        }
        sent.unwrap_or_else(|| {
            machine.note(Step::Completed { generation: number }); // (7)
            Sent::default()
        })
    }

    fn serve(&self, machine: &M) {
        self.requests.serve(machine);
    }
}
