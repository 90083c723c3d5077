//! The scheduler: which thread runs next on a CPU, and the epilogue that settles what becomes of the one before.
//!
//! All of it runs on the CPU's own stack with interrupts off, entered from [`crate::cpu::entry`]: when [`switch`]
//! begins, the CPU has already left the stack of the thread that ran.

use super::park::{becomes_ready, wake};
use super::{How, Thread, exit, state};
use crate::bug;
use crate::cpu::apic::{self, vector};
use crate::cpu::entry::{self, Frame};
use crate::cpu::{self, Cpu};
use crate::mem::{space, tlb};
use crate::perturb::{self, Point};
use crate::stats;
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
/// Where `spawn` put the latest thread, had no CPU been idle: the next goes to the next CPU.
static LATEST_HOME: AtomicU32 = AtomicU32::new(0);

/// The thread that runs on this CPU has left it to give way; the frame to go on with. The same for the next two, but for why.
pub(crate) extern "C" fn gives_way(frame: *mut Frame) -> *mut Frame {
    settle(cpu::this_racy(), frame, Why::Preempted)
}

/// It waits to be woken.
pub(crate) extern "C" fn parks(frame: *mut Frame) -> *mut Frame {
    settle(cpu::this_racy(), frame, Why::Parks)
}

/// It has ended: it has no frame.
pub(crate) extern "C" fn ends() -> *mut Frame {
    settle(cpu::this_racy(), ptr::null_mut(), Why::Exits)
}

/// The first thread of a CPU.
pub(crate) extern "C" fn first() -> *mut Frame {
    let cpu = cpu::this_racy();
    cpu.runs_threads.set(true);
    resume(cpu, &cpu.idle)
}

/// Settles what becomes of the thread that has left the CPU, and gives the frame to go on with.
#[inline(always)]
fn settle(cpu: &'static Cpu, frame: *mut Frame, why: Why) -> *mut Frame {
    let before = cpu.current();
    if why != Why::Exits {
        before.frame.store(frame, Ordering::Relaxed);
    }
    cpu.need_resched.set(false);
    stats::count(stats::SWITCHES);
    let idles = why == Why::Preempted && ptr::eq(before, &cpu.idle);
    if why == Why::Preempted && !idles && !cpu.run_queue.has_as_urgent_as(before.priority()) {
        // There is none to give way to here. Whoever gives way in a loop waits for another CPU: a virtual one may need this
        // one's turn.
        core::hint::spin_loop();
        return resume(cpu, before);
    }
    if !idles && why != Why::Exits {
        emit(Event::Leave { why: why as u32 });
    }
    if why != Why::Exits {
        user::leaves(before);
    }
    let woken = if idles { None } else { epilogue(cpu, before, why) };
    tlb::passes();
    let next = match woken {
        Some(woken) => after_wake(cpu, woken),
        None => pick(cpu),
    };
    user::comes(cpu, next);
    // From idling to idling is no change.
    if !idles || !ptr::eq(next, before) {
        emit(Event::Switch { to: next.number() });
    }
    // An interrupt may have taken the CPU out of its halt.
    if idles && !ptr::eq(next, before) && IDLE.load(Ordering::Relaxed).contains(cpu.id()) {
        IDLE.remove(cpu.id(), Ordering::SeqCst);
    }
    resume(cpu, next)
}

/// The switch epilogue: nobody stands on the stack of `before` any more. From here on, and not earlier, other CPUs may
/// run the thread, wake it, or reap its stack (invariant I2). Gives the thread that this has woken, which is READY and nowhere yet.
#[inline(always)]
fn epilogue(cpu: &'static Cpu, before: &'static Thread, why: Why) -> Option<&'static Thread> {
    perturb::at(Point::Epilogue);
    match why {
        Why::Preempted => {
            before.state.store(state::READY, Ordering::Relaxed); // (3)
            cpu.run_queue.push(before);
            None
        }
        Why::Parks => {
            before.state.store(state::PARKED, Ordering::SeqCst); // (6)
            // An unpark that came before the line above found the thread RUNNING and left the token: take it here.
            // Sequentially consistent on both sides: one of the two sees the other.
            let missed = before.token.is_woken() && !bug::armed(Bug::LostWakeup);
            if missed && becomes_ready(before) { Some(before) } else { None }
        }
        Why::Exits => exit::left_for_good(before), // (4)
    }
}

/// The thread to go on with, where the epilogue has woken one: that one, on this CPU, if nobody waits here already. Its waker has
/// nothing more to do; to interrupt another CPU for it would take longer.
#[inline(always)]
fn after_wake(cpu: &'static Cpu, woken: &'static Thread) -> &'static Thread {
    if cpu.run_queue.is_empty() && woken.may_run_on(cpu.id()) {
        emit(Event::Ready { thread: woken.number(), cpu: cpu.id().index() as u64 });
        return woken;
    }
    make_ready(woken);
    pick(cpu)
}

#[inline(always)]
fn pick(cpu: &'static Cpu) -> &'static Thread {
    match cpu.run_queue.take_own(cpu.id()) {
        Some(thread) => thread,
        None => steal(cpu).unwrap_or(&cpu.idle),
    }
}

/// Takes a thread from the CPU that has the most waiting.
#[inline(never)]
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

#[inline(always)]
fn resume(cpu: &'static Cpu, next: &'static Thread) -> *mut Frame {
    next.state.store(state::RUNNING, Ordering::Relaxed); // (2)
    next.last_cpu.store(cpu.id().index() as u32, Ordering::SeqCst);
    next.turns.set(next.turns.get().wrapping_add(1));
    let space = next.space();
    if space.is_some() || cpu.space.is_any() {
        space::enter(space);
    }
    cpu.slice.set(SLICE_TICKS);
    cpu.set_current(next);
    let frame = next.frame.load(Ordering::Relaxed);
    // Pairs with `abort`: it sets the flag and reads `last_cpu`, here it is the other way round; one sees the other.
    if next.abort_pending() && next.can_be_ended() {
        // SAFETY: the thread does not run; its frame is on its stack, and nobody else looks at it.
        super::divert(unsafe { &mut *frame }, next, How::Aborted);
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
        super::divert(unsafe { &mut *frame }, thread, How::Aborted);
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
        wake(thread);
    }
    let left = cpu.slice.get().saturating_sub(1);
    cpu.slice.set(left);
    let current = cpu.current();
    let idles = ptr::eq(current, &cpu.idle);
    if if idles { work_waits(cpu.id()) } else { left == 0 && cpu.run_queue.has_as_urgent_as(current.priority()) } {
        cpu.need_resched.set(true);
    }
}

/// Puts a thread that is READY where it can run, and wakes a CPU for it if one has nothing to do.
#[inline(always)]
pub(crate) fn make_ready(thread: &'static Thread) {
    let allowed = CpuSet::from_bits(thread.affinity.load(Ordering::Relaxed)).and(cpu::online());
    let last = CpuId::new(thread.last_cpu.load(Ordering::Relaxed) as usize);
    let idle = IDLE.load(Ordering::Relaxed).and(allowed);
    let homes = if idle.is_empty() { allowed } else { idle };
    let home = if homes.contains(last) { last } else { homes.lowest().expect("a thread may run somewhere") };
    let irqs = IrqsOff::new();
    let target = cpu::get(home).expect("an online CPU");
    emit(Event::Ready { thread: thread.number(), cpu: home.index() as u64 });
    target.run_queue.push(thread);
    // Pairs with `idle`: the CPU says that it is idle, then looks at the queues; here it is the other way round.
    fence(Ordering::SeqCst);
    let runs = target.current();
    if home != irqs.cpu().id() {
        if IDLE.load(Ordering::SeqCst).contains(home) || runs.priority() < thread.priority() {
            send_reschedule(&irqs, target);
        }
    } else if ptr::eq(runs, &target.idle) || runs.priority() < thread.priority() {
        preempt_here(&irqs, target);
    }
}

/// Something more urgent waits on this CPU than what it runs. In a handler that takes effect when it returns; a thread is
/// interrupted for it.
#[cold]
fn preempt_here(irqs: &IrqsOff, cpu: &Cpu) {
    cpu.need_resched.set(true);
    if !ptr::eq(cpu.current(), &cpu.idle) && cpu::on_threads_stack() {
        send_reschedule(irqs, cpu);
    }
}

/// Spreads new threads over the CPUs that they may run on.
pub(crate) fn first_home(affinity: CpuSet) -> CpuId {
    let allowed = affinity.and(cpu::online());
    // Whoever comes between takes the same one; the next is another again.
    let after = CpuSet::from_bits(u64::MAX << (LATEST_HOME.load(Ordering::Relaxed) + 1).min(63)).and(allowed);
    let home = after.lowest().or(allowed.lowest()).unwrap_or(cpu::current_id());
    LATEST_HOME.store(home.index() as u32, Ordering::Relaxed);
    home
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
///
/// # Panics
/// Where the caller may not wait: in a handler, with a lock held, with interrupts masked, with preemption off.
pub fn yield_now() {
    may_leave();
    // SAFETY: on a thread's stack, with interrupts on, by the assertions.
    unsafe { entry::give_way() }
}

/// Leaves the CPU for good: the end of a thread.
///
/// # Safety
/// On a thread's stack; nothing that the caller owns is needed any more.
pub(super) unsafe fn leave_for_good() -> ! {
    assert!(
        cpu::on_threads_stack() && cpu::masked_depth() == 0,
        "a thread ends in a handler, or with interrupts masked"
    );
    // SAFETY: by the caller's promise, with interrupts on by the assertion.
    unsafe { entry::leave_for_good() }
}

/// Asserts that the calling thread may be off its CPU for a while.
#[inline(always)]
pub(super) fn may_leave() {
    if !cpu::on_threads_stack() || cpu::masked_depth() != 0 || cpu::current().preempt_off.get() != 0 {
        may_not_leave();
    }
}

#[cold]
fn may_not_leave() -> ! {
    assert!(cpu::on_threads_stack(), "a switch inside an interrupt handler");
    assert!(cpu::masked_depth() == 0, "a switch with interrupts masked or a lock held");
    panic!("a switch with preemption off ({} deep)", cpu::current().preempt_off.get());
}
