//! A trace as one page: the template `page.html` with the events in it. It needs no network and no other file.
//!
//! ```text
//!   <script id="head">    JSON: what the trace is, the table of events, names of threads, gaps
//!   <script id="lane-N">  the events of lane N as one piece of [`wire::trace::pack`], gzip, base64
//! ```
//! The page takes the pieces apart by the table in the head, so that [`event`](wire::trace::event) stays the only place
//! that knows the events.

use super::{At, Gap, IDLE_THREADS, Lane, Trace};
use base64::engine::general_purpose::{GeneralPurpose, STANDARD};
use base64::write::EncoderWriter;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Map, Value, json};
use std::io::{self, Write};
use std::iter::Peekable;
use std::slice;
use wire::trace::event::{Categories, Field, FieldInfo, Info, TABLE, VECTORS};
use wire::trace::pack::{LONGEST, Packer};

/// The page without the events.
const TEMPLATE: &str = include_str!("page.html");
/// Where in it they go.
const PLACE: &str = "<!-- the trace -->";
/// Packed bytes that are compressed at a time.
const PART: usize = 1 << 16;
const _: () = assert!(PART > LONGEST);

/// Writes the events to `out`.
///
/// # Errors
/// If that fails.
pub fn write(trace: &Trace, events: impl Iterator<Item = At>, out: &mut dyn Write) -> io::Result<()> {
    let mut buffers = vec![[0; PART]; trace.lanes.len()];
    let mut lanes: Vec<_> =
        trace.lanes.iter().zip(&mut buffers).map(|(lane, buffer)| Packing::new(lane, buffer, trace.start())).collect();
    for at in events {
        if let Ok(lane) = lanes.binary_search_by_key(&at.cpu, |packing| packing.lane.cpu) {
            lanes[lane].push(&at)?;
        }
    }
    let lanes = lanes.into_iter().map(Packing::finish).collect::<io::Result<Vec<_>>>()?;
    let (before, after) = TEMPLATE.split_once(PLACE).expect("the template has the place");
    out.write_all(before.as_bytes())?;
    // As text of an HTML element, JSON must not hold what could end it.
    let head = head(trace, lanes.iter().map(|(head, _)| head.clone()).collect()).to_string().replace('<', "\\u003c");
    writeln!(out, "<script type=\"application/json\" id=\"head\">{head}</script>")?;
    for (number, (_, packed)) in lanes.iter().enumerate() {
        write!(out, "<script type=\"application/octet-stream\" id=\"lane-{number}\">")?;
        out.write_all(packed)?;
        writeln!(out, "</script>")?;
    }
    out.write_all(after.as_bytes())
}

/// A lane on its way into the page.
struct Packing<'t> {
    lane: &'t Lane,
    start: u64,
    packer: Packer<'t>,
    out: GzEncoder<EncoderWriter<'static, GeneralPurpose, Vec<u8>>>,
    /// Gaps that are not passed yet, and those that are: events before them, and how many are missing.
    gaps: Peekable<slice::Iter<'t, Gap>>,
    passed: Vec<(u64, u64)>,
    count: u64,
    /// Times of the first and of the last event, in cycles since the start.
    span: Option<(u64, u64)>,
}

impl<'t> Packing<'t> {
    fn new(lane: &'t Lane, buffer: &'t mut [u8], start: u64) -> Self {
        Self {
            lane,
            start,
            packer: Packer::new(buffer, start),
            out: GzEncoder::new(EncoderWriter::new(Vec::new(), &STANDARD), Compression::fast()),
            gaps: lane.gaps.iter().peekable(),
            passed: Vec::new(),
            count: 0,
            span: None,
        }
    }

    fn push(&mut self, at: &At) -> io::Result<()> {
        self.pass_gaps(at.place);
        if !self.packer.push(&at.entry) {
            self.out.write_all(self.packer.packed())?;
            self.packer.go_on();
            assert!(self.packer.push(&at.entry), "an empty buffer has room for an event");
        }
        let time = at.entry.time - self.start;
        self.span = Some((self.span.map_or(time, |(first, _)| first), time));
        self.count += 1;
        Ok(())
    }

    /// Notes the gaps up to the place of the next event; those between the same two events as one.
    fn pass_gaps(&mut self, place: usize) {
        while let Some(gap) = self.gaps.next_if(|gap| gap.before <= place) {
            match self.passed.last_mut().filter(|(before, _)| *before == self.count) {
                Some((_, lost)) => *lost += gap.lost,
                None => self.passed.push((self.count, gap.lost)),
            }
        }
    }

    /// What the head says of the lane, and its packed events.
    fn finish(mut self) -> io::Result<(Value, Vec<u8>)> {
        self.pass_gaps(usize::MAX);
        self.out.write_all(self.packer.packed())?;
        let packed = self.out.finish()?.finish()?;
        let head = json!({
            "cpu": self.lane.cpu,
            "events": self.count,
            "first": self.span.map(|(first, _)| first),
            "last": self.span.map(|(_, last)| last),
            "gaps": self.passed,
            "ended": self.lane.ended,
        });
        Ok((head, packed))
    }
}

fn head(trace: &Trace, lanes: Vec<Value>) -> Value {
    let threads: Map<String, Value> =
        trace.names().0.into_iter().map(|(thread, name)| (thread.to_string(), name.into())).collect();
    json!({
        "tsc_hz": trace.tsc_hz,
        "cmdline": trace.cmdline,
        "recorded": trace.len(),
        "losses": trace.losses(),
        "idle_threads": IDLE_THREADS,
        "threads": threads,
        "categories": Categories::NAMES,
        "vectors": VECTORS,
        "events": TABLE.iter().map(event).collect::<Vec<_>>(),
        "lanes": lanes,
    })
}

fn event(info: &Info) -> Value {
    let category = Categories::NAMES[info.category.bits().trailing_zeros() as usize];
    json!({
        "kind": info.kind,
        "name": info.name,
        "about": info.about.trim(),
        "category": category,
        "a": field(info.a),
        "b": field(info.b),
    })
}

fn field(field: FieldInfo) -> Value {
    let (kind, names) = match field.kind {
        Field::None => return Value::Null,
        Field::Number => ("number", None),
        Field::Cpu => ("cpu", None),
        Field::Thread => ("thread", None),
        Field::Cpus => ("cpus", None),
        Field::Generation => ("generation", None),
        Field::Slot => ("slot", None),
        Field::Address => ("address", None),
        Field::Vector => ("vector", None),
        Field::Text => ("text", None),
        Field::TextHead => ("text-head", None),
        Field::Name(names) => ("name", Some(names)),
    };
    json!({ "name": field.name, "kind": kind, "names": names })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use std::io::Read;
    use wire::trace::pack::Unpacker;
    use wire::trace::{Entry, Event};

    fn page(trace: &Trace, events: impl Iterator<Item = At>) -> String {
        let mut out = Vec::new();
        write(trace, events, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn element<'p>(page: &'p str, id: &str) -> &'p str {
        let (_, rest) = page.split_once(&format!("id=\"{id}\">")).unwrap();
        rest.split_once("</script>").unwrap().0
    }

    fn events(page: &str, lane: usize, start: u64) -> Vec<Entry> {
        let packed = STANDARD.decode(element(page, &format!("lane-{lane}"))).unwrap();
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut bytes).unwrap();
        Unpacker::new(&bytes, start).collect()
    }

    /// All kinds of events on two CPUs, more of them than fit into a part.
    fn trace() -> Trace {
        let mut trace = Trace { tsc_hz: 1_000_000_000, cmdline: "x=</script><b>".into(), ..Trace::default() };
        for n in 0..40_000u64 {
            let kind = TABLE[n as usize % TABLE.len()].kind;
            let event = Event::from_raw(kind, 0x2_0003, n % 5).unwrap();
            trace.lane((n / 3 % 2) as u16).events.push(Entry { time: (1 << 60) + n * 10, thread: n as u32 % 7, event });
        }
        trace
    }

    #[test]
    fn the_head_has_every_event_of_the_table() {
        let trace = trace();
        let head: Value = serde_json::from_str(element(&page(&trace, trace.merged()), "head")).unwrap();
        assert_eq!(head["cmdline"], trace.cmdline);
        let events = head["events"].as_array().unwrap();
        assert_eq!(events.len(), TABLE.len());
        for (event, info) in events.iter().zip(TABLE) {
            assert_eq!((&event["kind"], &event["name"]), (&info.kind.into(), &info.name.into()));
            for (field, known) in [(&event["a"], info.a), (&event["b"], info.b)] {
                assert_eq!(field["name"].as_str().unwrap_or_default(), known.name);
            }
        }
    }

    #[test]
    fn the_embedded_lanes_give_the_events_back() {
        let trace = trace();
        let page = page(&trace, trace.merged());
        for (number, lane) in trace.lanes.iter().enumerate() {
            assert_eq!(events(&page, number, trace.start()), lane.events);
        }
    }

    #[test]
    fn gaps_lie_between_the_events_that_are_shown() {
        let mut trace = trace();
        let end = trace.lane(0).events.len();
        trace.lane(0).gaps = [(0, 3), (10, 4), (11, 5), (end, 6)].map(|(before, lost)| Gap { before, lost }).into();
        let page = page(&trace, trace.merged().filter(|at| at.cpu == 0 && at.place >= 12));
        let head: Value = serde_json::from_str(element(&page, "head")).unwrap();
        let (shown, lane) = (events(&page, 0, trace.start()), &head["lanes"][0]);
        assert_eq!(lane["gaps"], json!([[0, 12], [shown.len(), 6]]));
        assert_eq!(lane["events"], shown.len());
        assert_eq!((&head["lanes"][1]["events"], &head["lanes"][1]["first"]), (&json!(0), &Value::Null));
    }
}
