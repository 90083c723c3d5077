//! Counts and latencies. Each CPU keeps its own; a reader adds them up.

use crate::cpu::cell::Own;
use crate::cpu::{self};
use alloc::boxed::Box;
use core::mem::offset_of;
use spin::Once;
use wire::{Histogram, Recorder};

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latency {
    /// A shootdown of one page, from before its page-table entry is cleared until all CPUs have acknowledged.
    OnePageShootdown,
    /// Any other shootdown, likewise.
    Shootdown,
    /// A bare interrupt to all other CPUs, and their answers.
    BareIpi,
}

impl Latency {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::OnePageShootdown, Self::Shootdown, Self::BareIpi];

    /// The name in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OnePageShootdown => "shootdown-1-page",
            Self::Shootdown => "shootdown",
            Self::BareIpi => "bare-ipi",
        }
    }
}

macro_rules! counters {
    ($($(#[$meta:meta])* $field:ident: $name:literal,)+) => {
        /// What one CPU counted.
        pub(crate) struct CpuStats {
            $($(#[$meta])* pub(crate) $field: Own<u64>,)+
            latencies: Once<Box<[Recorder]>>,
        }

        impl CpuStats {
            pub(crate) const fn new() -> Self {
                Self { $($field: Own::<u64>::new(0),)+ latencies: Once::new() }
            }
        }

        /// Counts of all CPUs together.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Totals {
            $($(#[$meta])* pub $field: u64,)+
        }

        impl Totals {
            /// The counts as they are now.
            #[must_use]
            pub fn now() -> Self {
                let mut totals = Self::default();
                for cpu in cpu::all() {
                    $(totals.$field += cpu.stats.$field.get();)+
                }
                totals
            }

            /// Runs `f` on the name and the value of each count.
            pub fn for_each(&self, mut f: impl FnMut(&'static str, u64)) {
                $(f($name, self.$field);)+
            }
        }
    };
}

counters! {
    /// Threads started.
    spawned: "threads.spawned",
    /// Stacks that a spawn took from its CPU's cache.
    cache_hits: "stacks.cache-hits",
    /// Spawns that found that cache empty.
    cache_misses: "stacks.cache-misses",
    /// Stacks unmapped after their threads ended.
    reaped: "stacks.reaped",
    /// Reapings that found any.
    reap_batches: "stacks.reap-batches",
    /// Shootdown interrupts sent to reap.
    reap_ipis: "stacks.reap-ipis",
    /// Threads ended by a guard of their stack.
    guard_hits: "faults.guard",
    /// Threads ended by another fault.
    other_faults: "faults.other",
    /// Interrupts that were lost to a guard hit while they were delivered, and served all the same.
    replayed: "faults.replayed-interrupts",
    /// Unmaps that were left to the CPUs' next switches and ticks.
    deferred: "shootdown.deferred",
    /// Requests with interrupts for all that was deferred, because it was too much.
    hurried: "shootdown.hurried",
    /// Shootdown requests completed.
    shootdowns: "shootdown.requests",
    /// Pages that the requests named.
    pages_flushed: "shootdown.pages",
    /// Shootdown interrupts sent, one for each CPU interrupted.
    shootdown_ipis: "shootdown.ipis",
    /// Commands that it took to send them: one command may reach several CPUs.
    ipi_commands: "shootdown.ipi-commands",
    /// Shootdown interrupts taken.
    shootdowns_served: "shootdown.served",
    /// Times that a CPU dropped all its translations.
    full_flushes: "shootdown.full-flushes",
    /// Changes from one thread to another, or to the same.
    switches: "sched.switches",
    /// Threads taken from another CPU's queue.
    steals: "sched.steals",
    /// Interrupts sent to make another CPU look at its queue.
    reschedule_ipis: "sched.reschedule-ipis",
    /// Timer ticks.
    ticks: "sched.ticks",
}

/// Places in [`CpuStats`] for [`count`].
pub(crate) const SPAWNED: usize = offset_of!(CpuStats, spawned);
pub(crate) const SHOOTDOWNS: usize = offset_of!(CpuStats, shootdowns);
pub(crate) const PAGES_FLUSHED: usize = offset_of!(CpuStats, pages_flushed);
pub(crate) const REAPED: usize = offset_of!(CpuStats, reaped);
pub(crate) const REAP_BATCHES: usize = offset_of!(CpuStats, reap_batches);
pub(crate) const REAP_IPIS: usize = offset_of!(CpuStats, reap_ipis);
pub(crate) const SWITCHES: usize = offset_of!(CpuStats, switches);
pub(crate) const CACHE_HITS: usize = offset_of!(CpuStats, cache_hits);
pub(crate) const CACHE_MISSES: usize = offset_of!(CpuStats, cache_misses);

/// Counts so many more on the CPU that this runs on, whichever that is: one instruction, so that it may be anywhere. `place` is one
/// of the above.
#[inline(always)]
pub(crate) fn add(place: usize, more: u64) {
    #[cfg(target_os = "none")]
    // SAFETY: as in `count`.
    unsafe {
        core::arch::asm!("add gs:[{}], {}", in(reg) cpu::offset::STATS + place, in(reg) more, options(nostack));
    }
    #[cfg(not(target_os = "none"))]
    let _ = (place, more);
}

/// As [`add`], of one.
#[inline(always)]
pub(crate) fn count(place: usize) {
    #[cfg(target_os = "none")]
    // SAFETY: the GS base points to this CPU's `Cpu`, and there is an `Own<u64>` at that place.
    unsafe {
        core::arch::asm!("inc qword ptr gs:[{}]", in(reg) cpu::offset::STATS + place, options(nostack));
    }
    #[cfg(not(target_os = "none"))]
    let _ = place;
}

impl CpuStats {
    /// Makes room for latencies; needs the heap.
    pub(crate) fn allocate(&self) {
        self.latencies.call_once(|| Latency::ALL.iter().map(|_| Recorder::new()).collect());
    }
}

/// Adds a sample, with preemption off; not in a handler.
#[inline(always)]
pub(crate) fn record(what: Latency, cycles: u64) {
    if let Some(latencies) = cpu::this_racy().stats.latencies.get() {
        latencies[what as usize].record(cycles);
    }
}

/// Runs `f` on the distribution of all CPUs' samples.
pub fn with_latency<R>(what: Latency, f: impl FnOnce(&Histogram) -> R) -> R {
    let mut gathered = Histogram::new();
    let all = cpu::all().filter_map(|cpu| cpu.stats.latencies.get());
    all.for_each(|latencies| latencies[what as usize].add_to(&mut gathered));
    f(&gathered)
}
