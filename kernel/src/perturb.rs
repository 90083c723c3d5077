//! Delays at named points, drawn from a seed, to widen the windows in which races happen: `perturb=N`.
//!
//! How long a CPU is held up depends on the seed, the CPU, the point, and how often this CPU came by this point, and on
//! nothing else: not on time, and not on what other CPUs do. The same seed makes the same choices.

use crate::cpu;
use crate::thread::PreemptOff;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crossbeam_utils::CachePadded;
use smp::MAX_CPUS;

/// Where a CPU may be held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// A dead stack is about to be left for reaping.
    BeforePublish,
    /// It was left.
    AfterPublish,
    /// A thread that ends is about to leave its stack.
    BeforeSwitch,
    /// A CPU has left a thread's stack, and has said so to nobody.
    Epilogue,
    /// A shootdown's targets are chosen and told, and not interrupted yet.
    BeforeIpi,
    /// The shootdown interrupt was taken.
    HandlerEntry,
    /// Translations are about to be dropped.
    BeforeFlush,
    /// They were dropped.
    AfterFlush,
    /// A target is about to acknowledge.
    BeforeAck,
    /// It has acknowledged.
    AfterAck,
    /// A request is done, and what it held is not free yet.
    BeforeFree,
    /// A CPU goes on after it had nothing to do.
    IdleExit,
    /// A CPU is about to load another address space's tables, or has just done so.
    SpaceSwitch,
    /// Whoever lends a stack has dropped it, and it is not taken down yet.
    Dropped,
}

const POINTS: usize = Point::Dropped as usize + 1;
/// The longest delay is 4 to this power of iterations: about a million, one or two milliseconds.
const MAGNITUDES: u32 = 10;

/// 0 is no perturbation.
static SEED: AtomicU64 = AtomicU64::new(0);
/// How often each CPU came by each point. Only that CPU counts.
static PASSED: [CachePadded<[AtomicU32; POINTS]>; MAX_CPUS] =
    [const { CachePadded::new([const { AtomicU32::new(0) }; POINTS]) }; MAX_CPUS];

/// Sets the seed of the command line.
pub(crate) fn init(seed: u64) {
    SEED.store(seed, Ordering::Relaxed);
}

/// The calling CPU is at this point, and may be held up there. It cannot be moved to another CPU.
#[inline]
pub(crate) fn at(point: Point) {
    let seed = SEED.load(Ordering::Relaxed);
    if seed != 0 {
        hold_up(seed, point);
    }
}

/// The same, in a thread that may be moved.
#[inline]
pub(crate) fn in_a_thread(point: Point) {
    if SEED.load(Ordering::Relaxed) != 0 {
        let _here = PreemptOff::new();
        at(point);
    }
}

#[cold]
fn hold_up(seed: u64, point: Point) {
    let cpu = cpu::current_id().index();
    let count = &PASSED[cpu][point as usize];
    let times = count.load(Ordering::Relaxed);
    // A plain count would do but for an interrupt in between, which may come by the same point.
    count.store(times.wrapping_add(1), Ordering::Relaxed);
    for _ in 0..iterations(seed, cpu, point, times) {
        core::hint::black_box(());
    }
}

/// How long: half of the times not at all, a quarter up to 4 iterations, an eighth up to 16, and so on to the power of
/// [`MAGNITUDES`]. Each magnitude thus comes half as often and lasts four times as long.
fn iterations(seed: u64, cpu: usize, point: Point, times: u32) -> u64 {
    let place = (cpu as u64) << 40 | (point as u64) << 32 | u64::from(times);
    let drawn = mix(mix(seed) ^ place);
    let magnitude = drawn.trailing_ones().min(MAGNITUDES);
    drawn >> 32 & ((1 << (2 * magnitude)) - 1)
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
const fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices(seed: u64, cpu: usize, point: Point) -> Vec<u64> {
        (0..10_000).map(|times| iterations(seed, cpu, point, times)).collect()
    }

    #[test]
    fn the_same_seed_makes_the_same_choices_and_another_makes_others() {
        assert_eq!(choices(7, 1, Point::BeforeIpi), choices(7, 1, Point::BeforeIpi));
        for other in [choices(8, 1, Point::BeforeIpi), choices(7, 2, Point::BeforeIpi), choices(7, 1, Point::AfterAck)]
        {
            assert_ne!(choices(7, 1, Point::BeforeIpi), other);
        }
    }

    #[test]
    fn most_delays_are_none_and_a_few_are_long() {
        let drawn = choices(1, 0, Point::BeforeFlush);
        let none = drawn.iter().filter(|n| **n == 0).count();
        let long = drawn.iter().filter(|n| **n > 100_000).count();
        assert!((5_000..8_000).contains(&none), "{none} of 10,000 are none");
        assert!((5..100).contains(&long), "{long} of 10,000 are long");
        assert!(drawn.iter().all(|n| *n < 1 << (2 * MAGNITUDES)));
    }
}
