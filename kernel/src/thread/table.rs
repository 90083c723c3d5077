//! Thread objects: made when there is none to use again, kept for ever.

use super::queue::List;
use super::{Shield, Thread, join, state};
use crate::sync::SpinLock;
use alloc::boxed::Box;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use smp::MAX_CPUS;

static FREE: SpinLock<List> = SpinLock::new("threads", List::new());
const FIRST: u32 = MAX_CPUS as u32 + 1;
static NUMBERS: AtomicU32 = AtomicU32::new(FIRST);
/// Objects without users that still hold what their threads were to run.
static UNBURIED: SpinLock<List> = SpinLock::new("unburied", List::new());
static WAITING: AtomicUsize = AtomicUsize::new(0);
static LIVE: AtomicUsize = AtomicUsize::new(0);
static POOLED: AtomicUsize = AtomicUsize::new(0);

/// A thread object, as new, with two users: the handle and the stack.
pub(super) fn allocate() -> &'static Thread {
    let free = FREE.lock().pop(); // and gives the lock up: what follows may allocate
    let thread = free.unwrap_or_else(|| {
        POOLED.fetch_add(1, Ordering::Relaxed);
        let thread: &'static Thread = Box::leak(Box::new(Thread::new()));
        register(thread);
        thread
    });
    LIVE.fetch_add(1, Ordering::Relaxed);
    thread.number.store(next_number(), Ordering::Relaxed);
    *thread.join.lock() = join::Join::new();
    for flag in [&thread.token, &thread.abort, &thread.quiet] {
        flag.store(false, Ordering::Relaxed);
    }
    thread.set_space(None);
    thread.set_user(core::ptr::null());
    thread.preempt_off.set(0);
    thread.shields.set(0);
    thread.users.store(2, Ordering::Relaxed);
    thread
}

/// The first of all thread objects.
static ALL: AtomicPtr<Thread> = AtomicPtr::new(core::ptr::null_mut());

/// Adds an object to those that readers outside find.
pub(crate) fn register(thread: &'static Thread) {
    let _ = ALL.fetch_update(Ordering::Release, Ordering::Relaxed, |first| {
        thread.all_link.store(first, Ordering::Relaxed);
        Some(core::ptr::from_ref(thread).cast_mut())
    });
}

/// Runs `f` on each object in use: number, name, state in a word, the CPU that it ran on last, users.
pub fn for_each(mut f: impl FnMut(u32, &str, &'static str, u32, u32)) {
    let mut at = ALL.load(Ordering::Acquire);
    // SAFETY: null, or an object that was registered.
    while let Some(thread) = unsafe { at.as_ref() } {
        let state = thread.state.load(Ordering::Relaxed);
        if state != state::FREE {
            let (bytes, length) = thread.name_bytes();
            let name = core::str::from_utf8(&bytes[..length]).unwrap_or("?");
            let (cpu, users) = (thread.last_cpu.load(Ordering::Relaxed), thread.users.load(Ordering::Relaxed));
            f(thread.number(), name, wire::debug::STATES[usize::from(state).min(4)], cpu, users);
        }
        at = thread.all_link.load(Ordering::Relaxed);
    }
}

/// Where the pointer to the first object is.
pub(crate) fn first_of_all_address() -> u64 {
    ALL.as_ptr() as u64
}

/// The next thread's number; those up to [`MAX_CPUS`] are the idle threads'.
fn next_number() -> u32 {
    NUMBERS
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(last.checked_add(1).unwrap_or(FIRST)))
        .unwrap_or(FIRST)
}

/// One user less. The last one gives the object back, or if what the thread was to run is still in it, leaves it to be
/// buried.
pub(super) fn release(thread: &'static Thread) {
    // Release: what this user did comes before the object's next life; acquire for the last, who starts it.
    if thread.users.fetch_sub(1, Ordering::AcqRel) == 1 {
        // SAFETY: the last user: the thread is dead or never ran, and no handle is left.
        if unsafe { (*thread.payload.get()).is_some() } {
            LIVE.fetch_sub(1, Ordering::Relaxed);
            UNBURIED.lock().push(thread);
            WAITING.fetch_add(1, Ordering::Relaxed);
        } else {
            give_back(thread);
        }
    }
}

/// Drops what threads were to run that never came to their end: it is other people's code, which may wait, so it is done
/// by threads that may, when they spawn, join, or [`super::quiesce`].
pub(super) fn bury() {
    while WAITING.load(Ordering::Relaxed) > 0 {
        // An abort of the one who buries must not lose what is buried.
        let _shield = Shield::new();
        let Some(thread) = UNBURIED.lock().pop() else { return };
        // SAFETY: out of the list it is this thread's alone.
        let payload = unsafe { (*thread.payload.get()).take() };
        thread.state.store(state::FREE, Ordering::Relaxed);
        FREE.lock().push(thread);
        drop(payload);
        // Release: whoever sees that none waits sees them dropped.
        WAITING.fetch_sub(1, Ordering::Release);
    }
}

/// Dead threads whose payloads are not dropped yet; those too that somebody is just burying.
pub(super) fn unburied() -> usize {
    WAITING.load(Ordering::Acquire)
}

/// Gives an object back that has no users.
pub(super) fn give_back(thread: &'static Thread) {
    thread.state.store(state::FREE, Ordering::Relaxed);
    LIVE.fetch_sub(1, Ordering::Relaxed);
    FREE.lock().push(thread);
}

/// Thread objects in use: threads that live, and dead ones that wait to be joined or reaped.
#[must_use]
pub fn live() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// Thread objects there are, in use or not; each is one allocation.
pub(crate) fn pooled() -> u64 {
    POOLED.load(Ordering::Relaxed) as u64
}
