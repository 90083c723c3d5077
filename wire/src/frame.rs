//! Frames: one record each, COBS-stuffed with a CRC-32 behind the payload and a zero byte at the end.
//!
//! COBS (Cheshire and Baker, 1999) takes every zero out of the payload, so a reader that lost its place finds the next
//! frame at the next zero byte; the checksum tells a torn frame from a whole one. The checksum is CRC-32/ISO-HDLC.

use crate::record::Record;
use crc::{CRC_32_ISO_HDLC, Crc};

static CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// The most bytes a frame takes, its final zero byte included. Also the size of buffer that [`encode`] needs.
pub const MAX: usize = 1024;

/// A record was too large for the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

impl core::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the record does not fit a frame")
    }
}

/// Writes `record` into `buffer` as one frame and gives back the frame's bytes.
///
/// # Errors
/// [`TooLarge`] if the frame does not fit `buffer`.
pub fn encode<'b>(record: &Record<'_>, buffer: &'b mut [u8]) -> Result<&'b [u8], TooLarge> {
    use postcard::ser_flavors::{Cobs, Slice, crc};
    let flavor = Cobs::try_new(Slice::new(buffer)).map_err(|_| TooLarge)?;
    let framed = postcard::serialize_with_flavor(record, crc::CrcModifier::new(flavor, CRC.digest()));
    framed.map(|bytes| &*bytes).map_err(|_| TooLarge)
}

#[cfg(any(test, feature = "host"))]
pub use host::{Damage, Decoder};

#[cfg(any(test, feature = "host"))]
mod host {
    use super::CRC;
    use crate::record::Record;

    /// Why a frame could not be read.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Damage {
        /// How many bytes were passed over.
        pub bytes: usize,
    }

    /// Takes bytes as they come, in pieces of any size, and gives each record on.
    #[derive(Debug, Default)]
    pub struct Decoder {
        pending: Vec<u8>,
    }

    impl Decoder {
        /// An empty decoder.
        #[must_use]
        pub fn new() -> Self {
            Self::default()
        }

        /// Takes the next `bytes` of the stream; `each` gets every whole record, and every damaged frame, in order.
        pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(Result<Record<'_>, Damage>)) {
            for piece in bytes.split_inclusive(|&b| b == 0) {
                self.pending.extend_from_slice(piece);
                if piece.last() == Some(&0) {
                    let mut frame = std::mem::take(&mut self.pending);
                    if frame.len() > 1 {
                        each(read(&mut frame));
                    }
                }
            }
        }

        /// Bytes of a frame that has begun and not ended: what a torn stream loses at its end.
        #[must_use]
        pub fn torn(&self) -> usize {
            self.pending.len()
        }
    }

    fn read(frame: &mut [u8]) -> Result<Record<'_>, Damage> {
        let damage = Damage { bytes: frame.len() };
        let length = cobs_in_place(frame).ok_or(damage)?;
        // Bytes left over belong to another frame, whose zero byte was lost: its record is gone, and that is damage.
        match postcard::take_from_bytes_crc32(&frame[..length], CRC.digest()) {
            Ok((record, [])) => Ok(record),
            _ => Err(damage),
        }
    }

    /// Takes the stuffing out of `frame` (zero byte at its end); the payload's length, or `None` if it is not COBS.
    fn cobs_in_place(frame: &mut [u8]) -> Option<usize> {
        let (mut read, mut write) = (0, 0);
        while frame[read] != 0 {
            let code = usize::from(frame[read]);
            let end = read + code;
            if end >= frame.len() {
                return None;
            }
            frame.copy_within(read + 1..end, write);
            write += code - 1;
            read = end;
            if code != 0xff && frame[read] != 0 {
                frame[write] = 0;
                write += 1;
            }
        }
        (read + 1 == frame.len()).then_some(write)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn collect(bytes: &[u8], step: usize) -> (Vec<String>, usize) {
        let (mut decoder, mut seen, mut damaged) = (Decoder::new(), Vec::new(), 0);
        for piece in bytes.chunks(step.max(1)) {
            decoder.push(piece, |r| match r {
                Ok(record) => seen.push(format!("{record:?}")),
                Err(_) => damaged += 1,
            });
        }
        (seen, damaged)
    }

    proptest! {
        #[test]
        fn whatever_is_encoded_comes_back(names in prop::collection::vec(("[a-z\\x00]{0,300}", any::<u64>()), 1..20), step in 1usize..700) {
            let records: Vec<_> = names.iter().map(|(name, value)| Record::Count { name, value: *value }).collect();
            let mut stream = Vec::new();
            for record in &records {
                stream.extend_from_slice(encode(record, &mut [0; MAX]).unwrap());
            }
            let (seen, damaged) = collect(&stream, step);
            prop_assert_eq!(damaged, 0);
            prop_assert_eq!(seen, records.iter().map(|r| format!("{r:?}")).collect::<Vec<_>>());
        }

        #[test]
        fn a_damaged_byte_costs_at_most_two_records_and_is_noticed(value in any::<u64>(), at in any::<prop::sample::Index>(), flip in 1u8..) {
            let mut stream = Vec::new();
            for i in 0..9u64 {
                stream.extend_from_slice(encode(&Record::Count { name: "n", value: value ^ i }, &mut [0; MAX]).unwrap());
            }
            let at = at.index(stream.len());
            stream[at] ^= flip;
            let (seen, damaged) = collect(&stream, 4096);
            prop_assert!(seen.len() >= 7, "{} of 9 came through", seen.len());
            prop_assert!(seen.len() == 9 || damaged > 0 || at + 1 == stream.len());
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
            collect(&bytes, 1000);
        }
    }

    #[test]
    fn a_frame_that_swallowed_the_next_is_damage_and_not_one_good_record() {
        let (mut stream, record) = (Vec::new(), |value| Record::Count { name: "n", value });
        for value in 0..2 {
            stream.extend_from_slice(encode(&record((1 << 56) + value), &mut [0; MAX]).unwrap());
        }
        let zero = stream.iter().position(|&b| b == 0).unwrap();
        for lost in 1..=u8::MAX {
            stream[zero] = lost;
            assert_eq!(collect(&stream, 4096), (Vec::new(), 1), "zero byte turned into {lost}");
        }
    }

    #[test]
    fn a_record_too_large_is_an_error() {
        let name = "x".repeat(2 * MAX);
        assert_eq!(encode(&Record::Count { name: &name, value: 1 }, &mut [0; MAX]), Err(TooLarge));
    }
}
