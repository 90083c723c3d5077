//! Following the rings of a running guest through the file behind its memory: the trace path that costs the guest
//! nothing but the writing, and loses nothing while the host comes by often enough.

use super::write::{PIECE, append};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use wire::Record;
use wire::trace::entry::{BYTES, HEAD_STRIDE, STAMP, WORDS};
use wire::trace::pack::Packer;
use wire::trace::{Entry, Rings};

/// Guest memory up to here lies in the file at its physical address: q35 and pc put no more below the hole for devices
/// when there is more.
pub const MOST_MEMORY_MIB: u32 = 2048;

/// Follows the rings.
#[derive(Debug)]
pub struct Follower {
    memory: File,
    table: Rings,
    /// The next event of each CPU.
    next: Vec<u64>,
}

impl Follower {
    /// Of the guest whose memory is the file at `path`, and whose rings lie as `table` says.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn new(path: &Path, table: Rings) -> io::Result<Self> {
        Ok(Self { memory: File::open(path)?, table, next: vec![0; table.cpus as usize] })
    }

    /// Appends what is new to `out`, as the records of a trace file.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn poll(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        for cpu in 0..self.next.len() {
            self.lane(cpu, false, out)?;
        }
        Ok(())
    }

    /// As [`poll`](Self::poll) when the guest has ended; says how many events there were.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        for cpu in 0..self.next.len() {
            self.lane(cpu, true, out)?;
            append(&Record::TraceEnd { cpu: cpu as u16, events: self.head(cpu)? }, out);
        }
        Ok(())
    }

    fn head(&self, cpu: usize) -> io::Result<u64> {
        let mut head = [0; 8];
        self.memory.read_exact_at(&mut head, self.table.heads_physical + cpu as u64 * HEAD_STRIDE)?;
        Ok(u64::from_le_bytes(head))
    }

    /// Takes what is new of a CPU's. At the end a place that was taken and never filled is passed over.
    fn lane(&mut self, cpu: usize, at_end: bool, out: &mut Vec<u8>) -> io::Result<()> {
        let (entries, head) = (self.table.entries, self.head(cpu)?);
        // What was overwritten is lost, and shows by the numbers.
        let from = self.next[cpu].max(head.saturating_sub(entries));
        if from >= head {
            return Ok(());
        }
        let ring = self.table.rings_physical + cpu as u64 * entries * BYTES as u64;
        // At most two pieces: up to the ring's end, and from its begin.
        let first = (entries - from % entries).min(head - from) as usize * BYTES;
        let copy = || -> io::Result<Vec<u8>> {
            let mut bytes = vec![0; (head - from) as usize * BYTES];
            self.memory.read_exact_at(&mut bytes[..first], ring + from % entries * BYTES as u64)?;
            self.memory.read_exact_at(&mut bytes[first..], ring)?;
            Ok(bytes)
        };
        // An entry's stamp is stored last. So it is read first: all stamps, then the rest.
        let (stamps, rest) = (copy()?, copy()?);
        // What came round while it was read is not what it was.
        let safe = self.head(cpu)?.saturating_sub(entries).max(from);

        let found = (safe..head).map(|index| {
            let at = (index - from) as usize * BYTES;
            let words: [u64; WORDS] = std::array::from_fn(|word| {
                let (at, bytes) = (at + word * 8, if word == STAMP { &stamps } else { &rest });
                u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
            });
            (index, Entry::from_words(words, index))
        });
        let mut found = found.filter(|(_, entry)| !at_end || entry.is_some());
        let mut current = found.next();
        let mut buffer = [0; PIECE];
        while let Some((index, entry)) = current {
            // A place that was taken and is not filled yet: the next time.
            let Some(entry) = entry else { break };
            let (first, time) = (index, entry.time);
            let mut packer = Packer::new(&mut buffer, time);
            let mut packed = entry;
            let mut after = index;
            while packer.push(&packed) {
                after += 1;
                current = found.next();
                match current {
                    Some((next, Some(entry))) if next == after => packed = entry,
                    _ => break,
                }
            }
            append(&Record::Trace { cpu: cpu as u16, first, time, packed: packer.packed() }, out);
            self.next[cpu] = after;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Trace;
    use crate::trace::read::Builder;
    use std::io::Write;
    use wire::trace::Event;

    /// A memory file with one ring of 64 entries.
    struct Guest {
        file: tempfile::NamedTempFile,
        head: u64,
    }

    const RINGS: u64 = 4096;

    impl Guest {
        fn new() -> Self {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(&vec![0; RINGS as usize + 64 * BYTES]).unwrap();
            Self { file, head: 0 }
        }

        fn record(&mut self, count: u64) {
            for index in self.head..self.head + count {
                let entry = Entry { time: 1000 + index, thread: 7, event: Event::Mark { mark: 1, value: index } };
                let bytes: Vec<u8> = entry.words(index).iter().flat_map(|word| word.to_le_bytes()).collect();
                self.file.as_file().write_all_at(&bytes, RINGS + index % 64 * BYTES as u64).unwrap();
            }
            self.head += count;
            self.file.as_file().write_all_at(&self.head.to_le_bytes(), 0).unwrap();
        }
    }

    fn table() -> Rings {
        Rings { magic: Rings::MAGIC, tsc_hz: 1, cpus: 1, entries: 64, rings_physical: RINGS, ..Rings::default() }
    }

    /// A guest, its follower, and the begin of a trace.
    fn followed() -> (Guest, Follower, Vec<u8>) {
        let guest = Guest::new();
        let follower = Follower::new(guest.file.path(), table()).unwrap();
        let mut out = Vec::new();
        append(&crate::trace::read::hello(1), &mut out);
        (guest, follower, out)
    }

    /// The trace, when the guest has ended.
    fn ended(mut follower: Follower, mut out: Vec<u8>) -> Trace {
        follower.finish(&mut out).unwrap();
        let mut builder = Builder::default();
        builder.push(&out);
        builder.finish().unwrap()
    }

    #[test]
    fn what_is_recorded_between_two_visits_comes_in_order_and_what_was_overwritten_is_counted() {
        let (mut guest, mut follower, mut out) = followed();
        for count in [0, 10, 50, 64, 3, 100, 1] {
            guest.record(count);
            follower.poll(&mut out).unwrap();
        }
        let trace = ended(follower, out);
        assert_eq!((trace.len(), trace.lost()), (192, 36));
        assert!(trace.lanes[0].events.is_sorted_by_key(|entry| entry.time));
        assert!(trace.lanes[0].ended && trace.damaged == 0);
    }

    #[test]
    fn a_place_that_was_taken_is_waited_for_and_at_the_end_passed_over() {
        let (mut guest, mut follower, mut out) = followed();
        guest.record(10);
        for place in [5, 8] {
            let stamp = RINGS + place * BYTES as u64 + STAMP as u64 * 8;
            guest.file.as_file().write_all_at(&[0; 8], stamp).unwrap();
        }
        follower.poll(&mut out).unwrap();
        assert_eq!(follower.next, [5]);
        let trace = ended(follower, out);
        assert_eq!((trace.len(), trace.lost()), (8, 2));
        assert!(trace.lanes[0].gaps.iter().map(|gap| gap.before).eq([5, 7]));
    }
}
