//! Writing an event: some 25 instructions, in assembly because of where they stand.
//!
//! The place in the ring and what is put there must be of one CPU, and a thread must not be moved or ended with a place
//! taken and not filled. Turning preemption off and on again for that would cost as much as all the rest. Instead the
//! instructions lie between two addresses, and an interrupt that comes between them gives the CPU back to the thread,
//! whatever it would rather do; that is done right afterwards. It is what Linux's restartable sequences do, but that
//! nothing is restarted.

use super::drain;
#[cfg(target_os = "none")]
use crate::cpu::offset;
use crate::cpu::{self, Cpu};
use crate::thread::switch;
use crate::trap;
#[cfg(target_os = "none")]
use core::arch::naked_asm;

/// Records an event of the thread that runs: `kind` and the word `a` in the upper halves, the word `b`. The layout is
/// that of [`wire::trace::Entry::words`]. At `palisade_record_for` it goes on with a thread's number in the lower half of `a`.
///
/// # Safety
/// Recording is on: every CPU has its ring.
#[cfg(target_os = "none")]
#[unsafe(naked)]
pub(super) unsafe extern "C" fn record(kind: u64, a: u64, b: u64) {
    naked_asm!(
        "mov eax, gs:[{number}]",
        "or rsi, rax",
        ".global palisade_record_for",
        "palisade_record_for:",
        "mov r8, gs:[{head}]",
        "mov r9, rdx",
        "mov r10d, 1",
        "xadd [r8], r10", // the place; one instruction, so that an interrupt or an NMI takes another one
        "rdtsc",
        "shl rdx, 32",
        "or rdx, rax",
        "mov rcx, r10",
        "and rcx, gs:[{mask}]",
        "shl rcx, 5",
        "add rcx, gs:[{entries}]",
        "mov [rcx], rdx",
        "mov [rcx + 16], rsi",
        "mov [rcx + 24], r9",
        "mov eax, r10d",
        "or eax, 0x80000000", // the stamp
        "or rdi, rax",
        "mov [rcx + 8], rdi", // last: who finds the stamp finds the rest
        ".global palisade_recorded",
        "palisade_recorded:",
        "cmp r10, gs:[{due}]",
        "jae {after}",
        "ret",
        head = const offset::TRACE + super::ring::HEAD,
        mask = const offset::TRACE + super::ring::MASK,
        entries = const offset::TRACE + super::ring::ENTRIES_AT,
        due = const offset::TRACE + super::ring::DUE,
        number = const offset::CURRENT_NUMBER,
        after = sym after,
    )
}

/// Records an event of the thread with this number; otherwise as [`record`].
///
/// # Safety
/// As there.
#[cfg(target_os = "none")]
pub(super) unsafe fn record_for(thread: u32, kind: u64, a: u64, b: u64) {
    unsafe extern "C" {
        fn palisade_record_for(kind: u64, who: u64, b: u64);
    }
    // SAFETY: by the caller's promise.
    unsafe { palisade_record_for(kind, a | u64::from(thread), b) }
}

/// On a host nothing is recorded.
#[cfg(not(target_os = "none"))]
pub(super) unsafe extern "C" fn record(_kind: u64, _a: u64, _b: u64) {}

/// As above.
#[cfg(not(target_os = "none"))]
pub(super) unsafe fn record_for(_thread: u32, _kind: u64, _a: u64, _b: u64) {}

/// What has to be done besides: an interrupt wanted the CPU meanwhile, or the ring is nearly full.
#[cold]
extern "C" fn after() {
    let irqs = crate::sync::irq::IrqsOff::new();
    let cpu = irqs.cpu();
    if cpu.trace.stop.get() {
        trap::stop();
    }
    let put_off = cpu.trace.put_off.get();
    cpu.trace.put_off.set(false);
    cpu.trace.renew_due();
    if cpu.trace.is_due(cpu.trace.head()) {
        drain::relieve(cpu);
    }
    drop(irqs);
    if put_off && cpu::on_threads_stack() && cpu::masked_depth() == 0 && cpu::current().preempt_count() == 0 {
        switch::yield_now();
    }
}

/// Whether code at `rip` is in the middle of recording; if so, it is told to stop the CPU when the event is written. In an
/// NMI.
pub(crate) fn stops_later(cpu: &Cpu, rip: u64) -> bool {
    let inside = put_off(cpu, rip);
    if inside {
        cpu.trace.stop.set(true);
    }
    inside
}

/// Whether code at `rip` is in the middle of recording; if so, it is told to come back to what is put off now.
pub(crate) fn put_off(cpu: &Cpu, rip: u64) -> bool {
    #[cfg(target_os = "none")]
    {
        unsafe extern "C" {
            static palisade_recorded: u8;
        }
        let inside = (record as *const () as u64..&raw const palisade_recorded as u64).contains(&rip);
        if inside {
            cpu.trace.put_off.set(true);
            cpu.trace.make_due();
        }
        inside
    }
    #[cfg(not(target_os = "none"))]
    {
        let _ = (cpu, rip);
        false
    }
}
