//! Traces on the host: read from a file or from a guest's memory, and shown.
//!
//! ```text
//!   file (frames) ──▶ read ──┐              ┌──▶ text, json
//!   guest memory  ──▶ rings ─┴─▶ Trace ─────┼──▶ perfetto, html
//!                                           └──▶ check (rules)
//! ```

pub mod check;
pub mod file;
pub mod filter;
pub mod follow;
pub mod html;
pub mod json;
pub mod perfetto;
pub mod phases;
pub mod read;
pub mod rings;
pub mod rules;
pub mod text;
pub mod write;

use crc::{CRC_64_XZ, Crc};
use std::collections::HashMap;
use wire::trace::{Entry, Event};

static CRC: Crc<u64> = Crc::<u64>::new(&CRC_64_XZ);

/// What the CPUs did.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// Cycles a second of the time-stamp counter.
    pub tsc_hz: u64,
    /// The kernel's command line.
    pub cmdline: String,
    /// One lane a CPU.
    pub lanes: Vec<Lane>,
    /// Bytes of frames that were damaged.
    pub damaged: usize,
    /// Bytes of a frame that was cut off at the end.
    pub torn: usize,
}

/// What one CPU did.
#[derive(Clone, Debug, Default)]
pub struct Lane {
    /// The CPU.
    pub cpu: u16,
    /// Its events, in the order of time.
    pub events: Vec<Entry>,
    /// Where events are missing.
    pub gaps: Vec<Gap>,
    /// Whether the lane goes on to the end of the recording.
    pub ended: bool,
}

/// Events that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The place in [`Lane::events`] before which they are missing.
    pub before: usize,
    /// How many.
    pub lost: u64,
}

impl Lane {
    /// Puts the events in the order of time. They come in the order in which their places were taken; an interrupt that
    /// comes between the taking and the reading of the clock puts its own events behind, with earlier times.
    pub fn sort(&mut self) {
        self.events.sort_by_key(|entry| entry.time);
    }

    /// Events that are missing.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.gaps.iter().map(|gap| gap.lost).sum()
    }
}

/// An event and the CPU that it happened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// The CPU.
    pub cpu: u16,
    /// Place in the CPU's lane.
    pub place: usize,
    /// The event.
    pub entry: Entry,
}

impl At {
    /// The shootdown request that the event is about: its initiator and generation.
    #[must_use]
    pub const fn request(&self) -> Option<(u16, u32)> {
        match self.entry.event {
            Event::Request { generation, .. } | Event::Done { generation } => Some((self.cpu, generation)),
            Event::Ack { generation, initiator } => Some((initiator as u16, generation)),
            _ => None,
        }
    }
}

impl Trace {
    /// The lane of a CPU, made if it is not there.
    pub fn lane(&mut self, cpu: u16) -> &mut Lane {
        let at = match self.lanes.binary_search_by_key(&cpu, |lane| lane.cpu) {
            Ok(at) => at,
            Err(at) => {
                self.lanes.insert(at, Lane { cpu, ..Lane::default() });
                at
            }
        };
        &mut self.lanes[at]
    }

    /// All events in the order of time; those of one CPU stay in theirs.
    pub fn merged(&self) -> impl Iterator<Item = At> + '_ {
        use std::cmp::Reverse;
        use std::collections::BinaryHeap;
        let first = |(number, lane): (usize, &Lane)| lane.events.first().map(|entry| Reverse((entry.time, number)));
        let mut next: BinaryHeap<_> = self.lanes.iter().enumerate().filter_map(first).collect();
        let mut places = vec![0; self.lanes.len()];
        std::iter::from_fn(move || {
            let Reverse((_, number)) = next.pop()?;
            let (lane, place) = (&self.lanes[number], places[number]);
            places[number] += 1;
            if let Some(after) = lane.events.get(place + 1) {
                next.push(Reverse((after.time, number)));
            }
            Some(At { cpu: lane.cpu, place, entry: lane.events[place] })
        })
    }

    /// How many events there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lanes.iter().map(|lane| lane.events.len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many events are missing.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lanes.iter().map(Lane::lost).sum()
    }

    /// A checksum (CRC-64/XZ) of all events with their times, and of what is missing: two runs that did the same at the
    /// same times have the same.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let mut digest = CRC.digest();
        for lane in &self.lanes {
            digest.update(&u64::from(lane.cpu).to_le_bytes());
            for entry in &lane.events {
                entry.words(0).iter().for_each(|word| digest.update(&word.to_le_bytes()));
            }
            digest.update(&lane.lost().to_le_bytes());
        }
        digest.finalize()
    }

    /// The time of the first event: where the shown times count from.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.lanes.iter().filter_map(|lane| lane.events.first()).map(|entry| entry.time).min().unwrap_or(0)
    }

    /// Nanoseconds since the first event.
    #[must_use]
    pub fn nanoseconds(&self, time: u64) -> u64 {
        let cycles = u128::from(time.saturating_sub(self.start()));
        (cycles * 1_000_000_000 / u128::from(self.tsc_hz.max(1))) as u64
    }

    /// Names of threads by their numbers.
    #[must_use]
    pub fn names(&self) -> Names {
        let mut names = HashMap::new();
        for lane in &self.lanes {
            for entry in &lane.events {
                if let Event::Name { head, rest } = entry.event {
                    let bytes = head.to_le_bytes().into_iter().chain(rest.to_le_bytes());
                    let bytes: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
                    names.insert(entry.thread, String::from_utf8_lossy(&bytes).into_owned());
                }
            }
        }
        Names(names)
    }

    /// What is missing or damaged, a line each; empty if nothing is.
    #[must_use]
    pub fn losses(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for lane in self.lanes.iter().filter(|lane| lane.lost() > 0) {
            let times = if lane.gaps.len() == 1 { "in 1 place" } else { &format!("in {} places", lane.gaps.len()) };
            lines.push(format!("CPU {}: {}, {times}", lane.cpu, missing(lane.lost())));
        }
        if self.damaged > 0 {
            lines.push(format!("{} bytes were damaged", self.damaged));
        }
        if self.torn > 0 {
            lines.push(format!("the end is cut off inside a record of {} bytes so far", self.torn));
        }
        lines
    }
}

fn missing(events: u64) -> String {
    if events == 1 { "1 event is missing".into() } else { format!("{events} events are missing") }
}

/// Names of threads.
#[derive(Clone, Debug, Default)]
pub struct Names(HashMap<u32, String>);

impl Names {
    /// `name#number`; idle threads by their CPU.
    #[must_use]
    pub fn of(&self, thread: u32) -> String {
        match self.0.get(&thread) {
            Some(name) => format!("{name}#{thread}"),
            None if thread == 0 => "boot".into(),
            None if thread as usize <= IDLE_THREADS => format!("idle {}", thread - 1),
            None => format!("#{thread}"),
        }
    }

    /// The name alone, if it is known.
    #[must_use]
    pub fn name(&self, thread: u32) -> Option<&str> {
        self.0.get(&thread).map(String::as_str)
    }
}

/// Threads with numbers up to this are the CPUs' idle threads.
pub const IDLE_THREADS: usize = 64;

/// Whether the thread is a CPU's idle thread, or none yet.
#[must_use]
pub const fn is_idle(thread: u32) -> bool {
    thread as usize <= IDLE_THREADS
}
