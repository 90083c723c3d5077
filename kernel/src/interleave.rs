//! The seed as the schedule: with `interleave=`, CPU 0's timer ticks at intervals drawn from the seed.
//!
//! Under QEMU's `-icount` all virtual CPUs run in turn on one thread, each until the next timer is due or it halts or
//! pauses. So each tick of CPU 0 makes another CPU go on, wherever the one before was; the intervals decide the
//! interleaving, the seed decides the intervals, and the same seed gives the same run, to the last instruction.

use crate::cpu::apic;
use crate::sync::irq::IrqsOff;
use crate::time;
use core::sync::atomic::{AtomicU64, Ordering};

/// The longest interval, in cycles; 0 for the regular tick.
static LONGEST: AtomicU64 = AtomicU64::new(0);
/// State of the generator, SplitMix64 (Steele, Lea and Flood, 2014). Only CPU 0 draws.
static STATE: AtomicU64 = AtomicU64::new(0);

/// Sets what the command line says. Before the timer is started.
pub(crate) fn init(longest: u32, seed: u64) {
    LONGEST.store(longest.into(), Ordering::Relaxed);
    STATE.store(seed ^ 0x7469_636b, Ordering::Relaxed);
}

/// At CPU 0's tick: draws when the next one comes.
pub(crate) fn draw(irqs: &IrqsOff) {
    let longest = LONGEST.load(Ordering::Relaxed);
    if longest > 0 {
        let interval = 1 + ((u128::from(next()) * u128::from(longest)) >> 64) as u64;
        apic::restart_timer(irqs, time::timer_periods(interval));
    }
}

fn next() -> u64 {
    let state = STATE.load(Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.store(state, Ordering::Relaxed);
    let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
