//! Faults: telling a guard hit from a wild pointer, and ending the thread that did it, and nobody else.

use super::backtrace::Backtrace;
use super::{DOUBLE_FAULT, PAGE_FAULT, report};
use crate::cpu::Cpu;
use crate::cpu::entry::Frame;
use crate::mem::slots::{Hit, Region, SlotId, slot_of};
use crate::mem::{PAGE_SIZE, slots};
use crate::record;
use crate::thread::{self, Fault, FaultKind, Left, Mode, Thread};
use crate::trace::{Event, emit};
use smp::CpuId;
use wire::Record;
use wire::record::Guard;

/// An exception in `frame`, `address` what it touched: ends the thread that caused it, or panics if the kernel itself
/// did, or a thread that holds something that must not be lost.
pub(super) fn contain(cpu: &'static Cpu, frame: &mut Frame, address: u64) {
    let thread = cpu.current();
    let by_thread = cpu.interrupt_depth.get() == 0; // this exception, and no handler before it
    let kind = classify(thread, frame, address);
    let fault = Fault { kind, address, rip: frame.rip, mode: mode(thread, frame) };
    let understood = frame.vector != DOUBLE_FAULT || matches!(kind, FaultKind::Guard(..));
    if by_thread && understood && cpu.irq_off_depth.get() == 0 && thread.can_be_ended() {
        end(cpu, thread, frame, fault);
    } else {
        fatal(cpu, thread, frame, &fault);
    }
}

/// User code was interrupted at an address that is none, and cannot go on: ends the thread.
pub(super) fn contain_lost(cpu: &'static Cpu, frame: &mut Frame) {
    let thread = cpu.current();
    let fault = Fault { kind: FaultKind::Page, address: frame.rip, rip: frame.rip, mode: Mode::User };
    end(cpu, thread, frame, fault);
}

fn mode(thread: &Thread, frame: &Frame) -> Mode {
    match thread.user() {
        _ if frame.is_user() => Mode::User,
        Some(_) => Mode::SystemCall,
        None => Mode::Kernel,
    }
}

fn classify(thread: &Thread, frame: &Frame, address: u64) -> FaultKind {
    match frame.vector {
        PAGE_FAULT if frame.is_user() => match thread.user().and_then(|user| user.guard_at(address)) {
            Some((guard, distance)) => FaultKind::UserGuard(guard, distance),
            None => FaultKind::Page,
        },
        PAGE_FAULT | DOUBLE_FAULT => match (thread.stack(), slots::classify(address)) {
            (Some(own), Some(Hit { region: Region::Guard(guard, distance), .. })) if slot_of(address) == Some(own) => {
                FaultKind::Guard(guard, distance)
            }
            _ => FaultKind::Page,
        },
        vector => FaultKind::Exception(vector as u8),
    }
}

/// A thread called a kernel function with too little stack left for what that may need: the same as an overflow, found
/// before the function owns anything. `frame` is from the software interrupt that the call raised, so that none of this
/// needs the thread's stack; if even the frame did not fit, it was a guard hit like any other.
pub(super) fn contain_overflow_on_call(cpu: &'static Cpu, frame: &mut Frame) {
    let thread = cpu.current();
    let start = thread.stack().map_or(0, SlotId::start);
    let missing = thread::HEADROOM.saturating_sub(frame.rsp.saturating_sub(start));
    let kind = FaultKind::Guard(Guard::Front, missing);
    let mode = mode(thread, frame);
    let fault = Fault { kind, address: start.wrapping_sub(missing), rip: frame.rip, mode };
    if cpu.irq_off_depth.get() > 0 || !thread.can_be_ended() {
        fatal(cpu, thread, frame, &fault);
    }
    end(cpu, thread, frame, fault);
}

/// Counts the fault, and makes the thread end itself; it tells of the fault first ([`tell`]).
fn end(cpu: &Cpu, thread: &Thread, frame: &mut Frame, fault: Fault) {
    match fault.kind {
        FaultKind::Guard(..) | FaultKind::UserGuard(..) => cpu.stats.guard_hits.add(1),
        _ => cpu.stats.other_faults.add(1),
    }
    let what = match fault.kind {
        FaultKind::Guard(Guard::Front, _) | FaultKind::UserGuard(Guard::Front, _) => 0,
        FaultKind::Guard(Guard::Rear, _) | FaultKind::UserGuard(Guard::Rear, _) => 1,
        FaultKind::Page => 2,
        FaultKind::Exception(_) => 3,
    };
    emit(Event::Fault { what, address: fault.address });
    let backtrace = Backtrace::of_frame(frame);
    thread::divert(frame, thread, Left::Faulted(fault, cpu.id(), backtrace));
}

/// Tells of the fault that ends the calling thread, unless it is quiet about it. In the thread, since the serial lines
/// take their time, and are waited for.
pub(crate) fn tell(thread: &Thread, fault: &Fault, cpu: CpuId, backtrace: &Backtrace) {
    if thread.is_quiet() {
        return;
    }
    let guard = match fault.kind {
        FaultKind::Guard(guard, distance) | FaultKind::UserGuard(guard, distance) => Some((guard, distance)),
        _ => None,
    };
    let (bytes, length) = thread.name_bytes();
    let name = core::str::from_utf8(&bytes[..length]).unwrap_or("?");
    println!("{cpu}: thread '{name}' ended by {fault}\n    backtrace{backtrace}");
    record::send(&Record::Fault {
        cpu: cpu.index() as u16,
        thread: name,
        guard: guard.map(|(guard, _)| guard),
        address: fault.address,
        distance: guard.map_or(0, |(_, distance)| distance),
        rip: fault.rip,
    });
}

/// The fault cannot be contained: says all that is known, and panics.
fn fatal(cpu: &Cpu, thread: &Thread, frame: &Frame, fault: &Fault) -> ! {
    let name = match frame.vector {
        DOUBLE_FAULT => "double fault",
        PAGE_FAULT => "page fault",
        _ => "exception",
    };
    let (preempt, shields) = (thread.preempt_count(), thread.shield_count());
    let place = match slots::classify(fault.address) {
        Some(Hit { region: Region::Guard(..), start, end }) => Place::Guard(start, end),
        Some(Hit { region: Region::Mapped, .. }) => Place::Text("in a guarded mapping"),
        Some(Hit { region: Region::Empty, .. }) => Place::Text("in a slot whose mapping is gone"),
        None if fault.address < PAGE_SIZE => Place::Text("in the null page"),
        None => Place::Text("outside all guarded mappings"),
    };
    report::set_panic_backtrace(Backtrace::of_frame(frame));
    panic!(
        "{name} in the kernel: {fault}, error {:#x}, rsp {:#x}, {place}; interrupts {} deep, masked {} deep, \
         preemption off {preempt} deep, shields {shields}",
        frame.error,
        frame.rsp,
        cpu.interrupt_depth.get() + 1,
        cpu.irq_off_depth.get(),
    )
}

enum Place {
    Guard(u64, u64),
    Text(&'static str),
}

impl core::fmt::Display for Place {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Guard(start, end) => write!(f, "in a guard of the mapping {start:#x} to {end:#x}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}
