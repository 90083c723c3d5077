//! The one way out of a thread, and the reaping of the stacks that threads leave behind.
//!
//! ```text
//!   on the thread's own stack                          on the CPU's own stack
//!   (4) end: preemption off for good;
//!       reap what others left, interrupts on,
//!       no lock held                       ── leave ──▶ left_for_good:
//!                                                        joiner woken; stack left as OffStack
//!   (5) the next that ends, an idle CPU, a spawn without memory, or the end of the run: reap
//! ```
//! Since preemption stays off from the reaping to the switch, each CPU takes all that is pending before it leaves one
//! stack: never more are pending than there are CPUs, which is the reaper's capacity.

use super::join::{Death, Fault};
use super::pending::{self, DeadStack};
use super::queue::List;
use super::switch::{self, Why};
use super::{PreemptOff, Shield, Thread, state, table};
use crate::bug;
use crate::cpu;
use crate::cpu::descriptors::{KERNEL_CODE, KERNEL_DATA};
use crate::cpu::entry::{self, Frame, RFLAGS_FIXED, RFLAGS_IF};
use crate::mem::slots::{Kind, SlotId};
use crate::mem::{custody, guarded, oracle};
use crate::perturb::{self, Point};
use crate::sync::may_wait;
use crate::time;
use crate::trace::{Event, emit};
use crate::trap::backtrace::Backtrace;
use crate::trap::fault;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use smp::{CpuId, MayWait, OffStack};
use wire::cmdline::Bug;

/// How a thread came to its end.
#[derive(Clone, Copy)]
#[expect(clippy::large_enum_variant, reason = "made by exception handlers, which have no heap")]
pub(crate) enum Left {
    Returned,
    Exited,
    Aborted,
    /// With the CPU and the backtrace.
    Faulted(Fault, CpuId, Backtrace),
}

impl Left {
    /// Its place in [`wire::trace::event::HOW`].
    const fn code(self) -> u32 {
        match self {
            Self::Returned => 0,
            Self::Exited => 1,
            Self::Aborted => 2,
            Self::Faulted(..) => 3,
        }
    }

    /// What a joiner is told; `None` if the thread's function returned a value.
    pub(super) const fn death(self) -> Option<Death> {
        match self {
            Self::Returned => None,
            Self::Exited => Some(Death::Exited),
            Self::Aborted => Some(Death::Aborted),
            Self::Faulted(fault, ..) => Some(Death::Fault(fault)),
        }
    }
}

/// Threads that have begun to end and whose stacks are not free yet.
static DYING: AtomicUsize = AtomicUsize::new(0);
static EXIT_DELAY: AtomicU32 = AtomicU32::new(0);

/// Ends the thread that calls: the self-abort. Its stack is reaped by others.
///
/// What the call itself takes of the stack suffices, some 100 bytes: the end begins at its top, since nothing that is on it is needed.
pub fn exit() -> ! {
    let top = cpu::current().stack().map_or(0, SlotId::end);
    // SAFETY: the calling thread's own stack.
    unsafe { entry::restart(top - 8, exited) }
}

extern "C" fn exited() -> ! {
    end(Left::Exited)
}

/// Busy iterations that every thread spends between its last reaping and leaving its stack. Widens the window that the
/// wrong order of the two would open; for tests.
pub fn set_exit_delay(iterations: u32) {
    EXIT_DELAY.store(iterations, Ordering::Relaxed);
}

/// (4) Ends the thread that runs.
pub(crate) fn end(how: Left) -> ! {
    let thread = cpu::current();
    thread.shields.set(thread.shields.get() + 1);
    let how = thread.join.lock().left.get_or_insert(how).code();
    emit(Event::End { how });
    DYING.fetch_add(1, Ordering::Relaxed);
    // For good: undone when the object is used again.
    core::mem::forget(PreemptOff::new());
    if bug::armed(Bug::JoinBeforeOffStack) {
        complete(thread);
        delay();
    }
    if bug::armed(Bug::PublishBeforeSwitch)
        && let Some(stack) = take_stack(thread)
    {
        reap_here();
        publish(stack);
    } else {
        reap_here();
    }
    delay();
    perturb::at(Point::BeforeSwitch);
    // SAFETY: nothing on this stack is needed any more.
    unsafe { switch::leave(Why::Exits) };
    unreachable!("a thread that left for good was resumed")
}

fn delay() {
    for _ in 0..EXIT_DELAY.load(Ordering::Relaxed) {
        core::hint::black_box(());
    }
}

/// (4) In the switch epilogue: the CPU has left the thread's stack. Joiner first: once the stack is left for reaping,
/// another CPU may release the thread's object.
pub(super) fn left_for_good(thread: &'static Thread) {
    let stack = take_stack(thread);
    if let Some(stack) = stack {
        emit(Event::OffStack { slot: stack.into_bits(), pending: pending::count() as u64 });
    }
    thread.state.store(state::DEAD, Ordering::Relaxed);
    if !bug::armed(Bug::JoinBeforeOffStack) {
        complete(thread);
    }
    if let Some(stack) = stack {
        publish(stack);
    }
}

fn take_stack(thread: &Thread) -> Option<SlotId> {
    SlotId::from_bits(thread.stack.swap(0, Ordering::Relaxed))
}

fn publish(stack: SlotId) {
    perturb::at(Point::BeforePublish);
    pending::leave(OffStack::from_epilogue(DeadStack(stack)));
    perturb::at(Point::AfterPublish);
}

fn complete(thread: &Thread) {
    let waiter = {
        let mut join = thread.join.lock();
        join.done = true;
        join.waiter.take()
    };
    if let Some(waiter) = waiter {
        switch::unpark(waiter);
    }
}

/// Stacks that wait to be reaped, at a glance.
#[must_use]
pub fn pending_stacks() -> usize {
    pending::count()
}

/// Reaps until the stack of every thread that has ended, or is just ending, is free. How many are not after
/// the patience of the command line: 0, unless something is broken.
pub fn quiesce() -> usize {
    let since = time::now();
    loop {
        reap();
        // Acquire: pairs with the release in `take_down`. Whose stack is reaped by then is buried after it.
        let dying = DYING.load(Ordering::Acquire);
        table::bury();
        custody::collect();
        oracle::give_all_back();
        if dying == 0 && custody::waiting() == 0 && table::unburied() == 0 || time::now() - since > time::patience() {
            return dying + custody::waiting();
        }
        switch::yield_now();
    }
}

/// (5) Unmaps all stacks that threads have left. How many there were.
pub fn reap() -> usize {
    if pending::count() == 0 {
        return 0;
    }
    let _shield = Shield::new();
    let _here = PreemptOff::new();
    pending::take_all(&mut may_wait(0), take_down)
}

/// (4) Reaps what has to be reaped before this CPU leaves one more stack.
fn reap_here() {
    pending::take_before_leaving(&mut may_wait(0), take_down);
}

fn take_down(batch: &mut dyn Iterator<Item = DeadStack>, permit: &mut MayWait) -> usize {
    emit(Event::Reap { stacks: pending::count() as u32 });
    let mut dead = List::new();
    let slots = batch.map(|dead| dead.0).chain(reaped_before()).inspect(|slot| {
        if let Some(owner) = slot.take_owner() {
            dead.push(owner);
        }
    });
    let stats = &cpu::this_racy().stats;
    let ipis = stats.shootdown_ipis.get();
    let count = guarded::take_down(slots, true, permit);
    stats.reap_ipis.add(stats.shootdown_ipis.get() - ipis);
    stats.reaped.add(count as u64);
    stats.reap_batches.add(u64::from(count > 0));
    while let Some(thread) = dead.pop() {
        table::release(thread);
    }
    DYING.fetch_sub(count, Ordering::Release);
    count
}

/// The fault `double-reap`: a stack that was reaped before, and may be another thread's by now.
fn reaped_before() -> Option<SlotId> {
    static SLOT: AtomicU32 = AtomicU32::new(0);
    if !bug::armed(Bug::DoubleReap) {
        return None;
    }
    let mine = cpu::current().stack().map_or(0, SlotId::into_bits);
    SlotId::from_bits(SLOT.swap(mine, Ordering::Relaxed)).filter(|slot| slot.kind() == Kind::Stack)
}

/// Makes the thread end itself when it is resumed by `frame`: on its own stack, from the top, since nothing that is on
/// it matters any more.
pub(crate) fn divert(frame: &mut Frame, thread: &Thread, how: Left) {
    thread.join.lock().left.get_or_insert(how);
    let top = thread.stack().expect("a thread that can be ended has a stack").end();
    *frame = Frame {
        rip: landing as *const () as u64,
        cs: KERNEL_CODE.into(),
        rflags: RFLAGS_IF | RFLAGS_FIXED,
        rsp: top - 8, // as if called
        ss: KERNEL_DATA.into(),
        ..Frame::default()
    };
}

extern "C" fn landing() -> ! {
    let thread = cpu::current();
    // For good: what is told is told as a whole, and the end that follows is the only one.
    core::mem::forget(Shield::new());
    let left = thread.join.lock().left;
    if let Some(Left::Faulted(fault, cpu, backtrace)) = &left {
        fault::tell(thread, fault, *cpu, backtrace);
    }
    end(Left::Aborted) // or what `divert` noted already
}
