//! What is known at a moment of the trace.

use super::Violation;
use crate::trace::rules::{self, Life};
use crate::trace::{At, is_idle};
use std::collections::HashMap;
use wire::trace::Event;
use wire::trace::event::{Cpus, SlotName};

#[derive(Debug)]
struct Request {
    cpu: u16,
    generation: u32,
    missing: u64,
    begun: At,
}

#[derive(Clone, Copy, Debug)]
struct Unmapped {
    at: u64,
    by: u32,
    done: u64,
}

/// What is freed when these CPUs have flushed everything since it was unmapped.
#[derive(Clone, Copy, Debug)]
struct Deferred {
    unmapped: u64,
    targets: u64,
}

/// What is known of a CPU's TLB.
#[derive(Clone, Copy, Debug, Default)]
struct Cpu {
    flushed: u64,
    asleep: bool,
}

#[derive(Debug, Default)]
pub(super) struct State {
    slots: HashMap<u32, Life>,
    /// By initiator.
    requests: HashMap<u16, Request>,
    /// How many requests each thread has seen done.
    done: HashMap<u32, u64>,
    /// When the last of them was.
    last_done: HashMap<u32, u64>,
    /// How many its unmapper had, when a slot was unmapped.
    unmapped: HashMap<u32, Unmapped>,
    /// What each thread has unmapped since its last request.
    fresh: HashMap<u32, Vec<u32>>,
    /// Slots that nobody waits for.
    deferred: HashMap<u32, Deferred>,
    cpus: HashMap<u16, Cpu>,
    running: HashMap<u32, u16>,
    /// Slots that were left and are not unmapped, and by which event.
    waiting: HashMap<u32, At>,
    /// Threads that were spawned, and whether their stacks were left.
    left: HashMap<u32, bool>,
}

impl Request {
    fn never_ended(&self) -> Violation {
        let missing = Cpus(self.missing);
        let detail = format!("request {}:{}; not acknowledged by {missing}", self.cpu, self.generation);
        Violation { rule: rules::REQUESTS_END, at: self.begun, detail }
    }
}

impl State {
    /// What rule an event breaks whatever came before it.
    pub(super) fn by_itself(at: &At) -> Option<Violation> {
        match at.entry.event {
            Event::Wait { masked, .. } if masked > 0 => {
                let detail = format!("masked {masked} deep");
                Some(Violation { rule: rules::NO_LOCK_AT_A_WAIT, at: *at, detail })
            }
            _ => None,
        }
    }

    /// Takes in the next event, and tells what rules it breaks.
    pub(super) fn see(&mut self, at: &At, violations: &mut Vec<Violation>) {
        violations.extend(Self::by_itself(at));
        let mut broken = |rule, detail: String| violations.push(Violation { rule, at: *at, detail });
        let thread = at.entry.thread;
        self.life(at, &mut broken);
        match at.entry.event {
            Event::Request { generation, targets } => {
                let request = Request { cpu: at.cpu, generation, missing: targets, begun: *at };
                if let Some(open) = self.requests.insert(at.cpu, request) {
                    let detail = format!("request {}:{} is open when the next begins", open.cpu, open.generation);
                    broken(rules::REQUESTS_END, detail);
                }
            }
            Event::Ack { generation, initiator } => {
                let initiator = initiator as u16;
                if let Some(request) = self.requests.get_mut(&initiator) {
                    let me = 1u64 << (at.cpu & 63);
                    if request.generation != generation || request.missing & me == 0 {
                        let detail = format!(
                            "request {initiator}:{generation}; open is generation {}, to be acknowledged by {}",
                            request.generation,
                            Cpus(request.missing)
                        );
                        broken(rules::ONLY_ASKED_ACK, detail);
                    }
                    request.missing &= !me;
                }
            }
            Event::Done { generation } => {
                if let Some(request) = self.requests.remove(&at.cpu)
                    && (request.missing != 0 || request.generation != generation)
                {
                    let missing = Cpus(request.missing);
                    broken(rules::ACKS_BEFORE_DONE, format!("request {}:{generation}; not by {missing}", at.cpu));
                }
                *self.done.entry(thread).or_default() += 1;
                self.last_done.insert(thread, at.entry.time);
                self.fresh.remove(&thread);
            }
            Event::Unmap { slot, .. } => {
                self.waiting.remove(&slot);
                let done = self.done.get(&thread).copied().unwrap_or(0);
                self.unmapped.insert(slot, Unmapped { at: at.entry.time, by: thread, done });
                self.fresh.entry(thread).or_default().push(slot);
            }
            Event::Defer { targets, .. } => {
                for slot in self.fresh.remove(&thread).unwrap_or_default() {
                    if let Some(Unmapped { at, .. }) = self.unmapped.get(&slot) {
                        self.deferred.insert(slot, Deferred { unmapped: *at, targets });
                    }
                }
            }
            Event::FlushAll {} => {
                self.cpus.insert(at.cpu, Cpu { flushed: at.entry.time, asleep: false });
            }
            Event::Asleep {} => self.cpus.entry(at.cpu).or_default().asleep = true,
            Event::Free { slot } => {
                let before = self.unmapped.remove(&slot);
                // Whoever frees it, the request was the unmapper's.
                let done = |thread| self.done.get(&thread).copied().unwrap_or(0);
                if let Some(deferred) = self.deferred.remove(&slot) {
                    let missing = self.not_flushed(deferred);
                    if missing != 0 && !self.asked_since(thread, deferred.unmapped) {
                        let detail = format!("slot {}; not by {}", SlotName(slot), Cpus(missing));
                        broken(rules::ALL_FLUSH_BEFORE_FREE, detail);
                    }
                } else if before.is_some_and(|before| done(before.by) <= before.done) {
                    broken(rules::DONE_BEFORE_FREE, format!("slot {}", SlotName(slot)));
                }
            }
            Event::Leave { .. } => {
                self.running.remove(&thread);
            }
            Event::Switch { to } => {
                if !is_idle(to)
                    && let Some(other) = self.running.insert(to, at.cpu)
                {
                    broken(rules::ONE_CPU_A_THREAD, format!("thread {to} is on CPU {other}"));
                }
            }
            Event::Spawn { thread, slot } => {
                self.waiting.remove(&(slot as u32));
                self.left.insert(thread, false);
            }
            Event::OffStack { slot, .. } => {
                self.waiting.insert(slot, *at);
                self.running.remove(&thread);
                if let Some(left) = self.left.get_mut(&thread) {
                    *left = true;
                }
            }
            Event::Joined { thread } if self.left.remove(&thread) == Some(false) => {
                broken(rules::JOINED_AFTER_LEFT, format!("thread {thread}"));
            }
            _ => {}
        }
    }

    /// Tells requests that began before `time` and have not ended.
    pub(super) fn requests_not_ended(&self, time: u64, violations: &mut Vec<Violation>) {
        let open = self.requests.values().filter(|request| request.begun.entry.time < time);
        violations.extend(open.map(Request::never_ended));
    }

    /// Tells stacks that were left before `time` and are not unmapped. At a run's end, which drains them: before it some wait
    /// for the next thread that ends, or are kept for the next one that begins.
    pub(super) fn stacks_not_unmapped(&self, time: u64, violations: &mut Vec<Violation>) {
        let mut waiting: Vec<_> = self.waiting.iter().filter(|(_, at)| at.entry.time < time).collect();
        waiting.sort_unstable_by_key(|(_, at)| at.entry.time);
        violations.extend(waiting.into_iter().map(|(slot, at)| {
            let detail = format!("slot {}", SlotName(*slot));
            Violation { rule: rules::LEFT_ARE_UNMAPPED, at: *at, detail }
        }));
    }

    /// CPUs that may still use what was deferred.
    fn not_flushed(&self, deferred: Deferred) -> u64 {
        let flushed = |cpu: u16| self.cpus.get(&cpu).is_some_and(|cpu| cpu.asleep || cpu.flushed >= deferred.unmapped);
        (0..64).filter(|cpu| deferred.targets >> cpu & 1 == 1 && !flushed(*cpu)).fold(0, |set, cpu| set | 1 << cpu)
    }

    /// Whether the thread has seen a request done after `time`: one with interrupts, for all that is deferred.
    fn asked_since(&self, thread: u32, time: u64) -> bool {
        self.last_done.get(&thread).is_some_and(|done| *done > time)
    }

    fn life(&mut self, at: &At, broken: &mut impl FnMut(&'static str, String)) {
        let Some(slot) = rules::slot(at.entry.event) else { return };
        let name = at.entry.event.info().name;
        let Some(step) = rules::SLOT.iter().find(|step| step.event == name) else { return };
        if let Some(was) = self.slots.insert(slot, step.to)
            && !step.from.contains(&was)
        {
            broken(step.rule, format!("slot {} was {was:?}", SlotName(slot)));
        }
    }
}
