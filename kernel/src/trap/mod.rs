//! What the entry code calls: interrupts and exceptions, on the CPU's own stack or on one of their own.

pub(crate) mod backtrace;
pub(crate) mod fault;
mod nmi;
mod panic;
pub(crate) mod report;
pub(crate) mod watchdog;

use crate::cpu::apic::{self, vector};
use crate::cpu::entry::Frame;
use crate::cpu::{self, Cpu};
use crate::mem::{StackKind, probe, tlb};
use crate::misdeed;
use crate::sync::checks;
use crate::sync::irq::IrqsOff;
use crate::thread::switch;
use crate::time;
use crate::trace::{self, Event, emit};
use crate::{bug, interleave, interrupt, record, user};
use backtrace::Backtrace;
use wire::Record;
use wire::cmdline::Bug;
use x86_64::registers::control::Cr2;

pub(crate) use nmi::stop;
pub(crate) use panic::somebody_panicked;
pub(crate) use report::NMI_SECONDS;

const NMI: u64 = 2;
const DOUBLE_FAULT: u64 = 8;
const GENERAL_PROTECTION: u64 = 13;
const PAGE_FAULT: u64 = 14;
const FIRST_INTERRUPT: u64 = 32;

/// An interrupt or exception, saved in `frame`; the frame to go on with.
pub(crate) extern "C" fn interrupt(frame: *mut Frame) -> *mut Frame {
    let cpu = cpu::this_racy();
    // SAFETY: the entry code's frame; what it interrupted stands still.
    let saved = unsafe { &mut *frame };
    if saved.vector < FIRST_INTERRUPT {
        exception(cpu, saved);
    } else if saved.vector == vector::OVERFLOW_ON_CALL.into() {
        fault::contain_overflow_on_call(cpu, saved);
    } else {
        // The backtrace that helps is the one of the code that was interrupted.
        checks::at_interrupt(cpu, saved.vector, || report::set_panic_backtrace(Backtrace::of_frame(saved)));
        let lost = saved.is_user() && !user::is_code(saved.rip);
        serve(cpu, saved.vector as u8);
        if lost {
            fault::contain_lost(cpu, saved);
        }
    }
    if interrupted_a_thread(cpu) { switch::after_interrupt(cpu, frame) } else { frame }
}

/// Whether the innermost interrupt came while a thread's code ran, not while another handler did.
fn interrupted_a_thread(cpu: &Cpu) -> bool {
    cpu.interrupt_depth.get() == 0 && cpu.irq_off_depth.get() == 0
}

fn exception(cpu: &'static Cpu, frame: &mut Frame) {
    let address = if frame.vector == PAGE_FAULT { Cr2::read_raw() } else { 0 };
    // A page fault, or for an address that is none at all, a general protection fault.
    if matches!(frame.vector, PAGE_FAULT | GENERAL_PROTECTION)
        && !frame.is_user()
        && let Some(resume) = probe::recovery(frame.rip)
    {
        frame.rip = resume;
        return;
    }
    fault::contain(cpu, frame, address);
}

/// Serves an interrupt and ends it.
fn serve(cpu: &'static Cpu, vector: u8) {
    tlb::wakes(cpu);
    cpu.interrupts.add(1);
    let recorded = vector != vector::TIMER;
    if recorded {
        emit(Event::Receive { vector: vector.into() });
    }
    let irqs = IrqsOff::by_hardware();
    match vector {
        vector::TIMER => {
            cpu.stats.ticks.add(1);
            if bug::armed(Bug::TurnInInterrupt) {
                record::send(&Record::Count { name: "ticks", value: cpu.stats.ticks.get() });
            }
            trace::tick(cpu);
            if cpu.id().index() == 0 {
                interleave::draw(&irqs);
            }
            let now = time::now();
            tlb::passes();
            switch::tick(cpu, now);
            watchdog::look(cpu, now);
        }
        vector::RESCHEDULE => cpu.need_resched.set(true),
        vector::CALL => interrupt::serve(),
        vector::SHOOTDOWN => tlb::serve(),
        vector::PING => tlb::pong(),
        vector::SPURIOUS => return, // needs no end
        _ => {
            misdeed::passes(StackKind::Interrupt);
            panic!("an interrupt that nobody asked for: vector {vector:#x}")
        }
    }
    if recorded {
        emit(Event::Served { vector: vector.into() });
    }
    apic::end_of_interrupt(&irqs);
}

/// Serves the interrupts that the local APIC has delivered and that never reached their handler, because there was no
/// stack left to push the frame on. Without this their senders would wait for ever.
fn serve_undelivered(cpu: &'static Cpu) {
    let mut undelivered = [0u8; 8];
    let mut count = 0;
    for vector in apic::in_service(&IrqsOff::by_hardware()).take(undelivered.len()) {
        undelivered[count] = vector;
        count += 1;
    }
    for vector in &undelivered[..count] {
        cpu.stats.replayed.add(1);
        serve(cpu, *vector);
    }
}

/// #DF, NMI or #MC, each on a stack of its own. 1 if what it interrupted goes on, 0 if the thread ends instead, in the kernel.
pub(crate) extern "C" fn own_stack_interrupt(frame: *mut Frame) -> u32 {
    // SAFETY: the entry code's frame, on this exception's own stack.
    let frame = unsafe { &mut *frame };
    let (cpu, goes_on) = (cpu::this_racy(), frame.vector == NMI);
    // A fault in here is none of the thread that was interrupted.
    let depth = cpu.interrupt_depth.get();
    cpu.interrupt_depth.set(depth + 1);
    match frame.vector {
        NMI => nmi::handle(cpu, frame),
        DOUBLE_FAULT => {
            misdeed::passes(StackKind::DoubleFault);
            fault::contain(cpu, frame, Cr2::read_raw());
            // An interrupt that was being delivered when the stack ended is served now.
            serve_undelivered(cpu);
        }
        _ => {
            misdeed::passes(StackKind::MachineCheck);
            report::set_panic_backtrace(Backtrace::of_frame(frame));
            panic!("machine check at rip {:#x}", frame.rip)
        }
    }
    cpu.interrupt_depth.set(depth);
    goes_on.into()
}
