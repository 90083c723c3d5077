//! From a trace file, or any stream of records with traces among them, to a [`Trace`]. What is damaged is passed over
//! and counted.

use super::{Gap, Trace};
use crate::error::{Context, Error, Result};
use std::path::Path;
use wire::Record;
use wire::frame::Decoder;
use wire::trace::pack::Unpacker;

/// Builds a [`Trace`] from records as they come.
#[derive(Debug, Default)]
pub struct Builder {
    trace: Trace,
    decoder: Decoder,
    /// For each lane, the number of the event that comes next if none is lost.
    expected: Vec<(u16, u64)>,
    hello: Option<u16>,
    pieces: u64,
}

impl Builder {
    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        let mut decoder = std::mem::take(&mut self.decoder);
        decoder.push(bytes, |record| match record {
            Ok(record) => self.record(&record),
            // Before the hello it is what firmware has written to the port.
            Err(damage) if self.hello.is_some() => self.trace.damaged += damage.bytes,
            Err(_) => {}
        });
        self.decoder = decoder;
    }

    fn record(&mut self, record: &Record<'_>) {
        match record {
            Record::Hello { version, tsc_hz, cmdline, .. } => {
                self.hello = Some(*version);
                self.trace.tsc_hz = *tsc_hz;
                self.trace.cmdline = (*cmdline).to_owned();
            }
            Record::Trace { cpu, first, time, packed } => {
                self.pieces += 1;
                self.skip_to(*cpu, *first);
                // A guest that panics while it sends a piece sends it again, with what came since.
                let known = self.expected(*cpu).saturating_sub(*first);
                let mut unpacker = Unpacker::new(packed, *time);
                let skipped = unpacker.by_ref().take(known as usize).count() as u64;
                let lane = self.trace.lane(*cpu);
                let before = lane.events.len();
                lane.events.extend(unpacker.by_ref());
                let count = (lane.events.len() - before) as u64;
                self.trace.damaged += unpacker.left();
                if skipped == known {
                    *self.expected(*cpu) = first + known + count;
                }
            }
            Record::TraceEnd { cpu, events } => {
                self.skip_to(*cpu, *events);
                self.trace.lane(*cpu).ended = true;
            }
            _ => {}
        }
    }

    fn expected(&mut self, cpu: u16) -> &mut u64 {
        let at = self.expected.iter().position(|(known, _)| *known == cpu).unwrap_or_else(|| {
            self.expected.push((cpu, 0));
            self.expected.len() - 1
        });
        &mut self.expected[at].1
    }

    /// Notes what is missing of a CPU before the event with the number `next`.
    fn skip_to(&mut self, cpu: u16, next: u64) {
        let lost = next.saturating_sub(*self.expected(cpu));
        if lost > 0 {
            let lane = self.trace.lane(cpu);
            let before = lane.events.len();
            lane.gaps.push(Gap { before, lost });
            *self.expected(cpu) = next;
        }
    }

    /// The trace.
    ///
    /// # Errors
    /// If these were no records of this version, or there is no trace among them.
    pub fn finish(mut self) -> Result<Trace> {
        match self.hello {
            None => Err(Error::CannotRun(
                "it holds no record that tells what it is: not a trace, or its beginning is missing".into(),
            )),
            Some(version) if version != wire::VERSION => {
                Err(Error::CannotRun(format!("it is of version {version}, this tool reads version {}", wire::VERSION)))
            }
            Some(_) if self.pieces == 0 => {
                Err(Error::CannotRun("it holds no events: the run recorded none, or sent none".into()))
            }
            Some(_) => {
                self.trace.torn = self.decoder.torn();
                self.trace.lanes.iter_mut().for_each(super::Lane::sort);
                Ok(self.trace)
            }
        }
    }
}

/// Reads a trace file.
///
/// # Errors
/// If it cannot be read, or is none.
pub fn file(path: &Path) -> Result<Trace> {
    let name = path.display().to_string();
    let mut file = std::fs::File::open(path).context(format!("cannot read {name}"))?;
    let mut builder = Builder::default();
    let mut bytes = vec![0; 1 << 20];
    loop {
        let count = std::io::Read::read(&mut file, &mut bytes).context(format!("cannot read {name}"))?;
        if count == 0 {
            break;
        }
        builder.push(&bytes[..count]);
    }
    builder.finish().map_err(|error| match error {
        Error::CannotRun(why) => Error::CannotRun(format!("{name}: {why}")),
        other => other,
    })
}

/// The hello with which a trace begins that did not come from a guest.
#[must_use]
pub const fn hello(tsc_hz: u64) -> Record<'static> {
    Record::Hello {
        version: wire::VERSION,
        tsc_hz,
        cpus: 0,
        cpus_offered: 0,
        x2apic: false,
        memory: 0,
        bootloader: "",
        firmware: wire::record::Firmware::Unknown,
        cmdline: "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::frame::{MAX, encode};
    use wire::trace::pack::Packer;
    use wire::trace::{Entry, Event};

    /// A record as a frame.
    fn framed(record: &Record<'_>) -> Vec<u8> {
        encode(record, &mut [0; MAX]).unwrap().to_vec()
    }

    /// A piece of a CPU's trace as a frame.
    fn piece(cpu: u16, first: u64, entries: &[Entry]) -> Vec<u8> {
        let mut buffer = [0; 900];
        let mut packer = Packer::new(&mut buffer, entries[0].time);
        assert!(entries.iter().all(|entry| packer.push(entry)));
        framed(&Record::Trace { cpu, first, time: entries[0].time, packed: packer.packed() })
    }

    fn marks(from: u64, count: u64) -> Vec<Entry> {
        (from..from + count)
            .map(|n| Entry { time: 100 + n * 10, thread: 70, event: Event::Mark { mark: 1, value: n } })
            .collect()
    }

    fn built(bytes: &[u8]) -> Trace {
        let mut builder = Builder::default();
        builder.push(bytes);
        builder.finish().unwrap()
    }

    #[test]
    fn what_is_missing_is_counted_and_placed() {
        let stream = [
            framed(&hello(1_000_000_000)),
            piece(1, 0, &marks(0, 3)),
            piece(1, 5, &marks(5, 2)),
            framed(&Record::TraceEnd { cpu: 1, events: 9 }),
        ];
        let trace = built(&stream.concat());
        assert_eq!(trace.lanes[0].gaps, [Gap { before: 3, lost: 2 }, Gap { before: 5, lost: 2 }]);
        assert_eq!((trace.len(), trace.lost()), (5, 4));
    }

    #[test]
    fn a_stream_cut_anywhere_gives_what_came_before() {
        let stream = [framed(&hello(1_000_000_000)), piece(0, 0, &marks(0, 9)), piece(1, 0, &marks(0, 9))].concat();
        let hello = framed(&hello(1_000_000_000)).len();
        for end in hello..stream.len() {
            let mut builder = Builder::default();
            builder.push(&stream[..end]);
            if let Ok(trace) = builder.finish() {
                assert!(trace.len() == 9 || end == stream.len());
                assert!(trace.damaged == 0);
            }
        }
    }

    #[test]
    fn a_flipped_bit_costs_one_piece_and_shows() {
        let mut stream = [
            framed(&hello(1_000_000_000)),
            piece(0, 0, &marks(0, 9)),
            piece(0, 9, &marks(9, 9)),
            piece(0, 18, &marks(18, 9)),
        ]
        .concat();
        let at = framed(&hello(1_000_000_000)).len() + piece(0, 0, &marks(0, 9)).len() + 12;
        stream[at] ^= 0x10;
        let trace = built(&stream);
        assert_eq!((trace.len(), trace.lost()), (18, 9));
        assert!(!trace.losses().is_empty());
    }

    #[test]
    fn a_piece_that_is_sent_again_gives_what_is_new_in_it() {
        let all = marks(0, 12);
        let hello = framed(&hello(1_000_000_000));
        let trace = built(&[hello, piece(0, 0, &all[..9]), piece(0, 4, &all[4..]), piece(0, 2, &all[2..6])].concat());
        assert_eq!((&trace.lanes[0].events, trace.lost()), (&all, 0));
    }

    #[test]
    fn what_is_no_trace_is_said_to_be_none() {
        for bytes in [b"hello\0world\0".to_vec(), Vec::new(), framed(&hello(1_000_000_000))] {
            let mut builder = Builder::default();
            builder.push(&bytes);
            assert!(matches!(builder.finish(), Err(Error::CannotRun(_))));
        }
    }

    #[test]
    fn events_of_all_cpus_come_in_the_order_of_time() {
        let trace =
            built(&[framed(&hello(1_000_000_000)), piece(0, 0, &marks(0, 50)), piece(1, 0, &marks(20, 50))].concat());
        let times: Vec<u64> = trace.merged().map(|at| at.entry.time).collect();
        assert!(times.is_sorted() && times.len() == 100);
    }
}
