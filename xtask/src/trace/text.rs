//! A trace as text: one line an event.

use super::{At, Names, Trace, missing};
use std::fmt::Write as _;
use std::io::{self, Write};
use wire::trace::event::{Cpus, Field, FieldInfo, SlotName, VECTORS};

/// Writes the events to `out`.
///
/// # Errors
/// If that fails.
pub fn write(trace: &Trace, events: impl Iterator<Item = At>, out: &mut dyn Write) -> io::Result<()> {
    let names = trace.names();
    let mut gaps: Vec<_> = trace.lanes.iter().map(|lane| (lane.cpu, lane.gaps.iter().peekable())).collect();
    let start = trace.start();
    for at in events {
        // A gap is shown where the events would be, if the ones around it are.
        if let Some((_, gaps)) = gaps.iter_mut().find(|(cpu, _)| *cpu == at.cpu) {
            let mut lost = 0;
            while let Some(gap) = gaps.next_if(|gap| gap.before <= at.place) {
                lost += gap.lost;
            }
            if lost > 0 {
                writeln!(out, "{:>15}  CPU {:<3} … {}", "", at.cpu, missing(lost))?;
            }
        }
        writeln!(out, "{}", line(trace, start, &names, &at))?;
    }
    Ok(())
}

/// An event as a line.
#[must_use]
pub fn line(trace: &Trace, start: u64, names: &Names, at: &At) -> String {
    let nanoseconds = u128::from(at.entry.time.saturating_sub(start)) * 1_000_000_000 / u128::from(trace.tsc_hz.max(1));
    let mut line = format!(
        "{:>5}.{:09}  CPU {:<3} {:<18} {}",
        nanoseconds / 1_000_000_000,
        nanoseconds % 1_000_000_000,
        at.cpu,
        names.of(at.entry.thread),
        at.entry.event.info().name
    );
    for (name, value) in fields(names, at) {
        let _ = write!(line, " {name}={value}");
    }
    line
}

/// The event's fields, as people read them.
pub fn fields(names: &Names, at: &At) -> impl Iterator<Item = (&'static str, String)> {
    let (_, a, b) = at.entry.event.raw();
    let info = at.entry.event.info();
    let [a, b] =
        [(info.a, u64::from(a), b), (info.b, b, 0)].map(|(field, value, other)| shown(names, field, value, other));
    [a, b].into_iter().flatten()
}

fn shown(names: &Names, field: FieldInfo, value: u64, other: u64) -> Option<(&'static str, String)> {
    let text = match field.kind {
        Field::None => return None,
        Field::Number => value.to_string(),
        Field::Cpu if value >= u64::from(u32::MAX) => "none".into(),
        Field::Cpu => value.to_string(),
        Field::Generation => (value as u32).to_string(),
        Field::Thread => names.of(value as u32),
        Field::Cpus => Cpus(value).to_string(),
        Field::Slot => SlotName(value as u32).to_string(),
        Field::Address => format!("{value:#x}"),
        Field::Vector => match VECTORS.iter().find(|(vector, _)| u64::from(*vector) == value) {
            Some((_, name)) => (*name).into(),
            None => format!("{value:#x}"),
        },
        Field::Text if field.name == "rest" => return None, // shown with its head
        Field::Text => text_of(&value.to_le_bytes()),
        Field::TextHead => {
            let bytes: Vec<u8> = (value as u32).to_le_bytes().into_iter().chain(other.to_le_bytes()).collect();
            return Some(("name", text_of(&bytes)));
        }
        Field::Name(all) => all.get(value as usize).map_or_else(|| value.to_string(), |name| (*name).replace(' ', "-")),
    };
    Some((field.name, text))
}

fn text_of(bytes: &[u8]) -> String {
    let bytes: Vec<u8> = bytes.iter().copied().take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::trace::{Entry, Event};

    #[test]
    fn an_event_is_a_line_that_says_all_of_it() {
        let trace = Trace { tsc_hz: 1_000_000_000, ..Trace::default() };
        let event = Event::Request { generation: 7, targets: 0b1101 };
        let at = At { cpu: 1, place: 0, entry: Entry { time: 1_500_000_123, thread: 70, event } };
        let line = line(&trace, 500_000_000, &Names::default(), &at);
        assert_eq!(line, "    1.000000123  CPU 1   #70                request generation=7 targets=0,2-3");
    }
}
