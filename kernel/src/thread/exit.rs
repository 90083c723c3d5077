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

use super::end::{Cause, How};
use super::pending::{self, DeadStack};
use super::queue::List;
use super::stack::{self, Former};
use super::{PreemptOff, Shield, Thread, cache, park, sleep, state, switch, table};
use crate::bug;
use crate::cpu;
use crate::cpu::descriptors::{KERNEL_CODE, KERNEL_DATA};
use crate::cpu::entry::{self, Frame, RFLAGS_FIXED, RFLAGS_IF};
use crate::mem::guarded::{self, TakeDown};
use crate::mem::slots::{Kind, SlotId, SlotList};
use crate::mem::{custody, oracle};
use crate::perturb::{self, Point};
use crate::stats;
use crate::sync::may_wait;
use crate::time;
use crate::trace::{Event, emit};
use crate::trap::fault;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use smp::{MayWait, OffStack};
use wire::cmdline::Bug;

/// Threads that have begun to end and whose stacks are not free yet.
static DYING: AtomicUsize = AtomicUsize::new(0);
static EXIT_DELAY: AtomicU32 = AtomicU32::new(0);

/// Ends the thread that calls: the self-abort. Its stack is reaped by others. Nothing that is on the stack is dropped, as with
/// `std::process::exit`: a thread that owns something there returns from its function.
///
/// What the call itself takes of the stack suffices, some 100 bytes: the end begins at its top, since nothing that is on it is needed.
///
/// # Panics
/// In a handler, with a lock held or interrupts masked; and if the thread is essential.
pub fn exit() -> ! {
    let (_, top) = cpu::current().stack_bounds();
    // SAFETY: the calling thread's own stack.
    unsafe { entry::restart(top.wrapping_sub(8), exited) }
}

extern "C" fn exited() -> ! {
    end(How::Exited)
}

/// Busy iterations that every thread spends between its last reaping and leaving its stack. Widens the window that the
/// wrong order of the two would open; for tests.
pub fn set_exit_delay(iterations: u32) {
    EXIT_DELAY.store(iterations, Ordering::Relaxed);
}

/// (4) Ends the thread that runs.
pub(crate) fn end(how: How) -> ! {
    let thread = cpu::current();
    thread.shields.set(thread.shields.get().wrapping_add(1));
    let how = thread.end.note(how);
    emit(Event::End { how: how.code() });
    if thread.essential.load(Ordering::Relaxed) {
        essential_ends(thread, how);
    }
    DYING.fetch_add(1, Ordering::Relaxed);
    // For good: undone when the object is used again.
    core::mem::forget(PreemptOff::new());
    if bug::armed(Bug::JoinBeforeOffStack) {
        if let Some(waiter) = thread.join.complete() {
            park::wake(waiter);
        }
        delay();
    }
    if bug::armed(Bug::PublishBeforeSwitch)
        && let Former::Mapped(slot) = thread.stack.take()
    {
        reap_here();
        publish(slot);
    } else {
        reap_here();
    }
    delay();
    perturb::at(Point::BeforeSwitch);
    // SAFETY: nothing on this stack is needed any more.
    unsafe { switch::leave_for_good() }
}

#[cold]
fn essential_ends(thread: &Thread, how: How) -> ! {
    panic!("the essential thread '{}' ends: {how:?}", thread.name())
}

fn delay() {
    for _ in 0..EXIT_DELAY.load(Ordering::Relaxed) {
        core::hint::black_box(());
    }
}

/// (4) In the switch epilogue: the CPU has left the thread's stack. What others lent comes back to them first, then the joiner
/// is woken: it may use both at once. Joiner before reaper: once the stack is left for reaping, another CPU may release the
/// thread's object.
///
/// Gives the joiner, if it was woken and is READY: whoever calls says where it goes on.
#[inline(always)]
pub(super) fn left_for_good(thread: &'static Thread) -> Option<&'static Thread> {
    let former = thread.stack.take();
    thread.slot_bits.store(0, Ordering::Relaxed);
    // Before the event: whoever finds it not dead looked before that.
    thread.state.store(state::DEAD, Ordering::Relaxed);
    if let Former::Mapped(slot) = former {
        emit(Event::OffStack { slot: slot.into_bits(), pending: pending::count() as u64 });
    }
    let to_reap = match former {
        Former::Mapped(slot) => not_kept(slot, thread),
        Former::Bare(lender) => {
            lender.give_back();
            None
        }
        Former::None => None,
    };
    let waiter = if bug::armed(Bug::JoinBeforeOffStack) { None } else { thread.join.complete() };
    let woken = waiter.filter(|waiter| park::wakes(waiter));
    match to_reap {
        Some(slot) => publish(slot),
        // Its stack was taken and published earlier than it should be: whoever reaps it releases the object.
        None if bug::armed(Bug::PublishBeforeSwitch) => {}
        None => {
            table::release(thread);
            // Release: whoever sees that nothing is dying sees it gone.
            DYING.fetch_sub(1, Ordering::Release);
        }
    }
    woken
}

/// The stack, if it has to be reaped: not if its owner has it back, or the CPU keeps it.
#[inline]
fn not_kept(slot: SlotId, thread: &'static Thread) -> Option<SlotId> {
    if slot.is_own_stack() {
        return if cache::keep(slot) { None } else { Some(slot) };
    }
    match slot.kind() {
        Kind::OnLoan if stack::return_lent(slot, thread) => None,
        _ => {
            if let Some(lender) = slot.lender() {
                lender.leave();
            }
            Some(slot)
        }
    }
}

fn publish(stack: SlotId) {
    perturb::at(Point::BeforePublish);
    pending::leave(OffStack::from_epilogue(DeadStack(stack)));
    perturb::at(Point::AfterPublish);
}

/// Stacks that wait to be reaped, at a glance.
#[must_use]
pub fn pending_stacks() -> usize {
    pending::count()
}

/// Reaps until the stack of every thread that has ended, or is just ending, is free, what the cache keeps too, and until what those
/// threads owned is dropped. How much of it is left after the patience of the command line: 0, unless something is broken.
///
/// # Panics
/// Where the caller may not wait: in a handler, with a lock held, with interrupts masked.
pub fn quiesce() -> usize {
    let since = time::now();
    let mut turn = 0u32;
    loop {
        cache::drain();
        reap();
        // Acquire: pairs with the release in `take_down`. Whose stack is reaped by then is buried after it.
        let dying = DYING.load(Ordering::Acquire);
        // Likewise, who ended since the cache was drained may have left a stack there.
        let cached = cache::kept();
        table::bury();
        custody::collect();
        // Looked at before it: what others have in hand may go aside until they let it go.
        let left = dying + cached + custody::waiting() + table::unburied();
        oracle::give_all_back();
        if left == 0 || time::now().saturating_sub(since) > time::patience() {
            return left;
        }
        // Who has some of it in hand may be less urgent, the idle thread too.
        let _shield = Shield::new();
        sleep::give_way_to_all(turn);
        turn = turn.wrapping_add(1);
    }
}

/// (5) Unmaps all stacks that threads have left. How many there were.
///
/// # Panics
/// Where the caller may not wait: in a handler, with a lock held, with interrupts masked.
pub fn reap() -> usize {
    if pending::count() == 0 {
        return 0;
    }
    let _shield = Shield::new();
    let _here = PreemptOff::new();
    pending::take_all(&mut may_wait(0), take_down)
}

/// (4) Reaps what has to be reaped before this CPU leaves one more stack.
#[inline(always)]
fn reap_here() {
    if pending::has_to_be_taken() {
        pending::take_before_leaving(&mut may_wait(0), take_down);
    }
}

fn take_down(mut stacks: SlotList, permit: &mut MayWait) -> usize {
    emit(Event::Reap { stacks: pending::count() as u32 });
    let (mut dead, mut ranges) = (List::new(), guarded::no_ranges());
    let mut down = TakeDown::new(&mut ranges);
    if let Some(again) = reaped_before() {
        stacks.push(again);
    }
    while let Some(slot) = stacks.pop() {
        if let Some(owner) = slot.take_owner() {
            dead.push(owner);
        }
        down.add(slot, slot.kind() != Kind::View);
    }
    let sent = &cpu::this_racy().stats.shootdown_ipis;
    let ipis = sent.get();
    let count = down.finish(permit);
    stats::add(stats::REAP_IPIS, sent.get().wrapping_sub(ipis));
    stats::add(stats::REAPED, count as u64);
    stats::count(stats::REAP_BATCHES);
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
    SlotId::from_bits(SLOT.swap(mine, Ordering::Relaxed)).filter(|slot| slot.is_own_stack())
}

/// Makes the thread end itself when it is resumed by `frame`: on its own stack, from the top, since nothing that is on
/// it matters any more. How it came to that is noted first, and if it was a fault, of what.
pub(crate) fn divert(frame: &mut Frame, thread: &Thread, how: How) {
    thread.end.note(how);
    let (_, top) = thread.stack_bounds();
    *frame = Frame {
        rip: landing as *const () as u64,
        cs: KERNEL_CODE.into(),
        rflags: RFLAGS_IF | RFLAGS_FIXED,
        rsp: top - 8, // as if called
        ss: KERNEL_DATA.into(),
        ..Frame::default()
    };
}

/// As [`divert`], for a fault.
pub(crate) fn divert_for(frame: &mut Frame, thread: &Thread, cause: Cause) {
    thread.end.note_fault(cause);
    divert(frame, thread, How::Faulted);
}

extern "C" fn landing() -> ! {
    let thread = cpu::current();
    // For good: what is told is told as a whole, and the end that follows is the only one.
    core::mem::forget(Shield::new());
    if thread.end.get() == Some(How::Faulted) {
        fault::tell(thread, thread.end.cause());
    }
    end(How::Aborted) // or what `divert` noted already
}
