//! Thread objects: made when there is none to use again, kept for ever.

use super::queue::List;
use super::{Shield, Thread, state};
use crate::cpu;
use crate::sync::SpinLock;
use alloc::alloc::alloc;
use core::alloc::Layout;
use core::ptr;
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

/// Where a thread object goes when it is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// To those that are used again.
    Pool,
    /// Back to its owner.
    Owner,
    /// Nowhere: it is a CPU's idle thread, which does not end.
    Cpu,
}

/// A thread object, as new, or `None` if there is no memory for one. Who starts the thread says how many users it has.
#[inline(always)]
pub(super) fn allocate() -> Option<&'static Thread> {
    let thread = match take_spare() {
        Some(thread) => thread,
        None => take_or_create()?,
    };
    prepare(thread);
    Some(thread)
}

/// The object that was given back last on this CPU, if nobody took it: in a word of its own, which takes no lock.
#[inline(always)]
fn take_spare() -> Option<&'static Thread> {
    let spare = &cpu::this_racy().spare_thread;
    // SAFETY: null, or an object that was kept. If the caller is moved to another CPU in between, it takes that one's.
    unsafe { spare.swap(ptr::null_mut(), Ordering::Acquire).as_ref() }
}

fn take_or_create() -> Option<&'static Thread> {
    let free = FREE.lock().pop(); // and gives the lock up: what follows may allocate
    free.or_else(take_from_others).or_else(create)
}

/// An object that another CPU keeps.
fn take_from_others() -> Option<&'static Thread> {
    let mut kept = cpu::all().map(|cpu| &cpu.spare_thread).filter(|spare| !spare.load(Ordering::Relaxed).is_null());
    // SAFETY: as in `take_spare`.
    kept.find_map(|spare| unsafe { spare.swap(ptr::null_mut(), Ordering::Acquire).as_ref() })
}

#[cold]
fn create() -> Option<&'static Thread> {
    // SAFETY: a thread object is not of size 0; what is written lives for ever.
    let thread: &'static Thread = unsafe {
        let memory = alloc(Layout::new::<Thread>()).cast::<Thread>();
        if memory.is_null() {
            return None;
        }
        memory.write(Thread::new(Home::Pool));
        &*memory
    };
    POOLED.fetch_add(1, Ordering::Relaxed);
    register(thread);
    Some(thread)
}

/// Makes an object one of a new thread.
#[inline(always)]
pub(super) fn prepare(thread: &'static Thread) {
    LIVE.fetch_add(1, Ordering::Relaxed);
    if thread.home == Home::Owner && !thread.is_registered.swap(true, Ordering::Relaxed) {
        register(thread);
    }
    // Before it has its number, which another had once if there were so many threads that numbers began anew.
    thread.abort.store(0, Ordering::Relaxed);
    thread.number.store(next_number(), Ordering::Relaxed);
    thread.join.reset();
    thread.end.reset();
    thread.token.reset();
    thread.preempt_off.set(0);
    thread.shields.set(0);
    thread.turns.set(0);
    thread.data.store(0, Ordering::Relaxed);
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

/// Runs `f` on each object in use.
pub(super) fn for_each_object(mut f: impl FnMut(&'static Thread)) {
    let mut at = ALL.load(Ordering::Acquire);
    // SAFETY: null, or an object that was registered.
    while let Some(thread) = unsafe { at.as_ref() } {
        if thread.state.load(Ordering::Relaxed) != state::FREE {
            f(thread);
        }
        at = thread.all_link.load(Ordering::Relaxed);
    }
}

/// Where the pointer to the first object is.
pub(crate) fn first_of_all_address() -> u64 {
    ALL.as_ptr() as u64
}

/// The next thread's number; those up to [`MAX_CPUS`] are the idle threads'.
#[inline(always)]
fn next_number() -> u32 {
    loop {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        if number >= FIRST {
            return number;
        }
        // It has wrapped.
        NUMBERS.fetch_max(FIRST, Ordering::Relaxed);
    }
}

/// One user less. The last one gives the object back, or if what the thread was to run is still in it, leaves it to be
/// buried.
#[inline(always)]
pub(super) fn release(thread: &'static Thread) {
    // Release: what this user did comes before the object's next life; acquire for the last, who starts it.
    if thread.users.fetch_sub(1, Ordering::AcqRel) == 1 {
        if thread.owns_something() {
            leave_to_be_buried(thread);
        } else {
            give_back(thread);
        }
    }
}

#[cold]
fn leave_to_be_buried(thread: &'static Thread) {
    LIVE.fetch_sub(1, Ordering::Relaxed);
    WAITING.fetch_add(1, Ordering::Relaxed);
    UNBURIED.lock().push(thread);
}

/// Drops what threads were to run that never came to their end: it is other people's code, which may wait, so it is done
/// by threads that may, when they spawn, join, or [`super::quiesce`].
#[inline(always)]
pub(super) fn bury() {
    if WAITING.load(Ordering::Relaxed) > 0 {
        bury_all();
    }
}

#[cold]
fn bury_all() {
    while WAITING.load(Ordering::Relaxed) > 0 {
        // An abort of the one who buries must not lose what is buried.
        let _shield = Shield::new();
        let Some(thread) = UNBURIED.lock().pop() else { return };
        // SAFETY: out of the list it is this thread's alone.
        unsafe { thread.drop_what_it_owns() };
        put_back(thread);
        // Release: whoever sees that none waits sees them dropped.
        WAITING.fetch_sub(1, Ordering::Release);
    }
}

/// Dead threads whose payloads are not dropped yet; those too that somebody is just burying.
pub(super) fn unburied() -> usize {
    WAITING.load(Ordering::Acquire)
}

/// Gives an object back that has no users.
#[inline(always)]
pub(super) fn give_back(thread: &'static Thread) {
    LIVE.fetch_sub(1, Ordering::Relaxed);
    put_back(thread);
}

#[inline(always)]
fn put_back(thread: &'static Thread) {
    thread.number.store(0, Ordering::Relaxed);
    // Release: pairs with the acquire of the owner who uses it again; the pool has a lock for that.
    thread.state.store(state::FREE, Ordering::Release);
    if thread.home == Home::Pool {
        let (spare, word) = (&cpu::this_racy().spare_thread, ptr::from_ref(thread).cast_mut());
        if spare.compare_exchange(ptr::null_mut(), word, Ordering::Release, Ordering::Relaxed).is_err() {
            FREE.lock().push(thread);
        }
    }
}

/// Takes the lock of the free objects with that lock in hand: the fault `lock-recursion`.
pub(super) fn take_twice() {
    let _first = FREE.lock();
    drop(FREE.lock());
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
