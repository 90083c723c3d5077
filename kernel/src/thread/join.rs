//! Handles: waiting for a thread's end, asking for it, and learning how it came.
//!
//! ```text
//!            (1) a joiner comes              (3) the CPU has left the thread's stack
//!   nobody ─────────────────────▶ waiter ──────────────────────────────────────────▶ done
//!      ▲────(2) it gives up──────────┘                                                ▲
//!      └──────────────────(3)────────────────────────────────────────────────────────┘
//! ```
//! One word, [`Join`]: (1) and (2) are made by the joiner, (3) by the epilogue of the switch; each is one atomic step.

use super::circle::leads_to;
use super::end::How;
use super::{Death, Handle, Shield, Thread, park, state, table};
use crate::bug;
use crate::cpu;
use crate::time;
use crate::trace::{Event, emit};
use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use core::time::Duration;
use wire::cmdline::Bug;

/// Who waits for a thread's end, or that it has come.
pub(super) struct Join(AtomicPtr<Thread>);

/// The word for an end that has come: the address of no thread.
const DONE: *mut Thread = ptr::without_provenance_mut(1);

impl Join {
    pub(super) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// For the object's next thread.
    pub(super) fn reset(&self) {
        self.0.store(ptr::null_mut(), Ordering::Relaxed);
    }

    /// (3) Whoever waited is to be woken.
    #[inline]
    pub(super) fn complete(&self) -> Option<&'static Thread> {
        // Release: who sees it sees how the thread ended; acquire: what the waiter did before it waited.
        let waiter = self.0.swap(DONE, Ordering::AcqRel);
        // SAFETY: null or a thread; an end comes once.
        unsafe { waiter.as_ref() }
    }

    #[inline]
    pub(super) fn is_done(&self) -> bool {
        self.0.load(Ordering::Acquire) == DONE
    }

    /// (1) Whether `me` is to wait: false if the end has come.
    #[inline]
    fn wait(&self, me: &'static Thread) -> bool {
        let me = ptr::from_ref(me).cast_mut();
        match self.0.compare_exchange(ptr::null_mut(), me, Ordering::AcqRel, Ordering::Acquire) {
            Err(found) if found != me => {
                assert!(found == DONE, "two threads wait for the end of one");
                false
            }
            _ => true,
        }
    }

    /// (2) Whether `me` has given up: false if the end has come.
    fn give_up(&self, me: &'static Thread) -> bool {
        let me = ptr::from_ref(me).cast_mut();
        self.0.compare_exchange(me, ptr::null_mut(), Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Why a thread's end was not waited for. The handle is given back.
pub enum JoinError<T> {
    /// It did not come in the time that was given.
    Timeout(JoinHandle<T>),
    /// The thread that waits is the one whose end it would wait for.
    Itself(JoinHandle<T>),
    /// The thread waits, itself or through others, for the end of the one that would wait for its: with a limit or without.
    Deadlock(JoinHandle<T>),
    /// Interrupt handlers do not wait.
    InInterrupt(JoinHandle<T>),
}

impl<T> JoinError<T> {
    /// The handle.
    #[must_use]
    pub fn into_handle(self) -> JoinHandle<T> {
        match self {
            Self::Timeout(handle) | Self::Itself(handle) | Self::Deadlock(handle) | Self::InInterrupt(handle) => handle,
        }
    }

    const fn handle(&self) -> &JoinHandle<T> {
        match self {
            Self::Timeout(handle) | Self::Itself(handle) | Self::Deadlock(handle) | Self::InInterrupt(handle) => handle,
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "Timeout",
            Self::Itself(_) => "Itself",
            Self::Deadlock(_) => "Deadlock",
            Self::InInterrupt(_) => "InInterrupt",
        }
    }

    const fn wait(&self) -> Wait {
        match self {
            Self::Timeout(_) => Wait::Timeout,
            Self::Itself(_) => Wait::Itself,
            Self::Deadlock(_) => Wait::Deadlock,
            Self::InInterrupt(_) => Wait::InInterrupt,
        }
    }
}

impl<T> fmt::Display for JoinError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.wait().text())
    }
}

impl<T> fmt::Debug for JoinError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple(self.name()).field(self.handle()).finish()
    }
}

impl<T> core::error::Error for JoinError<T> {}

/// A thread's handle. Dropping it lets the thread go on by itself.
///
/// ```no_run
/// use core::time::Duration;
/// use kernel::thread::{self, Builder, Death, JoinError, SpawnError};
///
/// # fn example() -> Result<(), SpawnError> {
/// let sleeper = Builder::new().spawn(|| thread::sleep(Duration::from_secs(3600)))?;
/// match sleeper.join_within(Duration::from_millis(10)) {
///     Err(JoinError::Timeout(sleeper)) => {
///         sleeper.abort();
///         assert_eq!(sleeper.join(), Err(Death::Aborted)); // and no CPU stands on its stack
///     }
///     other => kernel::println!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
pub struct JoinHandle<T> {
    handle: Handle,
    value: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

impl<T> JoinHandle<T> {
    /// # Safety
    /// The caller is a user of the object, and hands that over; the thread's function gives a `T`.
    pub(super) unsafe fn new(thread: &'static Thread) -> Self {
        Self { handle: Handle::of(thread), value: PhantomData }
    }

    /// The thread.
    #[must_use]
    pub const fn thread(&self) -> &Handle {
        &self.handle
    }

    const fn object(&self) -> &'static Thread {
        self.handle.object()
    }

    /// Waits for the thread's end. When this returns, no CPU stands on the thread's stack, and the thread's object may
    /// be used again. There is one handle, and one joiner:
    ///
    /// ```compile_fail,E0382
    /// # use kernel::thread::JoinHandle;
    /// fn twice(handle: JoinHandle<u64>) {
    ///     let _ = handle.join();
    ///     let _ = handle.join();
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Death`] if the thread ended without a value.
    ///
    /// # Panics
    /// Where [`join_within`](Self::join_within) has an error: the wait would never end. And where the caller may not wait: with a lock
    /// held, with interrupts masked, with preemption off.
    pub fn join(self) -> Result<T, Death> {
        table::bury();
        let shield = Shield::new();
        match self.wait(u64::MAX) {
            Wait::Over => self.take_end(),
            Wait::Aborted => self.never_mind(shield),
            why => panic!("{}", why.text()),
        }
    }

    /// Waits for the thread's end as [`join`](Self::join) does, for `limit` at most, to the precision of a timer tick.
    ///
    /// # Errors
    /// [`JoinError`] if that is too short, or would be, however long it were; it gives the handle back.
    ///
    /// # Panics
    /// Where the caller may not wait, but in a handler: with a lock held, with interrupts masked, with preemption off.
    pub fn join_within(self, limit: Duration) -> Result<Result<T, Death>, JoinError<T>> {
        if cpu::in_interrupt() {
            return Err(JoinError::InInterrupt(self));
        }
        table::bury();
        let shield = Shield::new();
        match self.wait(time::now().saturating_add(time::cycles(limit))) {
            Wait::Over => Ok(self.take_end()),
            Wait::Aborted => self.never_mind(shield),
            Wait::Timeout => Err(JoinError::Timeout(self)),
            Wait::Itself => Err(JoinError::Itself(self)),
            Wait::Deadlock => Err(JoinError::Deadlock(self)),
            Wait::InInterrupt => Err(JoinError::InInterrupt(self)),
        }
    }

    /// Waits until this time, in cycles. Aborts are held off, once at least.
    #[inline(always)]
    fn wait(&self, until: u64) -> Wait {
        let (me, thread) = (cpu::current(), self.object());
        if !cpu::on_threads_stack() {
            return Wait::InInterrupt;
        }
        if ptr::eq(me, thread) {
            return Wait::Itself;
        }
        me.set_waits_for(Some(thread));
        let outcome = if leads_to(thread, me) { Wait::Deadlock } else { wait_on(thread, me, until) };
        me.set_waits_for(None);
        outcome
    }

    /// The end has come: what it was. The caller holds aborts off.
    #[inline(always)]
    fn take_end(self) -> Result<T, Death> {
        // Released by hand below: an abort that comes through when the caller's shield is dropped must find the handle gone.
        let thread = ManuallyDrop::new(self).object();
        emit(Event::Joined { thread: thread.number() });
        let dead = thread.state.load(Ordering::Relaxed) == state::DEAD;
        assert!(dead, "joined a thread that still stands on its stack");
        let end = match thread.end.get() {
            // SAFETY: it has ended, and gives a `T`, by `new`.
            Some(How::Returned) => Ok(unsafe { thread.body.take() }.expect("a thread that returned left its value")),
            Some(How::Exited) => Err(Death::Exited),
            Some(How::Aborted) => Err(Death::Aborted),
            Some(How::Faulted) => Err(Death::Fault(thread.end.fault())),
            None => panic!("a thread that ended does not say how"),
        };
        let_go(thread);
        end
    }

    /// The caller was aborted while it waited.
    #[cold]
    fn never_mind(self, shield: Shield) -> ! {
        drop(self);
        drop(shield); // does not come back
        unreachable!("an aborted thread goes on");
    }

    /// Asks the thread to end, wherever it is; see the module's text for what that means. Returns at once: [`join`]
    /// waits for the end. From a handler, too.
    ///
    /// [`join`]: Self::join
    pub fn abort(&self) {
        self.handle.abort();
    }

    /// Whether the thread has left its stack for good.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.object().join.is_done()
    }

    /// Lets the thread go on by itself, as dropping the handle does; what is left can ask for its end, and wake it.
    #[must_use = "dropping the handle does the same"]
    pub fn detach(self) -> Handle {
        self.handle
    }
}

/// How a wait came to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Over,
    Timeout,
    Aborted,
    Itself,
    Deadlock,
    InInterrupt,
}

impl Wait {
    const fn text(self) -> &'static str {
        match self {
            Self::Over => "the thread has ended",
            Self::Timeout => "the thread has not ended in time",
            Self::Aborted => "the thread that waits was aborted",
            Self::Itself => "a thread waits for its own end",
            Self::Deadlock => "two threads, or more in a circle, wait for each other's end",
            Self::InInterrupt => "an interrupt handler waits for a thread's end",
        }
    }
}

/// Waits for the end of `thread` until this time. An abort of `me` ends the wait, unless a caller holds it off.
#[inline(always)]
fn wait_on(thread: &'static Thread, me: &'static Thread, until: u64) -> Wait {
    while thread.join.wait(me) {
        if bug::armed(Bug::LockRecursion) {
            table::take_twice();
        }
        if me.abort_pending() || until != u64::MAX {
            match wait_carefully(thread, me, until) {
                Wait::Over => {}
                other => return other,
            }
        } else {
            park::park_shielded(me);
        }
        if thread.join.is_done() {
            break;
        }
    }
    Wait::Over
}

/// One turn of [`wait_on`], where the wait may have another end.
#[inline(never)]
fn wait_carefully(thread: &'static Thread, me: &'static Thread, until: u64) -> Wait {
    let aborted = me.abort_pending();
    let over = match (aborted && me.shield_count() == 1, until != u64::MAX && time::now() >= until) {
        (true, _) => Wait::Aborted,
        (_, true) => Wait::Timeout,
        _ => Wait::Over,
    };
    if over != Wait::Over {
        return if thread.join.give_up(me) { over } else { Wait::Over };
    }
    if aborted {
        // The caller holds the abort off, so the wait goes on: parked, since the other may be less urgent than this one.
        super::sleep::park_for_a_tick();
    } else {
        super::sleep::park_until(until);
    }
    Wait::Over
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        let _shield = Shield::new();
        let_go(self.object());
    }
}

/// A handle is no more. Aborts are held off.
#[inline(always)]
fn let_go(thread: &'static Thread) {
    thread.is_joinable.store(false, Ordering::Release);
    table::release(thread);
}
