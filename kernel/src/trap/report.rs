//! What every CPU is at, told when something has gone wrong: a panic, a CPU that does not answer, a lock that nobody
//! gives up. The NMI gets through whatever a CPU does, and leaves where it was in its [`Snapshot`].

use super::backtrace::{Backtrace, DEPTH};
use crate::cpu::entry::Frame;
use crate::cpu::{self, Cpu};
use crate::time;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use smp::CpuSet;
use wire::debug::CpuState;

/// How long a CPU has to take an NMI, in seconds: they cannot be masked, so only a stopped CPU takes longer.
pub(crate) const NMI_SECONDS: u64 = 2;

struct Saved(core::cell::UnsafeCell<Backtrace>);

// SAFETY: written by the one CPU that takes `TAKEN`, and read by the same CPU's panic.
unsafe impl Sync for Saved {}

static TAKEN: AtomicBool = AtomicBool::new(false);
static SAVED: Saved = Saved(core::cell::UnsafeCell::new(Backtrace::EMPTY));

/// Keeps where interrupted code was, for the panic that follows: its own backtrace would show the handler.
pub(super) fn set_panic_backtrace(trace: Backtrace) {
    if !TAKEN.swap(true, Ordering::Relaxed) {
        // SAFETY: the first one only; the panic reads it on this CPU.
        unsafe { *SAVED.0.get() = trace }
    }
}

/// The backtrace that was kept.
pub(super) fn panic_backtrace() -> Option<Backtrace> {
    // SAFETY: as above.
    TAKEN.load(Ordering::Relaxed).then(|| unsafe { *SAVED.0.get() })
}

/// Where an NMI found a CPU. Written by the CPU itself, read by others.
#[derive(Debug)]
pub(crate) struct Snapshot {
    addresses: [AtomicU64; DEPTH],
    count: AtomicUsize,
    taken: AtomicBool,
}

impl Snapshot {
    pub(crate) const fn new() -> Self {
        Self {
            addresses: [const { AtomicU64::new(0) }; DEPTH],
            count: AtomicUsize::new(0),
            taken: AtomicBool::new(false),
        }
    }

    /// Takes it, inside the NMI that interrupted `frame`.
    pub(super) fn take(&self, frame: &Frame) {
        let trace = Backtrace::of_frame(frame);
        for (place, address) in self.addresses.iter().zip(trace.addresses()) {
            place.store(*address, Ordering::Relaxed);
        }
        self.count.store(trace.addresses().len(), Ordering::Relaxed);
        // Release: pairs with the acquire below.
        self.taken.store(true, Ordering::Release);
    }

    /// The addresses, once they are there.
    fn read<'b>(&self, buffer: &'b mut [u64; DEPTH]) -> Option<&'b [u64]> {
        if !self.taken.load(Ordering::Acquire) {
            return None;
        }
        for (to, from) in buffer.iter_mut().zip(&self.addresses) {
            *to = from.load(Ordering::Relaxed);
        }
        Some(&buffer[..self.count.load(Ordering::Relaxed).min(DEPTH)])
    }
}

/// `missing` did not answer `what` in time. The panic says where they are.
pub(crate) fn unanswered(what: &str, missing: CpuSet) -> ! {
    panic!("{what} is not answered by {missing:?} for {} s", time::patience_seconds());
}

/// Says what each CPU but `me`, which panicked, is at. Each was sent an NMI that stops it.
///
/// # Safety
/// No other CPU runs any more, or is about to stop and prints nothing.
pub(super) unsafe fn others(me: &Cpu) {
    let until = time::now() + time::tsc_hz() * NMI_SECONDS;
    for cpu in cpu::all().filter(|cpu| cpu.id() != me.id()) {
        let mut buffer = [0; DEPTH];
        let trace = loop {
            match cpu.snapshot.read(&mut buffer) {
                None if time::now() < until => core::hint::spin_loop(),
                found => break found.map_or(0, <[u64]>::len),
            }
        };
        // Its interrupt nesting does not count the NMI; -1 is a thread.
        let interrupts = (cpu.interrupt_depth.get() + 1).cast_unsigned();
        let state = if cpu.snapshot.taken.load(Ordering::Relaxed) { "running" } else { "deaf" };
        // SAFETY: by the caller's promise.
        unsafe { tell(cpu, state, interrupts, &buffer[..trace]) }
    }
}

/// Says what a CPU is at.
///
/// # Safety
/// No other CPU prints.
pub(super) unsafe fn tell(cpu: &Cpu, state: &str, interrupts: u32, backtrace: &[u64]) {
    let thread = cpu.current();
    let name = thread.name();
    let state = CpuState {
        cpu: cpu.id().index() as u32,
        state,
        thread: thread.number(),
        name: name.as_str(),
        interrupts,
        masked: cpu.irq_off_depth.get(),
        preempt_off: thread.preempt_count(),
        shields: thread.shield_count(),
        held: cpu.held.told(),
        request: Some(cpu.request.get()).filter(|open| *open != 0).map(|open| (open as u32, cpu.request_targets.get())),
        backtrace,
    };
    // SAFETY: by the caller's promise.
    unsafe { crate::console::write_in_panic(format_args!("{state}\n")) }
}
