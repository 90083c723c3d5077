//! Reports on CPUs that do not answer.

use super::backtrace::Backtrace;
use crate::cpu::{self, apic};
use crate::sync::irq::IrqsOff;
use crate::time;
use core::sync::atomic::{AtomicBool, Ordering};
use smp::CpuSet;

/// How long a CPU has to take an NMI, in seconds: they cannot be masked, so only a stopped CPU takes longer.
const NMI_SECONDS: u64 = 2;

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

/// `missing` did not answer `what` in time: asks each of them by NMI where it is, and panics with that.
pub(crate) fn unanswered(what: &str, missing: CpuSet) -> ! {
    let irqs = IrqsOff::new();
    for cpu in missing.filter_map(cpu::get) {
        cpu.nmi_rip.store(0, Ordering::Relaxed);
        apic::send_nmi(&irqs, cpu.apic_id.get());
    }
    let until = time::now() + time::tsc_hz() * NMI_SECONDS;
    for cpu in missing.filter_map(cpu::get) {
        let rip = loop {
            match cpu.nmi_rip.load(Ordering::Acquire) {
                0 if time::now() < until => core::hint::spin_loop(),
                rip => break rip,
            }
        };
        let thread = cpu.current();
        match rip {
            0 => println!("{} takes no NMI either", cpu.id()),
            _ => thread.with_name(|name| {
                println!(
                    "{} runs '{name}', interrupts {} deep, masked {} deep\n    backtrace {rip:#x}",
                    cpu.id(),
                    cpu.interrupt_depth.get() + 1,
                    cpu.irq_off_depth.get()
                );
            }),
        }
    }
    panic!("{what} is not answered by {missing:?} for {} s", time::patience_seconds());
}
