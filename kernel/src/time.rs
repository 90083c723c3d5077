//! Time: the time-stamp counter, measured once against the programmable interval timer.
//!
//! CPUID tells the counter's frequency on some machines and not on others (QEMU's TCG among them), and never the local
//! APIC timer's; one measurement serves both. The 8254's channel 2 runs at 1,193,182 Hz on every PC.

use crate::cpu::apic;
use crate::sync::irq::IrqsOff;
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use x86_64::instructions::port::Port;

const PIT_HZ: u64 = 1_193_182;
/// Measurements a second: each takes 2 ms, most of which a host that is busy leaves alone; the steps that it begins and
/// ends with, four accesses to ports, make it longer by what they take.
const RATE: u64 = 500;
const PIT_COUNT: u64 = PIT_HZ / RATE;
/// How many there are.
const MEASUREMENTS: u32 = 5;

static TSC_HZ: AtomicU64 = AtomicU64::new(0);
static TIMER_HZ: AtomicU64 = AtomicU64::new(0);
/// See [`set_patience`].
static PATIENCE_SECONDS: AtomicU64 = AtomicU64::new(20);

/// The time-stamp counter. Earlier instructions are done before it is read (Intel SDM volume 2, RDTSC).
#[must_use]
#[inline]
pub fn now() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: every 64-bit CPU has both; they change nothing.
    unsafe { asm!("lfence", "rdtsc", out("eax") low, out("edx") high, options(nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// The time-stamp counter, read whenever the CPU likes: for traces, where waiting for earlier instructions would cost
/// more than it tells.
#[inline(always)]
pub(crate) fn stamp() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: as above.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nostack, nomem, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Cycles a second of the time-stamp counter.
#[must_use]
pub fn tsc_hz() -> u64 {
    TSC_HZ.load(Ordering::Relaxed)
}

/// A duration in cycles; of one that is too long for the counter, as many as it has.
#[must_use]
pub fn cycles(duration: Duration) -> u64 {
    cycles_at(tsc_hz(), duration)
}

fn cycles_at(hz: u64, duration: Duration) -> u64 {
    let cycles = duration.as_nanos().saturating_mul(hz.into()) / 1_000_000_000;
    u64::try_from(cycles).unwrap_or(u64::MAX)
}

/// Cycles in nanoseconds.
#[must_use]
pub fn nanoseconds(cycles: u64) -> u64 {
    (u128::from(cycles) * 1_000_000_000 / u128::from(tsc_hz().max(1))) as u64
}

/// Sets how many seconds a CPU may take to answer, or a lock to come free, before that is called a failure. The default
/// is far above what a host's scheduler does to a virtual CPU: 64 of them on 2 cores were seen to stand still for some
/// 100 ms.
pub(crate) fn set_patience(seconds: u32) {
    PATIENCE_SECONDS.store(seconds.into(), Ordering::Relaxed);
}

/// The patience, in seconds.
pub(crate) fn patience_seconds() -> u64 {
    PATIENCE_SECONDS.load(Ordering::Relaxed)
}

/// The patience, in cycles; for ever, while the frequency is not known.
pub(crate) fn patience() -> u64 {
    match tsc_hz() {
        0 => u64::MAX,
        hz => hz * patience_seconds(),
    }
}

/// What to count down from for so many timer interrupts a second.
pub(crate) fn timer_count(interrupts_hz: u32) -> u32 {
    let count = TIMER_HZ.load(Ordering::Relaxed) / u64::from(interrupts_hz.max(1));
    count.clamp(1, u32::MAX.into()) as u32
}

/// The local APIC timer's periods in so many cycles of the time-stamp counter, at least 1.
pub(crate) fn timer_periods(cycles: u64) -> u32 {
    let periods = u128::from(cycles) * u128::from(TIMER_HZ.load(Ordering::Relaxed)) / u128::from(tsc_hz().max(1));
    periods.clamp(1, u32::MAX.into()) as u32
}

/// Measures the time-stamp counter and the local APIC timer. Once, on the first CPU.
///
/// A busy host may take the virtual CPU away while it waits, which makes a measurement too long and never too short: of several the
/// shortest counts.
pub(crate) fn calibrate(irqs: &IrqsOff) {
    let once = |_| {
        apic::start_timer_for_measuring(irqs);
        let mut pit = Pit::set();
        let (from, timer_from) = (now(), apic::timer_count(irqs));
        pit.run();
        let (to, timer_to) = (now(), apic::timer_count(irqs));
        (to - from, u64::from(timer_from - timer_to))
    };
    let (cycles, periods) = (0..MEASUREMENTS).map(once).min().expect("there are some");
    TSC_HZ.store(cycles * PIT_HZ / PIT_COUNT, Ordering::Relaxed);
    TIMER_HZ.store(periods * PIT_HZ / PIT_COUNT, Ordering::Relaxed);
}

/// Channel 2, set to count [`PIT_COUNT`] down. In mode 0 its output, bit 5 of port 0x61, rises at the end.
struct Pit {
    channel: Port<u8>,
    gate: Port<u8>,
    stopped: u8,
}

impl Pit {
    /// Sets it, up to the last step.
    fn set() -> Self {
        let (mut control, mut channel, mut gate) =
            (Port::<u8>::new(0x43), Port::<u8>::new(0x42), Port::<u8>::new(0x61));
        // SAFETY: channel 2 drives the speaker and nothing else; the speaker stays off (bit 1).
        unsafe {
            let stopped = gate.read() & !0b11;
            gate.write(stopped);
            control.write(0b1011_0000u8); // channel 2, low byte then high byte, mode 0
            channel.write(PIT_COUNT as u8);
            Self { channel, gate, stopped }
        }
    }

    /// Has it count, and waits.
    fn run(&mut self) {
        // SAFETY: as above.
        unsafe {
            // QEMU's counts from here on, whatever the gate says.
            self.channel.write((PIT_COUNT >> 8) as u8);
            self.gate.write(self.stopped | 1);
            while self.gate.read() & 1 << 5 == 0 {
                core::hint::spin_loop();
            }
        }
    }
}

impl Drop for Pit {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { self.gate.write(self.stopped) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_beyond_the_counter_is_as_long_as_it_goes() {
        const HZ: u64 = 2_600_000_000;
        assert_eq!(cycles_at(HZ, Duration::from_micros(1)), 2600);
        assert_eq!(cycles_at(HZ, Duration::from_secs(1 << 32)), HZ << 32);
        for too_long in [Duration::from_secs(10_000_000_000), Duration::MAX] {
            assert_eq!(cycles_at(HZ, too_long), u64::MAX);
        }
    }
}
