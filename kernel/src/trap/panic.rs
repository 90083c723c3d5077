//! Panics: the first CPU stops all others, reports once, and ends the run as failed.

use super::backtrace::Backtrace;
use super::{nmi, report};
use crate::boot;
use crate::cpu::{self, apic};
use crate::sync::irq::IrqsOff;
use core::fmt::Write;
use core::sync::atomic::{AtomicU32, Ordering};
use smp::CpuId;
use wire::Record;

const NOBODY: u32 = u32::MAX;
/// The CPU that panicked first.
static PANICKED: AtomicU32 = AtomicU32::new(NOBODY);

/// Whether a CPU has panicked: all others stop.
pub(crate) fn somebody_panicked() -> bool {
    PANICKED.load(Ordering::Acquire) != NOBODY
}

/// Whether a CPU other than this has panicked: this one stops.
pub(super) fn another_panicked(me: CpuId) -> bool {
    somebody_panicked() && PANICKED.load(Ordering::Relaxed) != me.index() as u32
}

#[cfg_attr(target_os = "none", panic_handler)]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let rbp: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags)) };
    core::mem::forget(IrqsOff::new()); // for good
    let cpu = cpu::this_racy();
    let me = cpu.id().index() as u32;
    match PANICKED.compare_exchange(NOBODY, me, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {}
        Err(first) if first == me => boot::palisade_exit(wire::exit::FAIL), // a panic in the report: enough was said
        Err(_) => nmi::stop(),
    }
    apic::stop_others();
    let trace = report::panic_backtrace().unwrap_or_else(|| Backtrace::of_caller(rbp));
    let mut message = Message { bytes: [0; 400], used: 0 };
    let _ = write!(message, "{info}");
    // SAFETY: all other CPUs are stopped, or about to be and not writing for long.
    unsafe {
        crate::console::write_in_panic(format_args!("\n{}: panic: {info}\n", cpu.id()));
        report::tell(cpu, "panicked", (cpu.interrupt_depth.get() + 1).cast_unsigned(), trace.addresses());
        report::others(cpu);
        crate::record::with_line_in_panic(|line| line.send(&Record::Panic { cpu: me as u16, message: message.text() }));
        crate::trace::finish_in_panic();
        crate::record::with_line_in_panic(|line| {
            line.send(&Record::Verdict { passed: false, reason: "a CPU panicked" });
        });
    }
    boot::palisade_exit(wire::exit::FAIL)
}

/// Text cut to what a record has room for.
struct Message {
    bytes: [u8; 400],
    used: usize,
}

impl Message {
    fn text(&self) -> &str {
        let whole = core::str::from_utf8(&self.bytes[..self.used]);
        whole.unwrap_or_else(|e| core::str::from_utf8(&self.bytes[..e.valid_up_to()]).unwrap_or(""))
    }
}

impl Write for Message {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let fits = text.len().min(self.bytes.len() - self.used);
        self.bytes[self.used..self.used + fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.used += fits;
        Ok(())
    }
}
