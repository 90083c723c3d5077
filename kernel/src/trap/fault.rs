//! Faults: telling a guard hit from a wild pointer, and ending the thread that did it, and nobody else.

use super::backtrace::Backtrace;
use super::{DOUBLE_FAULT, PAGE_FAULT, report};
use crate::cpu::Cpu;
use crate::cpu::entry::Frame;
use crate::mem::{Hit, Owner, Region, owner_of};
use crate::record;
use crate::thread::{self, Cause, Fault, FaultKind, Mode, Thread, watermark};
use crate::trace::{Event, emit};
use wire::Record;
use wire::record::Guard;

/// An exception in `frame`, `address` what it touched: ends the thread that caused it, or panics if the kernel itself
/// did, or a thread that holds something that must not be lost.
pub(super) fn contain(cpu: &'static Cpu, frame: &mut Frame, address: u64) {
    let thread = cpu.current();
    let by_thread = cpu.interrupt_depth.get() == 0; // this exception, and no handler before it
    let fault = classify(thread, by_thread, frame, address);
    let understood = frame.vector != DOUBLE_FAULT || matches!(fault.kind, FaultKind::Guard(..));
    if by_thread && understood && cpu.irq_off_depth.get() == 0 && thread.can_be_ended() {
        end(cpu, thread, frame, fault);
    } else {
        fatal(cpu, thread, frame, &fault);
    }
}

/// User code was interrupted at an address that is none, and cannot go on: ends the thread.
pub(super) fn contain_lost(cpu: &'static Cpu, frame: &mut Frame) {
    let thread = cpu.current();
    let fault = told(FaultKind::Page, frame.rip, None, frame, thread, None);
    end(cpu, thread, frame, fault);
}

fn mode(thread: &Thread, frame: &Frame) -> Mode {
    match thread.user() {
        _ if frame.is_user() => Mode::User,
        Some(_) => Mode::SystemCall,
        None => Mode::Kernel,
    }
}

/// What the fault is: only who hits a guard of the stack that it runs on, a thread's or a CPU's, has overflowed.
fn classify(thread: &Thread, by_thread: bool, frame: &Frame, address: u64) -> Fault {
    let (touches, code) = match frame.vector {
        PAGE_FAULT | DOUBLE_FAULT => (true, 0),
        vector => (false, vector as u8),
    };
    if frame.is_user() {
        let guard = thread.user().filter(|_| touches).and_then(|user| user.guard_at(address));
        let kind = match guard {
            Some((guard, distance)) => FaultKind::UserGuard(guard, distance),
            None if touches => FaultKind::Page,
            None => FaultKind::Exception(code),
        };
        return told(kind, address, owner_of(address).filter(|_| touches), frame, thread, None);
    }
    // What code that is no thread's runs on follows from its stack pointer.
    let running = match thread.stack_bounds() {
        bounds if by_thread && bounds.1 != 0 => Some(bounds),
        _ => owner_of(frame.rsp).and_then(|owner| owner.hit()).map(|hit| (hit.start, hit.end)),
    };
    let there = if touches { owner_of(address) } else { None };
    let kind = match there.and_then(|owner| owner.hit()) {
        _ if !touches => FaultKind::Exception(code),
        Some(Hit { region: Region::Guard(guard, distance), start, end }) if running == Some((start, end)) => {
            FaultKind::Guard(guard, distance)
        }
        _ => FaultKind::Page,
    };
    told(kind, address, there, frame, thread, running)
}

fn told(
    kind: FaultKind,
    address: u64,
    there: Option<Owner>,
    frame: &Frame,
    thread: &Thread,
    running: Option<(u64, u64)>,
) -> Fault {
    let (start, end) = running.unwrap_or((0, 0));
    let used = watermark::of_stack((start, end), frame.rsp);
    let mode = mode(thread, frame);
    Fault { kind, address, there, rip: frame.rip, used, stack_bytes: (end - start) as u32, mode }
}

/// A thread called a kernel function with too little stack left for what that may need: the same as an overflow, found
/// before the function owns anything. `frame` is from the software interrupt that the call raised, so that none of this
/// needs the thread's stack; if even the frame did not fit, it was a guard hit like any other.
pub(super) fn contain_overflow_on_call(cpu: &'static Cpu, frame: &mut Frame) {
    let thread = cpu.current();
    let bounds @ (start, _) = thread.stack_bounds();
    let missing = thread::HEADROOM.saturating_sub(frame.rsp.saturating_sub(start));
    let kind = FaultKind::Guard(Guard::Front, missing);
    let address = start.wrapping_sub(missing);
    let fault = told(kind, address, owner_of(address), frame, thread, Some(bounds));
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
    thread::divert_for(frame, thread, Cause { fault, cpu: cpu.id(), backtrace });
}

/// Tells of the fault that ends the calling thread, unless it is quiet about it. In the thread, since the serial lines
/// take their time, and are waited for.
pub(crate) fn tell(thread: &Thread, cause: &Cause) {
    if thread.is_quiet() {
        return;
    }
    let Cause { fault, cpu, backtrace } = cause;
    let guard = match fault.kind {
        FaultKind::Guard(guard, distance) | FaultKind::UserGuard(guard, distance) => Some((guard, distance)),
        _ => None,
    };
    let name = thread.name();
    println!("{cpu}: thread '{name}'#{} ended by {fault}\n    backtrace{backtrace}", thread.number());
    record::send(&Record::Fault {
        cpu: cpu.index() as u16,
        thread: name.as_str(),
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
    report::set_panic_backtrace(Backtrace::of_frame(frame));
    panic!(
        "{name} in the kernel: {fault}, error {:#x}, rsp {:#x}; interrupts {} deep, masked {} deep, \
         preemption off {preempt} deep, shields {shields}",
        frame.error,
        frame.rsp,
        cpu.interrupt_depth.get() + 1,
        cpu.irq_off_depth.get(),
    )
}
