//! A trace as JSON: one object a line. The first says what the trace is, the others are events in the order of time.

use super::{At, Trace, text};
use serde_json::{Map, Value, json};
use std::io::{self, Write};
use wire::trace::event::Field;

/// Writes the events to `out`.
///
/// # Errors
/// If that fails.
pub fn write(trace: &Trace, events: impl Iterator<Item = At>, out: &mut dyn Write) -> io::Result<()> {
    let lost: Map<String, Value> = trace.lanes.iter().map(|lane| (lane.cpu.to_string(), lane.lost().into())).collect();
    let head = json!({
        "palisade_trace": wire::VERSION,
        "tsc_hz": trace.tsc_hz,
        "cmdline": trace.cmdline,
        "events": trace.len(),
        "lost": lost,
        "damaged_bytes": trace.damaged,
        "torn_bytes": trace.torn,
    });
    writeln!(out, "{head}")?;
    let names = trace.names();
    let mut line = String::new();
    for at in events {
        use std::fmt::Write as _;
        line.clear();
        let info = at.entry.event.info();
        // By hand where the names are ours: ten million of these are written in seconds.
        let _ = write!(
            line,
            "{{\"time\":{},\"ns\":{},\"cpu\":{},\"thread\":{},\"event\":\"{}\"",
            at.entry.time,
            trace.nanoseconds(at.entry.time),
            at.cpu,
            at.entry.thread,
            info.name
        );
        let (_, a, b) = at.entry.event.raw();
        for (field, value) in [(info.a, u64::from(a)), (info.b, b)] {
            match field.kind {
                Field::None => {}
                Field::Number | Field::Cpu | Field::Thread | Field::Generation => {
                    let _ = write!(line, ",\"{}\":{value}", field.name);
                }
                _ => {}
            }
        }
        if [info.a.kind, info.b.kind].iter().any(|kind| !is_number(*kind)) {
            for (name, value) in text::fields(&names, &at) {
                let kind = if info.a.name == name { info.a.kind } else { info.b.kind };
                if !is_number(kind) {
                    let _ = write!(line, ",\"{name}\":{}", Value::from(value));
                }
            }
        }
        line.push_str("}\n");
        out.write_all(line.as_bytes())?;
    }
    Ok(())
}

const fn is_number(kind: Field) -> bool {
    matches!(kind, Field::None | Field::Number | Field::Cpu | Field::Thread | Field::Generation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::trace::event::TABLE;
    use wire::trace::{Entry, Event};

    #[test]
    fn every_line_is_json_and_has_all_fields() {
        let events: Vec<Entry> = TABLE
            .iter()
            .map(|info| Entry {
                time: u64::from(info.kind),
                thread: 66,
                event: Event::from_raw(info.kind, 0x22, 0x41).unwrap(),
            })
            .collect();
        let mut trace = Trace { tsc_hz: 1_000_000_000, ..Trace::default() };
        trace.lane(0).events = events;
        let mut out = Vec::new();
        write(&trace, trace.merged(), &mut out).unwrap();
        let lines: Vec<Value> =
            String::from_utf8(out).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines.len(), TABLE.len() + 1);
        for (line, info) in lines[1..].iter().zip(TABLE) {
            assert_eq!(line["event"], info.name);
            for field in
                [info.a, info.b].iter().filter(|f| !matches!(f.kind, Field::None | Field::TextHead) && f.name != "rest")
            {
                assert!(!line[field.name].is_null(), "{} of {line}", field.name);
            }
        }
    }
}
