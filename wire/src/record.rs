//! The records a guest sends on its second serial port. They are the truth of a run; every text, table and verdict
//! that a person sees is a view of them.

use serde::{Deserialize, Serialize};

/// How the kernel came to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Firmware {
    /// Limine on a legacy BIOS.
    Bios,
    /// Limine on UEFI.
    Uefi,
    /// The boot loader did not say (the direct loader runs under SeaBIOS, but uses none of it).
    Unknown,
}

/// Which guard of a stack was hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Guard {
    /// Below the stack: it overflowed.
    Front,
    /// Above the stack: it underflowed.
    Rear,
}

/// One record. Times are in cycles of the time-stamp counter (`tsc_hz` of the hello) unless the name says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record<'a> {
    /// First of all: what runs, and on what.
    Hello {
        /// [`crate::VERSION`] of the sender.
        version: u16,
        /// Cycles a second of the time-stamp counter.
        tsc_hz: u64,
        /// CPUs that are up.
        cpus: u16,
        /// CPUs that the machine offers.
        cpus_offered: u16,
        /// Whether the local APICs run in x2APIC mode.
        x2apic: bool,
        /// Usable memory, in bytes.
        memory: u64,
        /// Boot loader's name and version, as it told them.
        #[serde(borrow)]
        bootloader: &'a str,
        /// What the boot loader runs on.
        firmware: Firmware,
        /// The command line, as it was received.
        cmdline: &'a str,
    },
    /// How far a run has come; sent a few times a second.
    Progress {
        /// Nanoseconds since the run began.
        elapsed_ns: u64,
        /// Rounds completed so far.
        rounds: u64,
        /// Threads alive now.
        live_threads: u64,
        /// Stacks reaped so far.
        reaped: u64,
        /// Shootdowns completed so far.
        shootdowns: u64,
        /// Shootdown IPIs sent so far (one for each target).
        ipis: u64,
        /// Guard hits and other faults that ended a thread so far.
        faults: u64,
    },
    /// A count at the end of a run.
    Count {
        /// What was counted, in words that sort well: `threads.spawned`.
        #[serde(borrow)]
        name: &'a str,
        /// How many.
        value: u64,
    },
    /// One line of the conservation account: what must be the same at the end as at the start.
    Balance {
        /// What is counted: `frames`, `stacks`, …
        #[serde(borrow)]
        what: &'a str,
        /// The count before the run.
        before: u64,
        /// The count after it, when all is quiet.
        after: u64,
    },
    /// A latency distribution begins: its exact extremes. Its buckets follow.
    Latency {
        /// What was timed: `shootdown`, `bare-ipi`, …
        #[serde(borrow)]
        name: &'a str,
        /// Number of samples.
        samples: u64,
        /// Smallest sample, in cycles.
        smallest: u64,
        /// Largest sample, in cycles.
        largest: u64,
    },
    /// Some buckets of a distribution, as [`crate::Histogram::pack`] wrote them.
    Buckets {
        /// The name that a [`Record::Latency`] carried.
        #[serde(borrow)]
        name: &'a str,
        /// The index that packing went on from.
        from: u16,
        /// What was packed.
        packed: &'a [u8],
    },
    /// A thread died of a guard hit or another fault.
    Fault {
        /// CPU it ran on.
        cpu: u16,
        /// Its name.
        #[serde(borrow)]
        thread: &'a str,
        /// Which guard; `None` for a fault that hit no guard of its own stack.
        guard: Option<Guard>,
        /// The address that was touched.
        address: u64,
        /// How far past the stack's edge, in bytes; 0 if no guard was hit.
        distance: u64,
        /// The instruction that did it.
        rip: u64,
    },
    /// A piece of a CPU's trace.
    Trace {
        /// The CPU.
        cpu: u16,
        /// Number of the first event in the piece, counted from the CPU's first: a gap between pieces is what was lost.
        first: u64,
        /// The time from which the piece counts.
        time: u64,
        /// The events, as [`crate::trace::pack`] packs them.
        packed: &'a [u8],
    },
    /// A CPU's trace ends.
    TraceEnd {
        /// The CPU.
        cpu: u16,
        /// Events that were recorded there, from boot to the recording's end.
        events: u64,
    },
    /// Where the trace rings are, for a reader outside: [`crate::trace::Rings`] in its order.
    Rings {
        /// Its words.
        words: [u64; crate::trace::Rings::WORDS],
    },
    /// A promise broke.
    Failure {
        /// Which one, in a few words.
        #[serde(borrow)]
        promise: &'a str,
        /// What was seen instead.
        detail: &'a str,
    },
    /// A self-test ended.
    Test {
        /// Its name.
        #[serde(borrow)]
        name: &'a str,
        /// Whether it held.
        passed: bool,
    },
    /// A CPU panicked; the message.
    Panic {
        /// The CPU.
        cpu: u16,
        /// What it said, cut to fit a frame.
        #[serde(borrow)]
        message: &'a str,
    },
    /// Last of all: the guest ends by its own will, and why.
    Verdict {
        /// Whether every promise held.
        passed: bool,
        /// One line.
        #[serde(borrow)]
        reason: &'a str,
    },
}
