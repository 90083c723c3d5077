//! Events on the wire: a few bytes each.
//!
//! ```text
//!   event = head, [thread], delta, [a], [b]
//!   head    bits 0..6  kind
//!           bit 6      the thread is another one than the event before said, and follows
//!   delta   cycles since the event before, signed (an NMI's event may come between another's number and its time)
//! ```
//! Numbers are LEB128, signed ones in zigzag order. An event that says that another thread goes on (`switch`) changes
//! the thread for the next without saying so again. Each piece stands for itself: it starts at a time that the record
//! carries, and no thread.

use super::entry::Entry;
use super::event::{Event, Field, Info};

/// The most bytes an event can take.
pub const LONGEST: usize = 1 + 5 + 10 + 10 + 10;

/// Packs events into a buffer.
#[derive(Debug)]
pub struct Packer<'b> {
    buffer: &'b mut [u8],
    used: usize,
    time: u64,
    thread: u32,
}

impl<'b> Packer<'b> {
    /// A piece that starts at `time`, in `buffer`.
    pub fn new(buffer: &'b mut [u8], time: u64) -> Self {
        Self { buffer, used: 0, time, thread: 0 }
    }

    /// Adds an event; false if there is no room for it.
    #[must_use]
    pub fn push(&mut self, entry: &Entry) -> bool {
        if self.buffer.len() - self.used < LONGEST {
            return false;
        }
        let (kind, a, b) = entry.event.raw();
        let info = entry.event.info();
        let other = entry.thread != self.thread;
        self.byte(kind | u8::from(other) << 6);
        if other {
            self.number(entry.thread.into());
        }
        self.number(zigzag(entry.time.wrapping_sub(self.time).cast_signed()));
        self.field(info.a.kind, a.into());
        self.field(info.b.kind, b);
        self.time = entry.time;
        self.thread = next_thread(entry);
        true
    }

    /// What was packed.
    #[must_use]
    pub fn packed(&self) -> &[u8] {
        &self.buffer[..self.used]
    }

    /// Empties the buffer; the piece goes on in it. For pieces that are longer than a buffer, once [`Self::packed`] is
    /// taken away.
    pub const fn go_on(&mut self) {
        self.used = 0;
    }

    fn byte(&mut self, byte: u8) {
        self.buffer[self.used] = byte;
        self.used += 1;
    }

    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    fn field(&mut self, kind: Field, value: u64) {
        match kind {
            Field::None => {}
            Field::Generation => self.number(zigzag((value as u32).cast_signed().into())),
            Field::Slot => self.number((value & 0xffff) << 4 | value >> 16),
            Field::Address => value.to_le_bytes().into_iter().for_each(|byte| self.byte(byte)),
            _ => self.number(value),
        }
    }
}

const fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// The thread that the event after this one is taken to be of.
const fn next_thread(entry: &Entry) -> u32 {
    match entry.event {
        Event::Switch { to } => to,
        _ => entry.thread,
    }
}

/// Takes a piece apart. Ends at the first byte that is none of an event's.
#[derive(Clone, Debug)]
pub struct Unpacker<'p> {
    packed: &'p [u8],
    time: u64,
    thread: u32,
}

impl<'p> Unpacker<'p> {
    /// The events of a piece that starts at `time`.
    #[must_use]
    pub const fn new(packed: &'p [u8], time: u64) -> Self {
        Self { packed, time, thread: 0 }
    }

    /// Bytes that are not taken apart yet; when there is no next event, those that are none.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.packed.len()
    }

    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.packed.split_first()?;
        self.packed = rest;
        Some(byte)
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn field(&mut self, kind: Field) -> Option<u64> {
        Some(match kind {
            Field::None => 0,
            Field::Generation => u64::from((unzigzag(self.number()?) as i32).cast_unsigned()),
            Field::Slot => {
                let packed = self.number()?;
                packed >> 4 & 0xffff | (packed & 0xf) << 16
            }
            Field::Address => {
                let (bytes, rest) = self.packed.split_first_chunk()?;
                self.packed = rest;
                u64::from_le_bytes(*bytes)
            }
            _ => self.number()?,
        })
    }

    fn event(&mut self) -> Option<Entry> {
        let head = self.byte()?;
        let info = Info::of(head & 0x3f).filter(|_| head < 0x80)?;
        if head & 1 << 6 != 0 {
            self.thread = self.number()? as u32;
        }
        self.time = self.time.wrapping_add_signed(unzigzag(self.number()?));
        let (a, b) = (self.field(info.a.kind)? as u32, self.field(info.b.kind)?);
        let entry = Entry { time: self.time, thread: self.thread, event: Event::from_raw(info.kind, a, b)? };
        self.thread = next_thread(&entry);
        Some(entry)
    }
}

impl Iterator for Unpacker<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let before = self.clone();
        let event = self.event();
        if event.is_none() {
            *self = before;
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::event::TABLE;
    use proptest::prelude::*;

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let one = (0..TABLE.len(), any::<u32>(), any::<u64>(), 0u32..5, -50i64..100_000, any::<bool>());
        prop::collection::vec(one, 0..200).prop_map(|all| {
            let mut time = 1u64 << 40;
            all.into_iter()
                .map(|(kind, a, b, thread, delta, small)| {
                    time = time.wrapping_add_signed(delta);
                    let info = &TABLE[kind];
                    // Slots have 4 bits of class and 16 of number.
                    let a = if info.a.kind == Field::Slot { a & 0xf_ffff } else { a };
                    let b = if info.b.kind == Field::Slot || small { b & 0xf_ffff } else { b };
                    Entry { time, thread, event: Event::from_raw(info.kind, a, b).unwrap() }
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn whatever_is_packed_comes_back(entries in entries(), room in LONGEST..2000usize) {
            let mut buffer = vec![0; room];
            let start = entries.first().map_or(0, |entry| entry.time);
            let mut packer = Packer::new(&mut buffer, start);
            let count = entries.iter().take_while(|entry| packer.push(entry)).count();
            let mut unpacker = Unpacker::new(packer.packed(), start);
            let back: Vec<Entry> = unpacker.by_ref().collect();
            prop_assert_eq!(&back, &entries[..count]);
            prop_assert_eq!(unpacker.left(), 0);
        }

        #[test]
        fn a_piece_goes_on_in_an_emptied_buffer(entries in entries()) {
            let (mut buffer, mut piece) = ([0; LONGEST + 9], Vec::new());
            let mut packer = Packer::new(&mut buffer, 77);
            for entry in &entries {
                if !packer.push(entry) {
                    piece.extend_from_slice(packer.packed());
                    packer.go_on();
                    prop_assert!(packer.push(entry));
                }
            }
            piece.extend_from_slice(packer.packed());
            prop_assert_eq!(Unpacker::new(&piece, 77).collect::<Vec<_>>(), entries);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let mut unpacker = Unpacker::new(&bytes, 0);
            let count = unpacker.by_ref().count();
            prop_assert!(count + unpacker.left() <= bytes.len());
        }
    }

    #[test]
    fn an_event_of_a_shootdown_takes_few_bytes() {
        let mut buffer = [0; 200];
        let mut packer = Packer::new(&mut buffer, 1000);
        for (delta, event) in [
            (1, Event::Request { generation: u32::MAX - 900, targets: 0xe }),
            (2, Event::Send { vector: 0xf0, targets: 0xe }),
            (3, Event::Done { generation: u32::MAX - 900 }),
        ] {
            assert!(packer.push(&Entry { time: 1000 + delta * 3000, thread: 300, event }));
        }
        assert!(packer.packed().len() <= 3 * 7, "{} bytes", packer.packed().len());
    }
}
