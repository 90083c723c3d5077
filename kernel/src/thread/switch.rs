//! The scheduler: which thread runs next on a CPU, and the epilogue that settles what becomes of the one before.
//!
//! All of it runs on the CPU's own stack with interrupts off, entered from [`crate::cpu::entry`]: when [`switch`]
//! begins, the CPU has already left the stack of the thread that ran.

use super::{Shield, Thread, exit, state};
use crate::bug;
use crate::cpu::apic::{self, vector};
use crate::cpu::entry::{self, Frame};
use crate::cpu::{self, Cpu};
use crate::mem::{space, tlb};
use crate::perturb::{self, Point};
use crate::sync::irq::IrqsOff;
use crate::trace::{self, Event, emit};
use crate::user;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering, fence};
use smp::{AtomicCpuSet, CpuId, CpuSet};
use wire::cmdline::Bug;

/// Why a thread leaves its CPU.
#[repr(u64)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Why {
    /// (3) It was preempted or gave way, and wants to go on.
    Preempted = 0,
    /// (6) It waits to be unparked.
    Parks = 1,
    /// (4) It ends.
    Exits = 2,
}

/// CPUs that have nothing to run.
pub(crate) static IDLE: AtomicCpuSet = AtomicCpuSet::new();
/// Ticks that a thread may run while others are ready.
const SLICE_TICKS: u32 = 2;
/// Where `spawn` puts the next thread when no CPU is idle.
static NEXT_CPU: AtomicU32 = AtomicU32::new(0);

/// The thread that runs on this CPU has left it: settles what becomes of it, and gives the frame to go on with.
pub(crate) extern "C" fn switch(frame: *mut Frame, why: u64) -> *mut Frame {
    let why = match why {
        0 => Why::Preempted,
        1 => Why::Parks,
        _ => Why::Exits,
    };
    settle(cpu::this_racy(), frame, why)
}

/// The first thread of a CPU.
pub(crate) extern "C" fn first() -> *mut Frame {
    let cpu = cpu::this_racy();
    cpu.runs_threads.set(true);
    resume(cpu, &cpu.idle)
}

fn settle(cpu: &'static Cpu, frame: *mut Frame, why: Why) -> *mut Frame {
    let before = cpu.current();
    before.frame.store(frame, Ordering::Relaxed);
    cpu.need_resched.set(false);
    cpu.stats.switches.add(1);
    let idles = ptr::eq(before, &cpu.idle);
    if why == Why::Preempted && !idles && cpu.run_queue.len() == 0 {
        // There is none to give way to here. Whoever gives way in a loop waits for another CPU: a virtual one may need this
        // one's turn.
        core::hint::spin_loop();
        return resume(cpu, before);
    }
    if !idles && why != Why::Exits {
        emit(Event::Leave { why: why as u32 });
    }
    user::leaves(before);
    epilogue(cpu, before, why);
    tlb::passes();
    let next = pick(cpu);
    user::comes(cpu, next);
    // From idling to idling is no change.
    if !idles || !ptr::eq(next, before) {
        emit(Event::Switch { to: next.number() });
    }
    resume(cpu, next)
}

/// The switch epilogue: nobody stands on the stack of `before` any more. From here on, and not earlier, other CPUs may
/// run the thread, wake it, or reap its stack (invariant I2).
fn epilogue(cpu: &'static Cpu, before: &'static Thread, why: Why) {
    perturb::at(Point::Epilogue);
    match why {
        _ if ptr::eq(before, &cpu.idle) => {}
        Why::Preempted => {
            before.state.store(state::READY, Ordering::Relaxed); // (3)
            cpu.run_queue.push(before);
        }
        Why::Parks => {
            before.state.store(state::PARKED, Ordering::SeqCst); // (6)
            // An unpark that came before the line above found the thread RUNNING and left the token: take it here.
            // Sequentially consistent on both sides: one of the two sees the other.
            if before.token.load(Ordering::SeqCst) && !bug::armed(Bug::LostWakeup) {
                let _ = unpark_if_parked(before);
            }
        }
        Why::Exits => exit::left_for_good(before), // (4)
    }
}

fn pick(cpu: &'static Cpu) -> &'static Thread {
    cpu.run_queue.take_for(cpu.id()).or_else(|| steal(cpu)).unwrap_or(&cpu.idle)
}

/// Takes a thread from the CPU that has the most waiting.
fn steal(cpu: &'static Cpu) -> Option<&'static Thread> {
    let richest = cpu::all().filter(|other| other.id() != cpu.id()).max_by_key(|other| other.run_queue.len())?;
    let thread = richest.run_queue.take_for(cpu.id()).or_else(|| {
        // The richest may have none that may run here.
        cpu::all().filter(|other| other.id() != cpu.id()).find_map(|other| other.run_queue.take_for(cpu.id()))
    })?;
    cpu.stats.steals.add(1);
    emit(Event::Steal { thread: thread.number(), from: u64::from(thread.last_cpu.load(Ordering::Relaxed)) });
    Some(thread)
}

/// Whether any thread waits that may run on `cpu`.
pub(crate) fn work_waits(cpu: CpuId) -> bool {
    cpu::all().any(|other| other.run_queue.has_for(cpu))
}

fn resume(cpu: &'static Cpu, next: &'static Thread) -> *mut Frame {
    next.state.store(state::RUNNING, Ordering::Relaxed); // (2)
    // An interrupt may have taken the CPU out of its halt.
    if !ptr::eq(next, &cpu.idle) && IDLE.load(Ordering::Relaxed).contains(cpu.id()) {
        IDLE.remove(cpu.id(), Ordering::SeqCst);
    }
    next.last_cpu.store(cpu.id().index() as u32, Ordering::SeqCst);
    space::enter(next.space());
    cpu.slice.set(SLICE_TICKS);
    cpu.set_current(next);
    let frame = next.frame.load(Ordering::Relaxed);
    // Pairs with `abort`: it sets the flag and reads `last_cpu`, here it is the other way round; one sees the other.
    if next.abort_pending() && next.can_be_ended() {
        // SAFETY: the thread does not run; its frame is on its stack, and nobody else looks at it.
        super::divert(unsafe { &mut *frame }, next, super::Left::Aborted);
    }
    frame
}

/// After an interrupt that interrupted a thread: the frame to go on with, this one or another.
pub(crate) fn after_interrupt(cpu: &'static Cpu, frame: *mut Frame) -> *mut Frame {
    let thread = cpu.current();
    let wanted = cpu.need_resched.get() || thread.abort_pending();
    // SAFETY: the interrupted thread's frame.
    if thread.preempt_off.get() > 0 || wanted && trace::put_off(cpu, unsafe { (*frame).rip }) {
        return frame;
    }
    if thread.abort_pending() && thread.can_be_ended() {
        // SAFETY: the interrupted thread's frame, on its stack; it goes on only by what is returned here.
        super::divert(unsafe { &mut *frame }, thread, super::Left::Aborted);
        frame
    } else if cpu.need_resched.get() {
        settle(cpu, frame, Why::Preempted)
    } else {
        frame
    }
}

/// A timer tick on this CPU: wakes sleepers, and ends the slice of the thread that runs.
pub(crate) fn tick(cpu: &'static Cpu, now: u64) {
    while let Some(thread) = cpu.sleepers.take_due(now) {
        unpark(thread);
    }
    let left = cpu.slice.get().saturating_sub(1);
    cpu.slice.set(left);
    let idles = ptr::eq(cpu.current(), &cpu.idle);
    if if idles { work_waits(cpu.id()) } else { left == 0 && cpu.run_queue.len() > 0 } {
        cpu.need_resched.set(true);
    }
}

/// Puts a thread that is READY where it can run, and wakes a CPU for it if one has nothing to do.
pub(crate) fn make_ready(thread: &'static Thread) {
    let allowed = CpuSet::from_bits(thread.affinity.load(Ordering::Relaxed)).and(cpu::online());
    let last = CpuId::new(thread.last_cpu.load(Ordering::Relaxed) as usize);
    let idle = IDLE.load(Ordering::Relaxed).and(allowed);
    let home = if idle.contains(last) || (idle.is_empty() && allowed.contains(last)) {
        last
    } else {
        idle.lowest().or(allowed.lowest()).expect("a thread may run somewhere")
    };
    let irqs = IrqsOff::new();
    let target = cpu::get(home).expect("an online CPU");
    emit(Event::Ready { thread: thread.number(), cpu: home.index() as u64 });
    target.run_queue.push(thread);
    // Pairs with `idle`: the CPU says that it is idle, then looks at the queues; here it is the other way round.
    fence(Ordering::SeqCst);
    if home != irqs.cpu().id() {
        if IDLE.load(Ordering::SeqCst).contains(home) {
            send_reschedule(&irqs, target);
        }
    } else if ptr::eq(target.current(), &target.idle) {
        target.need_resched.set(true);
    }
}

/// Spreads new threads over the CPUs that they may run on.
pub(crate) fn first_home(affinity: CpuSet) -> CpuId {
    let allowed = affinity.and(cpu::online());
    let turn = NEXT_CPU.fetch_add(1, Ordering::Relaxed) as usize % allowed.len().max(1);
    let mut cpus = allowed;
    cpus.nth(turn).unwrap_or(cpu::current_id())
}

/// Interrupts the CPU on which `thread` runs, so that it looks at what was asked of the thread.
pub(crate) fn kick(thread: &Thread) {
    let irqs = IrqsOff::new();
    let cpu = CpuId::new(thread.last_cpu.load(Ordering::SeqCst) as usize);
    if cpu != irqs.cpu().id()
        && let Some(target) = cpu::get(cpu)
    {
        send_reschedule(&irqs, target);
    }
}

fn send_reschedule(irqs: &IrqsOff, target: &Cpu) {
    irqs.cpu().stats.reschedule_ipis.add(1);
    emit(Event::Send { vector: vector::RESCHEDULE.into(), targets: 1 << target.id().index() });
    apic::send(irqs, vector::RESCHEDULE, target.apic_id.get());
}

/// Gives way to other threads that are ready.
pub fn yield_now() {
    // SAFETY: threads run on their stacks with interrupts on; the assertion sees to it.
    unsafe { leave(Why::Preempted) }
}

/// Waits until somebody unparks this thread, unless somebody did since the last time. May return without that too, so
/// the caller looks again at what it waits for. An abort wakes it.
pub fn park() {
    let thread = cpu::current();
    if !thread.token.swap(false, Ordering::SeqCst) && !thread.abort_pending() {
        // SAFETY: as in `yield_now`.
        unsafe { leave(Why::Parks) };
        // A swap, to see all that an unparker did whose token this takes away.
        thread.token.swap(false, Ordering::SeqCst);
    }
    // Without a shield around it, an abort takes effect here.
    drop(Shield::new());
}

/// (7) Lets a thread go on that is parked, or the next time that it parks.
pub(crate) fn unpark(thread: &'static Thread) {
    thread.token.store(true, Ordering::SeqCst);
    if !unpark_if_parked(thread) {
        emit(Event::Unpark { thread: thread.number() });
    }
}

fn unpark_if_parked(thread: &'static Thread) -> bool {
    let ready = thread.state.compare_exchange(state::PARKED, state::READY, Ordering::SeqCst, Ordering::Relaxed);
    if ready.is_ok() {
        make_ready(thread);
    }
    ready.is_ok()
}

/// Leaves the CPU.
///
/// # Safety
/// On a thread's stack; for [`Why::Exits`] nothing that the caller owns is needed any more.
pub(crate) unsafe fn leave(why: Why) {
    assert!(!cpu::in_interrupt(), "a switch inside an interrupt handler");
    assert!(cpu::masked_depth() == 0, "a switch with interrupts masked or a lock held");
    let blocked = cpu::current().preempt_off.get();
    assert!(blocked == 0 || why == Why::Exits, "a switch with preemption off ({blocked} deep)");
    // SAFETY: on a thread's stack by the caller's promise, with interrupts on by the assertions.
    unsafe { entry::leave(why as u64) }
}
