//! A trace for ui.perfetto.dev: Perfetto's protobuf format (`protos/perfetto/trace` in its repository), of which this
//! uses track descriptors, slices, instants, counters and flows.
//!
//! ```text
//!   CPU n ┬ threads      a slice for each time that a thread runs
//!         ├ shootdowns   a slice for each request; an arrow from it to each acknowledgement
//!         ├ interrupts   a slice for each handler; the acknowledgements inside
//!         ├ waits        a slice for each contended lock
//!         └ events       everything else; an arrow from each stack that is left to its unmapping
//!   counters: pending stacks, pages unmapped and not yet free, shootdown interrupts a second
//! ```

use super::{At, Names, Trace, is_idle, text};
use prost::Message;
use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use wire::trace::Event;

#[derive(Clone, PartialEq, Message)]
struct Packet {
    #[prost(uint64, optional, tag = "8")]
    timestamp: Option<u64>,
    #[prost(uint32, tag = "10")]
    sequence: u32,
    #[prost(message, optional, tag = "11")]
    event: Option<TrackEvent>,
    #[prost(message, optional, tag = "60")]
    track: Option<Track>,
}

#[derive(Clone, PartialEq, Message)]
struct Track {
    #[prost(uint64, tag = "1")]
    uuid: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint64, optional, tag = "5")]
    parent: Option<u64>,
    #[prost(message, optional, tag = "8")]
    counter: Option<Counter>,
    /// 3: by `rank`.
    #[prost(int32, optional, tag = "11")]
    child_ordering: Option<i32>,
    #[prost(int32, optional, tag = "12")]
    rank: Option<i32>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Counter {}

#[derive(Clone, PartialEq, Message)]
struct TrackEvent {
    #[prost(message, repeated, tag = "4")]
    notes: Vec<Note>,
    /// 1: a slice begins, 2: it ends, 3: an instant, 4: a counter.
    #[prost(int32, tag = "9")]
    kind: i32,
    #[prost(uint64, tag = "11")]
    track: u64,
    #[prost(string, optional, tag = "23")]
    name: Option<String>,
    #[prost(int64, optional, tag = "30")]
    value: Option<i64>,
    #[prost(fixed64, repeated, packed = "false", tag = "47")]
    flows: Vec<u64>,
    #[prost(fixed64, repeated, packed = "false", tag = "48")]
    flows_end: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct Note {
    #[prost(string, tag = "10")]
    name: String,
    #[prost(string, tag = "6")]
    value: String,
}

const BEGIN: i32 = 1;
const END: i32 = 2;
const INSTANT: i32 = 3;
const COUNTER: i32 = 4;

const THREADS: u64 = 1;
const SHOOTDOWNS: u64 = 2;
const INTERRUPTS: u64 = 3;
const WAITS: u64 = 4;
const EVENTS: u64 = 5;
const LANES: [(u64, &str); 5] = [
    (THREADS, "threads"),
    (SHOOTDOWNS, "shootdowns"),
    (INTERRUPTS, "interrupts"),
    (WAITS, "waits"),
    (EVENTS, "events"),
];

const PENDING: u64 = 1 << 32;
const QUARANTINED: u64 = PENDING + 1;
const IPIS: u64 = PENDING + 2;
/// The interrupts a second are counted over so many nanoseconds.
const IPIS_OVER: u64 = 1_000_000;

const fn track(cpu: u16, lane: u64) -> u64 {
    (cpu as u64 + 1) << 8 | lane
}

/// The arrow from a request to what `target` does for it.
const fn request_flow(initiator: u16, generation: u32, target: u16) -> u64 {
    1 << 63 | (initiator as u64) << 48 | (target as u64) << 32 | generation as u64
}

struct Writer<'w> {
    out: &'w mut dyn Write,
    buffer: Vec<u8>,
}

impl Writer<'_> {
    fn packet(&mut self, packet: &Packet) -> io::Result<()> {
        self.buffer.clear();
        // Field 1 of `Trace`, length-delimited.
        self.buffer.push(1 << 3 | 2);
        packet.encode_length_delimited(&mut self.buffer).expect("a vector grows");
        self.out.write_all(&self.buffer)
    }

    fn track(&mut self, uuid: u64, name: &str, parent: Option<u64>, rank: i32, counter: bool) -> io::Result<()> {
        let counter = counter.then_some(Counter {});
        let track = Track { uuid, name: name.into(), parent, counter, child_ordering: Some(3), rank: Some(rank) };
        self.packet(&Packet { sequence: 1, track: Some(track), ..Packet::default() })
    }

    fn event(&mut self, nanoseconds: u64, event: TrackEvent) -> io::Result<()> {
        self.packet(&Packet { timestamp: Some(nanoseconds), sequence: 1, event: Some(event), ..Packet::default() })
    }
}

/// Writes the events to `out`.
///
/// # Errors
/// If that fails.
pub fn write(trace: &Trace, events: impl Iterator<Item = At>, out: &mut dyn Write) -> io::Result<()> {
    let mut writer = Writer { out, buffer: Vec::new() };
    for lane in &trace.lanes {
        let (cpu, name) = (lane.cpu, format!("CPU {}", lane.cpu));
        writer.track(track(cpu, 0), &name, None, i32::from(cpu), false)?;
        for (number, name) in LANES {
            writer.track(track(cpu, number), name, Some(track(cpu, 0)), number as i32, false)?;
        }
    }
    for (uuid, name) in
        [(PENDING, "pending stacks"), (QUARANTINED, "pages unmapped, not free"), (IPIS, "shootdown interrupts/s")]
    {
        writer.track(uuid, name, None, 1000, true)?;
    }
    let mut show =
        Show { names: trace.names(), open: HashSet::new(), pages: HashMap::new(), quarantined: 0, ipis: (0, 0) };
    let (start, hz) = (trace.start(), u128::from(trace.tsc_hz.max(1)));
    for at in events {
        let ns = (u128::from(at.entry.time.saturating_sub(start)) * 1_000_000_000 / hz) as u64;
        show.event(&mut writer, &at, ns)?;
    }
    Ok(())
}

/// What has to be remembered between events.
struct Show {
    names: Names,
    /// Tracks with an open slice.
    open: HashSet<u64>,
    /// Pages of slots that are unmapped and not free.
    pages: HashMap<u32, u64>,
    quarantined: i64,
    /// Begin of the span in which interrupts are counted, and how many.
    ipis: (u64, u64),
}

impl Show {
    fn event(&mut self, writer: &mut Writer<'_>, at: &At, ns: u64) -> io::Result<()> {
        let cpu = at.cpu;
        match at.entry.event {
            Event::Leave { .. } => self.end(writer, ns, track(cpu, THREADS)),
            Event::Switch { to } => {
                if is_idle(to) {
                    Ok(())
                } else {
                    self.begin(writer, ns, track(cpu, THREADS), self.names.of(to), at, vec![])
                }
            }
            Event::Request { generation, targets } => {
                let flows = (0..64).filter(|target| targets >> target & 1 == 1);
                let flows = flows.map(|target| request_flow(cpu, generation, target)).collect();
                self.begin(writer, ns, track(cpu, SHOOTDOWNS), format!("request {cpu}:{generation}"), at, flows)
            }
            Event::Done { .. } => self.end(writer, ns, track(cpu, SHOOTDOWNS)),
            Event::Ack { generation, initiator } => {
                let name = format!("ack {initiator}:{generation}");
                let ends = vec![request_flow(initiator as u16, generation, cpu)];
                let event = TrackEvent { flows_end: ends, ..self.instant(track(cpu, INTERRUPTS), name, at) };
                writer.event(ns, event)
            }
            Event::Receive { .. } => {
                let name = text::fields(&self.names, at).map(|(_, value)| value).next().unwrap_or_default();
                self.begin(writer, ns, track(cpu, INTERRUPTS), name, at, vec![])
            }
            Event::Served { .. } => self.end(writer, ns, track(cpu, INTERRUPTS)),
            Event::Contended { .. } => {
                let name = text::fields(&self.names, at).map(|(_, value)| value).last().unwrap_or_default();
                self.begin(writer, ns, track(cpu, WAITS), name, at, vec![])
            }
            Event::Acquired { .. } => self.end(writer, ns, track(cpu, WAITS)),
            event => {
                if let Event::OffStack { .. } = event {
                    self.end(writer, ns, track(cpu, THREADS))?;
                }
                let name = event.info().name.to_owned();
                let mut shown = self.instant(track(cpu, EVENTS), name, at);
                match event {
                    Event::OffStack { slot, pending } => {
                        shown.flows.push(slot.into());
                        counter(writer, ns, PENDING, pending as i64 + 1)?;
                    }
                    Event::Reap { .. } => counter(writer, ns, PENDING, 0)?,
                    Event::Unmap { slot, pages } => {
                        shown.flows_end.push(slot.into());
                        self.pages.insert(slot, pages);
                        self.quarantined += pages as i64;
                        counter(writer, ns, QUARANTINED, self.quarantined)?;
                    }
                    Event::Free { slot } => {
                        self.quarantined -= self.pages.remove(&slot).unwrap_or(0) as i64;
                        counter(writer, ns, QUARANTINED, self.quarantined)?;
                    }
                    Event::Send { vector: 0xf0, targets } => self.count(writer, ns, targets.count_ones().into())?,
                    _ => {}
                }
                writer.event(ns, shown)
            }
        }
    }

    fn instant(&self, track: u64, name: String, at: &At) -> TrackEvent {
        TrackEvent { kind: INSTANT, track, name: Some(name), notes: self.notes(at), ..TrackEvent::default() }
    }

    fn notes(&self, at: &At) -> Vec<Note> {
        text::fields(&self.names, at).map(|(name, value)| Note { name: name.into(), value }).collect()
    }

    fn begin(
        &mut self,
        writer: &mut Writer<'_>,
        ns: u64,
        track: u64,
        name: String,
        at: &At,
        flows: Vec<u64>,
    ) -> io::Result<()> {
        self.end(writer, ns, track)?; // its end is missing
        self.open.insert(track);
        let notes = self.notes(at);
        writer.event(ns, TrackEvent { kind: BEGIN, track, name: Some(name), notes, flows, ..TrackEvent::default() })
    }

    fn end(&mut self, writer: &mut Writer<'_>, ns: u64, track: u64) -> io::Result<()> {
        if self.open.remove(&track) {
            writer.event(ns, TrackEvent { kind: END, track, ..TrackEvent::default() })?;
        }
        Ok(())
    }

    fn count(&mut self, writer: &mut Writer<'_>, ns: u64, more: u64) -> io::Result<()> {
        self.ipis.1 += more;
        let (since, count) = self.ipis;
        if ns.saturating_sub(since) >= IPIS_OVER {
            counter(writer, ns, IPIS, (u128::from(count) * 1_000_000_000 / u128::from(ns - since)) as i64)?;
            self.ipis = (ns, 0);
        }
        Ok(())
    }
}

fn counter(writer: &mut Writer<'_>, ns: u64, track: u64, value: i64) -> io::Result<()> {
    writer.event(ns, TrackEvent { kind: COUNTER, track, value: Some(value), ..TrackEvent::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::trace::Entry;

    #[derive(Clone, PartialEq, Message)]
    struct Packets {
        #[prost(message, repeated, tag = "1")]
        packets: Vec<Packet>,
    }

    fn written(trace: &Trace) -> Vec<Packet> {
        let mut out = Vec::new();
        write(trace, trace.merged(), &mut out).unwrap();
        Packets::decode(out.as_slice()).unwrap().packets
    }

    fn trace(events: &[(u16, u64, Event)]) -> Trace {
        let mut trace = Trace { tsc_hz: 1_000_000_000, ..Trace::default() };
        for (cpu, time, event) in events {
            trace.lane(*cpu).events.push(Entry { time: *time, thread: 70, event: *event });
        }
        trace
    }

    #[test]
    fn an_arrow_goes_from_the_request_to_each_acknowledgement() {
        let packets = written(&trace(&[
            (0, 5, Event::Request { generation: 9, targets: 0b110 }),
            (1, 6, Event::Ack { generation: 9, initiator: 0 }),
            (2, 7, Event::Ack { generation: 9, initiator: 0 }),
            (0, 8, Event::Done { generation: 9 }),
        ]));
        let events: Vec<_> = packets.iter().filter_map(|packet| packet.event.as_ref()).collect();
        assert_eq!(events[0].flows.len(), 2);
        assert_eq!(events[0].flows, [events[1].flows_end[0], events[2].flows_end[0]]);
        assert_eq!((events[0].kind, events[3].kind), (BEGIN, END));
        assert_eq!(events[0].track, events[3].track);
    }

    #[test]
    fn every_slice_that_ends_has_begun_and_is_ended_once() {
        let packets = written(&trace(&[
            (0, 1, Event::Served { vector: 0x40 }),
            (0, 2, Event::Receive { vector: 0x40 }),
            (0, 3, Event::Receive { vector: 0xf0 }),
            (0, 4, Event::Served { vector: 0xf0 }),
            (0, 5, Event::Switch { to: 80 }),
            (0, 6, Event::Leave { why: 1 }),
            (0, 6, Event::Switch { to: 1 }),
        ]));
        let mut open = HashSet::new();
        for event in packets.iter().filter_map(|packet| packet.event.as_ref()) {
            match event.kind {
                BEGIN => assert!(open.insert(event.track)),
                END => assert!(open.remove(&event.track)),
                _ => {}
            }
        }
        assert!(open.is_empty());
    }

    #[test]
    fn what_is_unmapped_counts_until_it_is_free() {
        let packets = written(&trace(&[
            (0, 1, Event::Unmap { slot: 5, pages: 4 }),
            (0, 2, Event::Unmap { slot: 6, pages: 1 }),
            (0, 3, Event::Free { slot: 5 }),
        ]));
        let values: Vec<_> =
            packets.iter().filter_map(|p| p.event.as_ref().filter(|e| e.track == QUARANTINED)?.value).collect();
        assert_eq!(values, [4, 5, 1]);
    }
}
