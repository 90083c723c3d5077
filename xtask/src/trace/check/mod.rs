//! Replays a trace against the [`rules`](super::rules).
//!
//! Where events are missing, nothing can be said but what an event says by itself: from the last event before a gap to the
//! first one after it, on whichever CPU, no other rule is checked, and what was known before is forgotten.

mod state;

use super::{At, Trace};
use state::State;

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: &'static str,
    /// The event that broke it.
    pub at: At,
    /// What was known.
    pub detail: String,
}

/// What a check came to.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Rules that were broken, in the order of time.
    pub violations: Vec<Violation>,
    /// Events that were looked at.
    pub checked: u64,
    /// Events that came where others are missing.
    pub unchecked: u64,
}

/// A request that is still open, or a stack that is still pending, this long after it began has not ended: in seconds, far
/// above what a host's scheduler does to a virtual CPU, and below the kernel's own patience.
const ENDS_WITHIN: u64 = 5;
/// More violations than these say nothing new.
const MOST: usize = 100;

/// Checks all events.
#[must_use]
pub fn check(trace: &Trace) -> Findings {
    let mut findings = Findings::default();
    let mut state = State::default();
    let blind = blind(trace);
    let mut blind = blind.iter().peekable();
    let mut until = None;
    let mut last = None;
    for at in trace.merged() {
        while let Some((_, end)) = blind.next_if(|(start, _)| *start <= at.entry.time) {
            until = until.max(Some(*end));
        }
        if until.is_some_and(|end| at.entry.time <= end) {
            findings.unchecked += 1;
            // From here on nothing is known of what was open.
            if let Some(last) = last.take() {
                state.requests_not_ended(long_before(trace, last), &mut findings.violations);
            }
            state = State::default();
            if findings.violations.len() < MOST {
                findings.violations.extend(State::by_itself(&at));
            }
            continue;
        }
        findings.checked += 1;
        last = Some(at);
        state.see(&at, &mut findings.violations);
        if findings.violations.len() >= MOST {
            break;
        }
    }
    if let Some(last) = last {
        let time = long_before(trace, last);
        state.requests_not_ended(time, &mut findings.violations);
        state.stacks_not_unmapped(time, &mut findings.violations);
    }
    findings
}

/// What began before this time had to end by the time of `at`.
fn long_before(trace: &Trace, at: At) -> u64 {
    at.entry.time.saturating_sub(trace.tsc_hz.saturating_mul(ENDS_WITHIN))
}

/// The times in which events are missing, by their begin.
fn blind(trace: &Trace) -> Vec<(u64, u64)> {
    let mut times = Vec::new();
    for lane in &trace.lanes {
        for gap in &lane.gaps {
            let before = gap.before.checked_sub(1).map_or(0, |before| lane.events[before].time);
            let after = lane.events.get(gap.before).map_or(u64::MAX, |entry| entry.time.saturating_sub(1));
            times.push((before, after));
        }
        if !lane.ended {
            times.push((lane.events.last().map_or(0, |entry| entry.time + 1), u64::MAX));
        }
    }
    times.sort_unstable();
    times
}

#[cfg(test)]
mod tests {
    use super::super::rules;
    use super::*;
    use wire::trace::{Entry, Event};

    const SLOT: u32 = 3;

    /// (CPU, thread, event), in the order of time.
    fn trace(events: &[(u16, u32, Event)]) -> Trace {
        let mut trace = Trace { tsc_hz: 1000, ..Trace::default() };
        for (time, (cpu, thread, event)) in events.iter().enumerate() {
            let lane = trace.lane(*cpu);
            lane.ended = true;
            lane.events.push(Entry { time: time as u64, thread: *thread, event: *event });
        }
        trace
    }

    fn broken(events: &[(u16, u32, Event)]) -> Vec<&'static str> {
        check(&trace(events)).violations.iter().map(|violation| violation.rule).collect()
    }

    /// The life of a stack, done right: spawned by thread 70 on CPU 0, reaped by thread 72 on CPU 1.
    const GOOD: &[(u16, u32, Event)] = &[
        (0, 70, Event::Map { slot: SLOT, pages: 4 }),
        (0, 70, Event::Spawn { thread: 71, slot: SLOT as u64 }),
        (2, 3, Event::Switch { to: 71 }),
        (2, 71, Event::End { how: 0 }),
        (2, 71, Event::Tick { quiet: 0 }),
        (2, 71, Event::OffStack { slot: SLOT, pending: 0 }),
        (2, 71, Event::Switch { to: 3 }),
        (0, 70, Event::Joined { thread: 71 }),
        (1, 72, Event::Reap { stacks: 1 }),
        (1, 72, Event::Unmap { slot: SLOT, pages: 4 }),
        (1, 72, Event::Tick { quiet: 0 }),
        (1, 72, Event::Request { generation: 9, targets: 0b101 }),
        (0, 70, Event::Ack { generation: 9, initiator: 1 }),
        (2, 3, Event::Ack { generation: 9, initiator: 1 }),
        (1, 72, Event::Done { generation: 9 }),
        (1, 72, Event::Free { slot: SLOT }),
        (0, 70, Event::Map { slot: SLOT, pages: 4 }),
    ];

    #[test]
    fn what_is_done_right_breaks_no_rule() {
        assert_eq!(broken(GOOD), [""; 0]);
    }

    /// Each rule is broken by one change to what is right: an event left out, put elsewhere, or said otherwise.
    #[test]
    fn each_rule_sees_what_breaks_it() {
        let without = |name: &str| -> Vec<_> { GOOD.iter().copied().filter(|(.., e)| e.info().name != name).collect() };
        let moved = |from: usize, to: usize| {
            let mut events = GOOD.to_vec();
            let event = events.remove(from);
            events.insert(to, event);
            events
        };
        let changed = |at: usize, to: Event| {
            let mut events = GOOD.to_vec();
            events[at].2 = to;
            events
        };
        // CPU 2 sleeps, CPU 1 has flushed: `left_out` of what is right is left out.
        let deferred = |left_out: usize| {
            let mut events = GOOD[..10].to_vec();
            let mut rest = vec![
                (1, 72, Event::Defer { generation: 1, targets: 0b110 }),
                (1, 72, Event::FlushAll {}),
                (2, 3, Event::Asleep {}),
                (0, 70, Event::Free { slot: SLOT }),
            ];
            if left_out > 0 {
                rest.remove(left_out);
            }
            events.extend(rest);
            events
        };
        assert_eq!(broken(&deferred(0)), [""; 0]);
        assert_eq!(broken(&deferred(2)), [rules::ALL_FLUSH_BEFORE_FREE]);
        let twice = |at: usize| {
            let mut events = GOOD.to_vec();
            events.insert(at + 1, events[at]);
            events
        };
        let cases = [
            (without("free"), rules::SLOT[0].rule),
            (twice(1), rules::SLOT[1].rule),
            (twice(5), rules::SLOT[2].rule),
            (moved(5, 11), rules::SLOT[3].rule),
            (twice(15), rules::SLOT[4].rule),
            (without("unmap"), rules::SLOT[4].rule),
            (moved(13, 15), rules::ACKS_BEFORE_DONE),
            (twice(12), rules::ONLY_ASKED_ACK),
            (changed(12, Event::Ack { generation: 8, initiator: 1 }), rules::ONLY_ASKED_ACK),
            (changed(14, Event::Request { generation: 10, targets: 0 }), rules::REQUESTS_END),
            (moved(15, 14), rules::DONE_BEFORE_FREE),
            (changed(10, Event::Wait { masked: 1, what: 0 }), rules::NO_LOCK_AT_A_WAIT),
            (moved(7, 3), rules::JOINED_AFTER_LEFT),
            (deferred(1), rules::ALL_FLUSH_BEFORE_FREE),
        ];
        let mut seen = Vec::new();
        for (number, (events, rule)) in cases.iter().enumerate() {
            let broken = broken(events);
            assert!(broken.contains(rule), "case {number}: {broken:?}");
            seen.extend(broken);
        }
        let mut double = GOOD.to_vec();
        double.insert(3, (1, 2, Event::Switch { to: 71 }));
        seen.extend(broken(&double));
        let mut lost = GOOD[..8].to_vec();
        lost.extend([(0, 1, Event::Tick { quiet: 0 }); 6000]);
        assert_eq!(broken(&lost), [rules::LEFT_ARE_UNMAPPED]);
        seen.push(rules::LEFT_ARE_UNMAPPED);
        for rule in rules::all() {
            assert!(seen.contains(&rule), "no case breaks '{rule}'");
        }
    }

    #[test]
    fn a_stack_may_go_from_thread_to_thread_and_be_freed_by_another() {
        let mut again = GOOD[..8].to_vec();
        again.push((0, 70, Event::Spawn { thread: 73, slot: SLOT as u64 }));
        again.extend([(0, 1, Event::Tick { quiet: 0 }); 6000]);
        assert_eq!(broken(&again), [""; 0], "it is not waited for any more");
        let mut by_another = GOOD.to_vec();
        by_another[15].1 = 74;
        assert_eq!(broken(&by_another), [""; 0]);
    }

    #[test]
    fn where_events_are_missing_nothing_is_said() {
        let mut trace = trace(GOOD);
        // CPU 2's lane has lost what it recorded of the thread's end.
        let lane = trace.lane(2);
        lane.events.retain(|entry| !matches!(entry.event, Event::OffStack { .. } | Event::Ack { .. }));
        let before = lane.events.len();
        lane.gaps.push(super::super::Gap { before, lost: 2 });
        let findings = check(&trace);
        assert!(findings.violations.is_empty() && findings.unchecked > 0 && findings.checked > 0);
        trace.lane(2).gaps.clear();
        assert!(!check(&trace).violations.is_empty());
    }

    #[test]
    fn where_events_are_missing_what_an_event_says_by_itself_counts_and_what_had_not_ended_before() {
        let mut events = vec![(0, 70, Event::Request { generation: 9, targets: 0b10 })];
        events.extend([(0, 1, Event::Tick { quiet: 0 }); 6000]);
        events.push((1, 71, Event::Wait { masked: 2, what: 0 }));
        let mut trace = trace(&events);
        let lane = trace.lane(2);
        lane.ended = true;
        lane.events.push(Entry { time: 6000, thread: 72, event: Event::Tick { quiet: 0 } });
        lane.gaps.push(super::super::Gap { before: 1, lost: 1 });
        let rules: Vec<_> = check(&trace).violations.iter().map(|violation| violation.rule).collect();
        assert_eq!(rules, [rules::REQUESTS_END, rules::NO_LOCK_AT_A_WAIT]);
    }

    #[test]
    fn a_request_that_stays_open_is_told() {
        let mut trace =
            trace(&[(0, 70, Event::Request { generation: 1, targets: 2 }), (1, 2, Event::Tick { quiet: 0 })]);
        assert!(check(&trace).violations.is_empty());
        trace.lane(1).events[0].time = 6000;
        assert_eq!(check(&trace).violations[0].rule, rules::REQUESTS_END);
    }
}
