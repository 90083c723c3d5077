//! Handlers that run off the end of the stack they are on, or write beside it. To each stack of a CPU it is done by the code
//! that runs there, and the machine panics.

use super::{recurse_for_ever, write_to_guard};
use crate::cpu::apic::{self, vector};
use crate::cpu::{self, Cpu};
use crate::mem::{StackKind, owner_of};
use crate::sync::irq::IrqsOff;
use core::sync::atomic::{AtomicU32, Ordering};
use smp::CpuId;

/// What is done to a stack by the code that runs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It is overflowed, by recursion.
    Overflow,
    /// The byte below it is written.
    WriteBelow,
    /// The byte above it is written.
    WriteAbove,
}

const NOWHERE: u32 = u32::MAX;
/// The stack whose next user does it: the kind in the lowest byte, the CPU in the next, the deed above.
static WAITS_ON: AtomicU32 = AtomicU32::new(NOWHERE);

/// Has `deed` done to the stack of this kind of `cpu`, on which the calling thread runs, and is pinned there. The machine panics
/// of it, now or soon.
///
/// # Panics
/// If no handler runs on stacks of this kind.
pub fn ambush(kind: StackKind, cpu: CpuId, deed: Deed) {
    let target = cpu::get(cpu).expect("a CPU that is up");
    WAITS_ON.store(place(kind, cpu) | (deed as u32) << 16, Ordering::Release);
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
    if waits_on as u8 == kind as u8 && waits_on & 0xffff == place(kind, cpu::current_id()) {
        WAITS_ON.store(NOWHERE, Ordering::Relaxed);
        misbehave(waits_on >> 16);
    }
}

#[cold]
fn misbehave(deed: u32) {
    let here = &raw const deed as u64;
    let hit = owner_of(here).and_then(|owner| owner.hit()).expect("a handler runs on a stack");
    match deed {
        0 => recurse_for_ever(),
        1 => write_to_guard(hit.start - 1),
        _ => write_to_guard(hit.end),
    }
}

const fn place(kind: StackKind, cpu: CpuId) -> u32 {
    kind as u32 | (cpu.index() as u32) << 8
}
