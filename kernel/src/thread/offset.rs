//! Where a thread begins on its stack: at the top, or with `stack-offset=` some way below it, another for each thread, so that the
//! same local of two threads does not lie at the same distance from their stacks' ends.
//!
//! The distance is a multiple of 16, as the calling convention has it, at most [`MOST`] bytes, and follows from the seed and the
//! thread's number.

use super::Thread;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The most bytes that a thread may begin below the top; a stack has a page at least.
pub const MOST: u32 = 256;

static LIMIT: AtomicU32 = AtomicU32::new(0);
static SEED: AtomicU64 = AtomicU64::new(0);

/// Sets what the command line says.
pub(crate) fn init(limit: u32, seed: u64) {
    LIMIT.store(limit.min(MOST), Ordering::Relaxed);
    SEED.store(seed, Ordering::Relaxed);
}

/// How far below the top of its stack the thread begins.
#[inline(always)]
pub(super) fn of(thread: &Thread) -> u64 {
    if LIMIT.load(Ordering::Relaxed) == 0 { 0 } else { drawn(thread.number()) }
}

#[cold]
fn drawn(number: u32) -> u64 {
    within(LIMIT.load(Ordering::Relaxed), SEED.load(Ordering::Relaxed), number)
}

/// The number's share of all multiples of 16 up to `limit`: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
const fn within(limit: u32, seed: u64, number: u32) -> u64 {
    let mut z = (seed ^ (number as u64) << 32).wrapping_add((number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ z >> 31) % (limit as u64 / 16 + 1) * 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn offsets_are_aligned_bounded_and_of_all_sizes() {
        for limit in [16, 100, 256] {
            let all: BTreeSet<_> = (0..4000).map(|number| within(limit, 7, number)).collect();
            let expected: BTreeSet<_> = (0..=u64::from(limit)).step_by(16).collect();
            assert_eq!(all, expected);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_offsets_and_another_seed_others() {
        let of = |seed| (0..64).map(|number| within(MOST, seed, number)).collect::<Vec<_>>();
        assert_eq!(of(3), of(3));
        assert_ne!(of(3), of(4));
    }
}
