//! Parking and waking: (6) and (7) of a thread's life, but for what the epilogue of the switch does.

use super::switch::{make_ready, may_leave};
use super::token::Token;
use super::{Shield, Thread, state};
use crate::cpu;
use crate::cpu::entry;
use crate::trace::{Event, emit};
use core::sync::atomic::Ordering;

/// Waits until somebody unparks this thread, unless somebody did since the last time. May return without that too, so
/// the caller looks again at what it waits for. An abort wakes it.
///
/// ```no_run
/// use core::sync::atomic::{AtomicBool, Ordering};
/// use kernel::thread::{self, SpawnError};
///
/// # fn example() -> Result<(), SpawnError> {
/// static READY: AtomicBool = AtomicBool::new(false);
/// let waiter = thread::spawn(|| {
///     while !READY.load(Ordering::Acquire) {
///         thread::park();
///     }
/// })?;
/// READY.store(true, Ordering::Release);
/// waiter.thread().unpark();
/// # Ok(())
/// # }
/// ```
///
/// # Panics
/// Where the caller may not wait: in a handler, with a lock held, with interrupts masked, with preemption off.
pub fn park() {
    park_by(cpu::current(), Token::take, true);
    // Without a shield around it, an abort takes effect here.
    drop(Shield::new());
}

/// As [`park`], for a wait of the kernel's, which leaves the user's unparks to the user. The caller holds aborts off; `thread` is the
/// one that calls.
#[inline(always)]
pub(super) fn park_shielded(thread: &'static Thread) {
    park_by(thread, Token::take_wake, true);
}

/// As [`park_shielded`], but an abort does not keep it from parking: whoever waits on although it was aborted lets others run.
pub(super) fn park_regardless(thread: &'static Thread) {
    park_by(thread, Token::take_wake, false);
}

#[inline(always)]
fn park_by(thread: &'static Thread, take: impl Fn(&Token) -> bool, heeds_aborts: bool) {
    if take(&thread.token) || heeds_aborts && thread.abort_pending() {
        return;
    }
    may_leave();
    // SAFETY: on a thread's stack, with interrupts on, by the assertions.
    unsafe { entry::park() };
    take(&thread.token);
}

/// (7) Lets a thread go on from its user's park, now or the next time that it gets there.
pub(super) fn unpark(thread: &'static Thread) {
    thread.token.unpark();
    if comes_back(thread) {
        make_ready(thread);
    }
}

/// (7) Ends the wait that a thread is in, or begins next, whoever's it is.
pub(crate) fn wake(thread: &'static Thread) {
    if wakes(thread) {
        make_ready(thread);
    }
}

/// (7) As [`wake`], for a caller that says where it goes on: whether it is READY now, and nowhere yet.
#[inline(always)]
pub(super) fn wakes(thread: &'static Thread) -> bool {
    thread.token.wake();
    comes_back(thread)
}

/// (7) A token was left: whether the thread was parked, and is READY now.
#[inline(always)]
fn comes_back(thread: &'static Thread) -> bool {
    let ready = becomes_ready(thread);
    if !ready {
        emit(Event::Unpark { thread: thread.number() });
    }
    ready
}

/// Whether the thread was parked, and is READY now. For one caller only.
#[inline(always)]
pub(super) fn becomes_ready(thread: &'static Thread) -> bool {
    // Where it fails, too: see the epilogue.
    thread.state.compare_exchange(state::PARKED, state::READY, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}
