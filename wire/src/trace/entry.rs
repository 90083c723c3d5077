//! An event in a ring, and the rings as they lie in guest memory. Four words an event, so that writing one is four
//! stores, and a reader outside (the host, through guest RAM behind a file, QMP or a core dump) needs no code of ours.

use super::Event;

/// Words of an entry.
pub const WORDS: usize = 4;
/// Which of them has the stamp: stored last, it says that the others are there.
pub const STAMP: usize = 1;
/// Bytes of an entry.
pub const BYTES: usize = WORDS * 8;

/// An event with when and where it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Cycles of the time-stamp counter.
    pub time: u64,
    /// The thread that ran, by its number; 0 while the CPU booted.
    pub thread: u32,
    /// What happened.
    pub event: Event,
}

impl Entry {
    /// The words of the entry with the number `index`:
    ///
    /// | word | bits | what |
    /// |---|---|---|
    /// | 0 | 64 | time |
    /// | 1 | low 32 | [`stamp`] of `index`: written last, so whoever finds it finds the rest |
    /// | 1 | 32 to 39 | kind of event |
    /// | 2 | low 32, high 32 | thread, the event's word `a` |
    /// | 3 | 64 | the event's word `b` |
    #[must_use]
    #[inline]
    pub const fn words(&self, index: u64) -> [u64; WORDS] {
        let (kind, a, b) = self.event.raw();
        [self.time, stamp(index) as u64 | (kind as u64) << 32, self.thread as u64 | (a as u64) << 32, b]
    }

    /// The entry with the number `index`, if these words are it: not if it is still being written, or was overwritten
    /// by a later one, or is of a kind that is not known.
    #[must_use]
    pub fn from_words(words: [u64; WORDS], index: u64) -> Option<Self> {
        let [time, head, who, b] = words;
        if head as u32 != stamp(index) {
            return None;
        }
        let event = Event::from_raw((head >> 32) as u8, (who >> 32) as u32, b)?;
        Some(Self { time, thread: who as u32, event })
    }
}

/// What marks a place of a ring as holding the entry with the number `index`: never 0, which fresh memory holds.
#[must_use]
#[inline]
pub const fn stamp(index: u64) -> u32 {
    (index as u32) | 1 << 31
}

/// The table by which a reader outside finds the rings: at the symbol `PALISADE_TRACE`, and where the record of the same
/// content says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Rings {
    /// [`Rings::MAGIC`], once the rings are there.
    pub magic: u64,
    /// [`crate::VERSION`].
    pub version: u64,
    /// Cycles a second of the time-stamp counter.
    pub tsc_hz: u64,
    /// How many rings: one a CPU.
    pub cpus: u64,
    /// Entries of each ring, a power of two.
    pub entries: u64,
    /// Virtual address of the heads: for each ring a `u64` on a cache line of its own, [`HEAD_STRIDE`] bytes apart. The
    /// head is the number of entries that were ever begun.
    pub heads: u64,
    /// Virtual address of the first ring; the others follow.
    pub rings: u64,
    /// Physical address of the heads; the rings follow at `rings_physical`.
    pub heads_physical: u64,
    /// Physical address of the first ring.
    pub rings_physical: u64,
}

/// Bytes between two heads.
pub const HEAD_STRIDE: u64 = 128;

impl Rings {
    /// "PALITRC1" in ASCII.
    pub const MAGIC: u64 = u64::from_le_bytes(*b"PALITRC1");
    /// Words of the table.
    pub const WORDS: usize = 9;

    /// The table from its words.
    #[must_use]
    pub const fn from_words(words: [u64; Self::WORDS]) -> Option<Self> {
        let [magic, version, tsc_hz, cpus, entries, heads, rings, heads_physical, rings_physical] = words;
        let sane = magic == Self::MAGIC && cpus <= 4096 && entries.is_power_of_two() && entries <= 1 << 30;
        if sane {
            Some(Self { magic, version, tsc_hz, cpus, entries, heads, rings, heads_physical, rings_physical })
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_by_its_own_number_only() {
        let entry = Entry { time: 7, thread: 3, event: Event::Ack { generation: u32::MAX, initiator: 2 } };
        for index in [0, 1, u64::from(u32::MAX)] {
            let words = entry.words(index);
            assert_eq!(Entry::from_words(words, index), Some(entry));
            assert_eq!(Entry::from_words(words, index + 4096), None);
        }
        assert_eq!(Entry::from_words([0; WORDS], 0), None);
    }
}
