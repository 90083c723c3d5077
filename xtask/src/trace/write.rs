//! From a [`Trace`] back to the records of a trace file.

use super::Trace;
use wire::Record;
use wire::frame::{MAX, encode};
use wire::trace::pack::Packer;

/// Bytes of packed events in a record.
pub const PIECE: usize = MAX - 64;

/// Appends a record to `out` as a frame.
pub fn append(record: &Record<'_>, out: &mut Vec<u8>) {
    let mut buffer = [0; MAX];
    out.extend_from_slice(encode(record, &mut buffer).expect("a piece fits a frame"));
}

/// Appends the trace's events to `out`, with gaps as they are; the hello is not among them.
pub fn frames(trace: &Trace, out: &mut Vec<u8>) {
    for lane in &trace.lanes {
        let mut gaps = lane.gaps.iter().peekable();
        let (mut place, mut number) = (0, 0);
        loop {
            while let Some(gap) = gaps.next_if(|gap| gap.before <= place) {
                number += gap.lost;
            }
            let Some(first) = lane.events.get(place) else { break };
            let end = gaps.peek().map_or(lane.events.len(), |gap| gap.before);
            let mut buffer = [0; PIECE];
            let mut packer = Packer::new(&mut buffer, first.time);
            let count = lane.events[place..end].iter().take_while(|entry| packer.push(entry)).count();
            let record = Record::Trace { cpu: lane.cpu, first: number, time: first.time, packed: packer.packed() };
            append(&record, out);
            place += count;
            number += count as u64;
        }
        append(&Record::TraceEnd { cpu: lane.cpu, events: number }, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::read::Builder;
    use crate::trace::{Gap, Lane};
    use wire::trace::{Entry, Event};

    #[test]
    fn what_is_written_is_read_back_with_its_gaps() {
        let events = |count: u64| {
            (0..count).map(|n| Entry { time: n * 7, thread: 70, event: Event::Tick { quiet: 0 } }).collect()
        };
        let gaps = vec![Gap { before: 0, lost: 5 }, Gap { before: 700, lost: 1 }, Gap { before: 1000, lost: 2 }];
        let trace = Trace { lanes: vec![Lane { cpu: 2, events: events(1000), gaps, ended: true }], ..Trace::default() };
        let mut out = Vec::new();
        append(&crate::trace::read::hello(1000), &mut out);
        frames(&trace, &mut out);
        let mut builder = Builder::default();
        builder.push(&out);
        let back = builder.finish().unwrap();
        assert_eq!((&back.lanes[0].events, &back.lanes[0].gaps), (&trace.lanes[0].events, &trace.lanes[0].gaps));
    }
}
