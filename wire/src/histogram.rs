//! A log-linear histogram of cycle counts, of fixed size: no allocation, no floating point, a few instructions a sample.
//!
//! The shape is HdrHistogram's (Gil Tene): below 2^[`BITS`] each value has its own bucket; above, every power of two is
//! split into 2^([`BITS`]-1) equal buckets, so a value is known to better than 1 part in 2^([`BITS`]-1) = 0.8 %.
//! The smallest and the largest sample are kept exactly.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// log2 of the number of values that are told apart exactly.
pub const BITS: u32 = 8;
/// Samples of this size and above (2^40 cycles, minutes) share the last bucket.
pub const CEILING: u64 = 1 << 40;

const HALF: usize = 1 << (BITS - 1);
/// The number of buckets.
pub const BUCKETS: usize = (40 - BITS as usize + 2) * HALF;

/// A histogram to which one CPU adds samples, and others look.
#[derive(Debug)]
pub struct Recorder {
    counts: [AtomicU32; BUCKETS],
    smallest: AtomicU64,
    largest: AtomicU64,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// No samples.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            counts: [const { AtomicU32::new(0) }; BUCKETS],
            smallest: AtomicU64::new(u64::MAX),
            largest: AtomicU64::new(0),
        }
    }

    /// Adds one sample; on the one CPU that adds any, where nothing comes between.
    #[inline]
    pub fn record(&self, value: u64) {
        let count = &self.counts[bucket_of(value)];
        count.store(count.load(Relaxed).saturating_add(1), Relaxed);
        if value < self.smallest.load(Relaxed) {
            self.smallest.store(value, Relaxed);
        }
        if value > self.largest.load(Relaxed) {
            self.largest.store(value, Relaxed);
        }
    }

    /// Adds what was recorded up to now to `histogram`.
    pub fn add_to(&self, histogram: &mut Histogram) {
        let counts = self.counts.iter().map(|count| count.load(Relaxed)).enumerate().filter(|(_, count)| *count > 0);
        counts.for_each(|(bucket, count)| histogram.add_bucket(bucket as u16, count));
        histogram.widen(self.smallest.load(Relaxed), self.largest.load(Relaxed));
    }
}

/// Counts of samples by size; see the module's text for its resolution.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: [u32; BUCKETS],
    samples: u64,
    smallest: u64,
    largest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// An empty histogram.
    #[must_use]
    pub const fn new() -> Self {
        Self { counts: [0; BUCKETS], samples: 0, smallest: u64::MAX, largest: 0 }
    }

    /// Adds one sample.
    pub fn record(&mut self, value: u64) {
        let count = &mut self.counts[bucket_of(value)];
        *count = count.saturating_add(1);
        self.samples += 1;
        self.smallest = self.smallest.min(value);
        self.largest = self.largest.max(value);
    }

    /// Adds all samples of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in other.filled() {
            self.add_bucket(bucket, count);
        }
        self.widen(other.smallest, other.largest);
    }

    /// Adds `count` samples to the bucket with this index, as [`filled`](Self::filled) gave it. An index out of range
    /// (a damaged record) counts in the last bucket.
    pub fn add_bucket(&mut self, bucket: u16, count: u32) {
        let count_there = &mut self.counts[usize::from(bucket).min(BUCKETS - 1)];
        *count_there = count_there.saturating_add(count);
        self.samples += u64::from(count);
    }

    /// Takes over the exact extremes that came beside the buckets.
    pub fn widen(&mut self, smallest: u64, largest: u64) {
        self.smallest = self.smallest.min(smallest);
        self.largest = self.largest.max(largest);
    }

    /// The buckets that hold samples, in rising order: index and count.
    pub fn filled(&self) -> impl Iterator<Item = (u16, u32)> + '_ {
        self.counts.iter().enumerate().filter(|(_, c)| **c > 0).map(|(i, c)| (i as u16, *c))
    }

    /// Writes filled buckets from index `from` on into `out`, as many as fit: pairs of LEB128 numbers, buckets skipped
    /// and count. Gives the bytes used and the index to go on from, or `None` if nothing is left to write.
    pub fn pack(&self, from: u16, out: &mut [u8]) -> Option<(usize, u16)> {
        let (mut used, mut next) = (0, from);
        for (bucket, count) in self.filled().skip_while(|(b, _)| *b < from) {
            let mut pair = [0; 10];
            let skip = leb128(u32::from(bucket - next), &mut pair);
            let length = skip + leb128(count, &mut pair[skip..]);
            if used + length > out.len() {
                break;
            }
            out[used..used + length].copy_from_slice(&pair[..length]);
            (used, next) = (used + length, bucket + 1);
        }
        (used > 0).then_some((used, next))
    }

    /// Adds the buckets that [`pack`](Self::pack) wrote, given the `from` that it got. Damaged bytes add nothing.
    pub fn unpack(&mut self, from: u16, mut packed: &[u8]) {
        let mut next = u32::from(from);
        while let (Some(skip), Some(count)) = (unleb128(&mut packed), unleb128(&mut packed)) {
            let bucket = next.saturating_add(skip);
            self.add_bucket(bucket.min(BUCKETS as u32 - 1) as u16, count);
            next = bucket.saturating_add(1);
        }
    }

    /// How many samples there are.
    #[must_use]
    pub const fn samples(&self) -> u64 {
        self.samples
    }

    /// The smallest sample, exactly; 0 if there is none.
    #[must_use]
    pub const fn smallest(&self) -> u64 {
        if self.samples == 0 { 0 } else { self.smallest }
    }

    /// The largest sample, exactly; 0 if there is none.
    #[must_use]
    pub const fn largest(&self) -> u64 {
        self.largest
    }

    /// The value that `per_100_000` of 100,000 samples do not exceed (50,000 is the median), to the bucket's middle
    /// and never outside what was seen; 0 if there is no sample.
    #[must_use]
    pub fn percentile(&self, per_100_000: u32) -> u64 {
        let rank = (u128::from(self.samples) * u128::from(per_100_000)).div_ceil(100_000).max(1) as u64;
        let mut seen = 0;
        for (bucket, count) in self.filled() {
            seen += u64::from(count);
            if seen >= rank {
                return middle_of(usize::from(bucket)).clamp(self.smallest, self.largest.max(self.smallest));
            }
        }
        0
    }
}

fn leb128(mut value: u32, out: &mut [u8]) -> usize {
    let mut length = 0;
    loop {
        let more = value >= 0x80;
        out[length] = (value & 0x7f) as u8 | u8::from(more) << 7;
        length += 1;
        value >>= 7;
        if !more {
            return length;
        }
    }
}

fn unleb128(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0u32;
    for shift in (0..32).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn bucket_of(value: u64) -> usize {
    let value = value.min(CEILING - 1);
    // 0 for what is told apart exactly, else as many bits as there are above that.
    let shift = (value | (HALF as u64)).ilog2().wrapping_sub(BITS - 1);
    (shift as usize).wrapping_mul(HALF).wrapping_add((value >> shift) as usize)
}

fn middle_of(bucket: usize) -> u64 {
    let shift = (bucket / HALF).saturating_sub(1);
    let base = (bucket - shift * HALF) as u64;
    (base << shift) + ((1u64 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_recorder_says_what_a_histogram_does() {
        let (recorder, mut plain) = (Recorder::new(), Histogram::new());
        for value in [0, 1, 255, 256, 257, 1000, 123_456_789, u64::MAX] {
            recorder.record(value);
            plain.record(value);
        }
        let mut read = Histogram::new();
        recorder.add_to(&mut read);
        assert_eq!(
            (read.samples(), read.smallest(), read.largest()),
            (plain.samples(), plain.smallest(), plain.largest())
        );
        assert!(read.filled().eq(plain.filled()));
    }

    proptest! {
        #[test]
        fn a_bucket_knows_its_value_to_one_percent(value in 0u64..CEILING) {
            let middle = middle_of(bucket_of(value));
            prop_assert!(middle.abs_diff(value) * 100 <= value, "{value} became {middle}");
        }

        #[test]
        fn percentiles_agree_with_sorting(mut values in prop::collection::vec(0u64..10_000_000, 1..400), p in 1u32..=100_000) {
            let mut histogram = Histogram::new();
            values.iter().for_each(|v| histogram.record(*v));
            values.sort_unstable();
            let rank = (values.len() as u64 * u64::from(p)).div_ceil(100_000).max(1) as usize;
            let exact = values[rank - 1];
            let told = histogram.percentile(p);
            prop_assert!(told.abs_diff(exact) * 100 <= exact, "p{p}: {told} for {exact}");
        }

        #[test]
        fn packing_in_small_pieces_loses_nothing(values in prop::collection::vec(0u64..CEILING, 0..300), room in 8usize..60) {
            let mut histogram = Histogram::new();
            values.iter().for_each(|v| histogram.record(*v));
            let (mut copy, mut from, mut bytes) = (Histogram::new(), 0, vec![0; room]);
            while let Some((used, next)) = histogram.pack(from, &mut bytes) {
                copy.unpack(from, &bytes[..used]);
                from = next;
            }
            prop_assert_eq!(copy.filled().collect::<Vec<_>>(), histogram.filled().collect::<Vec<_>>());
        }

        #[test]
        fn unpacking_survives_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..100), from in any::<u16>()) {
            Histogram::new().unpack(from, &bytes);
        }

        #[test]
        fn pieces_add_up_to_the_whole(a in prop::collection::vec(any::<u64>(), 0..200), b in prop::collection::vec(any::<u64>(), 0..200)) {
            let (mut one, mut two, mut both) = (Histogram::new(), Histogram::new(), Histogram::new());
            a.iter().for_each(|v| { one.record(*v); both.record(*v) });
            b.iter().for_each(|v| { two.record(*v); both.record(*v) });
            one.merge(&two);
            prop_assert_eq!(one.samples(), both.samples());
            prop_assert_eq!(one.filled().collect::<Vec<_>>(), both.filled().collect::<Vec<_>>());
            prop_assert_eq!((one.smallest(), one.largest()), (both.smallest(), both.largest()));
        }
    }

    #[test]
    fn the_largest_value_has_a_bucket() {
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn an_empty_histogram_is_all_zero() {
        let empty = Histogram::new();
        assert_eq!((empty.percentile(50_000), empty.smallest(), empty.largest()), (0, 0, 0));
    }
}
