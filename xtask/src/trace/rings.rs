//! Reading the rings from outside: out of guest RAM behind a file, by QMP, or out of a core dump.

use super::{Gap, Lane, Trace};
use wire::trace::entry::{BYTES, HEAD_STRIDE, WORDS};
use wire::trace::{Entry, Rings};

/// Reads guest memory: the address, and the buffer to fill.
pub type ReadMemory<'r> = &'r mut dyn FnMut(u64, &mut [u8]) -> std::io::Result<()>;

/// The table at `address`.
///
/// # Errors
/// If memory cannot be read, or there is no table.
pub fn table(read: ReadMemory<'_>, address: u64) -> std::io::Result<Rings> {
    let mut bytes = [0; Rings::WORDS * 8];
    read(address, &mut bytes)?;
    let words = words::<{ Rings::WORDS }>(&bytes);
    Rings::from_words(words)
        .ok_or_else(|| std::io::Error::other("there are no trace rings in the guest (yet, or trace=off)"))
}

fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    std::array::from_fn(|at| u64::from_le_bytes(bytes[at * 8..at * 8 + 8].try_into().expect("8 bytes")))
}

/// All that the rings hold, by virtual addresses.
///
/// # Errors
/// If memory cannot be read.
pub fn all(read: ReadMemory<'_>, table: &Rings) -> std::io::Result<Trace> {
    let mut trace = Trace { tsc_hz: table.tsc_hz, ..Trace::default() };
    for cpu in 0..table.cpus {
        let mut head = [0; 8];
        read(table.heads + cpu * HEAD_STRIDE, &mut head)?;
        let mut ring = vec![0; table.entries as usize * BYTES];
        read(table.rings + cpu * table.entries * BYTES as u64, &mut ring)?;
        let mut lane = lane(cpu as u16, u64::from_le_bytes(head), &ring);
        lane.sort();
        trace.lanes.push(lane);
    }
    Ok(trace)
}

/// A CPU's lane from its ring: the entries up to `head` that are still there.
fn lane(cpu: u16, head: u64, ring: &[u8]) -> Lane {
    let entries = (ring.len() / BYTES) as u64;
    let mut lane = Lane { cpu, ended: true, ..Lane::default() };
    let first = head.saturating_sub(entries);
    let mut lost = first;
    for index in first..head {
        let at = (index % entries) as usize * BYTES;
        match Entry::from_words(words::<WORDS>(&ring[at..at + BYTES]), index) {
            Some(entry) => {
                if lost > 0 {
                    lane.gaps.push(Gap { before: lane.events.len(), lost });
                    lost = 0;
                }
                lane.events.push(entry);
            }
            None => lost += 1,
        }
    }
    if lost > 0 {
        lane.gaps.push(Gap { before: lane.events.len(), lost });
    }
    lane
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::trace::Event;

    #[test]
    fn a_ring_that_went_round_gives_its_latest_entries_and_says_what_is_gone() {
        let mut ring = vec![0u8; 64 * BYTES];
        for index in 0..100u64 {
            if index == 90 {
                continue; // taken, and never filled
            }
            let entry = Entry { time: index, thread: 1, event: Event::Tick { quiet: 0 } };
            for (at, word) in entry.words(index).into_iter().enumerate() {
                let place = (index % 64) as usize * BYTES + at * 8;
                ring[place..place + 8].copy_from_slice(&word.to_le_bytes());
            }
        }
        let lane = lane(3, 100, &ring);
        assert_eq!(lane.events.len(), 63);
        assert_eq!(lane.gaps, [Gap { before: 0, lost: 36 }, Gap { before: 54, lost: 1 }]);
        assert_eq!(lane.events[0].time, 36);
    }
}
