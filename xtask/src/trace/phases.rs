//! How long each phase of a shootdown and of a stack's end took.

use super::Trace;
use std::collections::HashMap;
use std::fmt::Write;
use wire::Histogram;
use wire::trace::Event;

/// A shootdown request, put together from its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The initiating CPU.
    pub cpu: u16,
    /// With the CPU it names the request.
    pub generation: u32,
    /// Who had to acknowledge, one bit a CPU.
    pub targets: u64,
    /// When it began.
    pub begun: u64,
    /// Who acknowledged, and when.
    pub acks: Vec<(u16, u64)>,
    /// When all had, if they had.
    pub done: Option<u64>,
}

/// The end of a thread's stack, put together from its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The slot.
    pub slot: u32,
    /// The CPU and the time at which it was left.
    pub left: (u16, u64),
    /// The CPU and the time at which its entries were cleared.
    pub unmapped: Option<(u16, u64)>,
    /// When it was free.
    pub freed: Option<u64>,
}

/// All requests, by their begin.
#[must_use]
pub fn requests(trace: &Trace) -> Vec<Request> {
    let mut all: Vec<Request> = Vec::new();
    // The latest of each initiator: an acknowledgement of an older one is of no request that is open.
    let mut open: HashMap<u16, usize> = HashMap::new();
    for at in trace.merged() {
        match at.entry.event {
            Event::Request { generation, targets } => {
                open.insert(at.cpu, all.len());
                let (begun, acks) = (at.entry.time, Vec::new());
                all.push(Request { cpu: at.cpu, generation, targets, begun, acks, done: None });
            }
            Event::Ack { generation, initiator } => {
                if let Some(request) = open.get(&(initiator as u16)).map(|at| &mut all[*at])
                    && request.generation == generation
                {
                    request.acks.push((at.cpu, at.entry.time));
                }
            }
            Event::Done { generation } => {
                if let Some(request) = open.remove(&at.cpu).map(|at| &mut all[at])
                    && request.generation == generation
                {
                    request.done = Some(at.entry.time);
                }
            }
            _ => {}
        }
    }
    all
}

/// The ends of all stacks that were left, by the time at which they were.
#[must_use]
pub fn ends(trace: &Trace) -> Vec<End> {
    let mut all: Vec<End> = Vec::new();
    let mut open: HashMap<u32, usize> = HashMap::new();
    for at in trace.merged() {
        let time = at.entry.time;
        match at.entry.event {
            Event::OffStack { slot, .. } => {
                open.insert(slot, all.len());
                all.push(End { slot, left: (at.cpu, time), unmapped: None, freed: None });
            }
            Event::Unmap { slot, .. } => {
                if let Some(end) = open.get(&slot) {
                    all[*end].unmapped = Some((at.cpu, time));
                }
            }
            Event::Free { slot } => {
                if let Some(end) = open.remove(&slot) {
                    all[end].freed = Some(time);
                }
            }
            _ => {}
        }
    }
    all
}

/// The phases as a table: how many, and how long in nanoseconds.
#[must_use]
pub fn table(trace: &Trace) -> String {
    let mut phases: Vec<(&str, Histogram)> = Vec::new();
    let mut add = |name: &'static str, from: u64, to: u64| {
        let at = phases.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            phases.push((name, Histogram::new()));
            phases.len() - 1
        });
        phases[at].1.record(to.saturating_sub(from));
    };
    for request in requests(trace) {
        let times = || request.acks.iter().map(|(_, time)| *time);
        if let (Some(first), Some(last)) = (times().min(), times().max()) {
            add("request: first acknowledgement", request.begun, first);
            add("request: from first to last", first, last);
            if let Some(done) = request.done {
                add("request: last one seen", last, done);
            }
        }
        if let Some(done) = request.done {
            add("request: all", request.begun, done);
        }
    }
    for end in ends(trace) {
        if let Some((_, unmapped)) = end.unmapped {
            add("stack: left until unmapped", end.left.1, unmapped);
            if let Some(freed) = end.freed {
                add("stack: unmapped until free", unmapped, freed);
            }
        }
    }
    let mut text =
        format!("{:<34} {:>9} {:>12} {:>12} {:>12} {:>12}\n", "phase, ns", "times", "p50", "p90", "p99", "max");
    for (name, histogram) in &phases {
        let _ = write!(text, "{name:<34} {:>9}", histogram.samples());
        for cycles in [50_000, 90_000, 99_000].map(|p| histogram.percentile(p)).into_iter().chain([histogram.largest()])
        {
            let ns = u128::from(cycles) * 1_000_000_000 / u128::from(trace.tsc_hz.max(1));
            let _ = write!(text, " {ns:>12}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::trace::Entry;

    #[test]
    fn a_request_is_put_together_from_its_events() {
        let mut trace = Trace { tsc_hz: 1_000_000_000, ..Trace::default() };
        let mut add = |cpu, time, event| trace.lane(cpu).events.push(Entry { time, thread: 66, event });
        add(0, 10, Event::Request { generation: 1, targets: 0b110 });
        add(1, 20, Event::Ack { generation: 1, initiator: 0 });
        add(2, 35, Event::Ack { generation: 1, initiator: 0 });
        add(0, 40, Event::Done { generation: 1 });
        add(0, 50, Event::Request { generation: 2, targets: 0b110 });
        add(1, 55, Event::Ack { generation: 1, initiator: 0 });
        let requests = requests(&trace);
        assert_eq!(requests.len(), 2);
        assert_eq!((requests[0].acks.as_slice(), requests[0].done), ([(1, 20), (2, 35)].as_slice(), Some(40)));
        assert_eq!((requests[1].acks.len(), requests[1].done), (0, None));
        assert!(table(&trace).contains("request: from first to last"));
    }
}
