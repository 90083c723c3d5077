//! Handlers that run off the end of the stack they are on. Each stack of a CPU is overflowed by the code that runs there,
//! and the machine panics.

use super::recurse_for_ever;
use crate::cpu::apic::{self, vector};
use crate::cpu::{self, Cpu};
use crate::mem::StackKind;
use crate::sync::irq::IrqsOff;
use core::sync::atomic::{AtomicU32, Ordering};
use smp::CpuId;

const NOWHERE: u32 = u32::MAX;
/// The stack whose next user overflows it: its kind in the lowest byte, the CPU above.
static WAITS_ON: AtomicU32 = AtomicU32::new(NOWHERE);

/// Overflows the stack of this kind, of the CPU on which the calling thread runs, which is pinned there; an interrupt
/// handler, an NMI, and the idle thread are asked to, of whichever `cpu`. The machine panics of it, now or soon.
///
/// # Panics
/// If no handler runs on stacks of this kind.
pub fn overflow(kind: StackKind, cpu: CpuId) {
    let target = cpu::get(cpu).expect("a CPU that is up");
    WAITS_ON.store(place(kind, cpu), Ordering::Release);
    match kind {
        StackKind::Interrupt => send(target, vector::STRAY),
        StackKind::Idle => send(target, vector::RESCHEDULE),
        StackKind::Nmi => nmi(cpu),
        StackKind::DoubleFault => recurse_for_ever(),
        // SAFETY: the handler does not come back.
        StackKind::MachineCheck => unsafe { core::arch::asm!("int 18") },
        StackKind::Thread | StackKind::Boot => panic!("no handler runs on a {kind} stack"),
    }
}

/// Asks a CPU where it is, by NMI.
///
/// # Panics
/// If it is not up.
pub fn nmi(cpu: CpuId) {
    let target = cpu::get(cpu).expect("a CPU that is up");
    apic::send_nmi(&IrqsOff::new(), target.apic_id.get());
}

fn send(target: &Cpu, vector: u8) {
    apic::send(&IrqsOff::new(), vector, target.apic_id.get());
}

/// In the code that runs on a stack of this kind.
#[inline]
pub(crate) fn passes(kind: StackKind) {
    let waits_on = WAITS_ON.load(Ordering::Relaxed);
    if waits_on as u8 == kind as u8 && waits_on == place(kind, cpu::current_id()) {
        WAITS_ON.store(NOWHERE, Ordering::Relaxed);
        recurse_for_ever();
    }
}

const fn place(kind: StackKind, cpu: CpuId) -> u32 {
    kind as u32 | (cpu.index() as u32) << 8
}
