//! Handles: waiting for a thread's end, asking for it, and learning how it came.

use super::exit::Left;
use super::{Shield, Thread, state, switch, table};
use crate::bug;
use crate::cpu;
use crate::sync::SpinLock;
use crate::trace::{Event, emit};
use alloc::sync::Arc;
use core::fmt;
use core::ptr;
use core::sync::atomic::Ordering;
use wire::cmdline::Bug;
use wire::record::Guard;

/// What a thread's end needs to know of who waits for it.
pub(super) struct Join {
    /// How it came to its end, from the first cause on.
    pub(super) left: Option<Left>,
    /// It has left its stack.
    pub(super) done: bool,
    pub(super) waiter: Option<&'static Thread>,
}

impl Join {
    pub(super) const fn new() -> Self {
        Self { left: None, done: false, waiter: None }
    }
}

/// Why a thread has no value to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// It called [`super::exit`].
    Exited,
    /// Somebody aborted it.
    Aborted,
    /// It did what it must not.
    Fault(Fault),
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited => f.write_str("it ended itself"),
            Self::Aborted => f.write_str("it was aborted"),
            Self::Fault(fault) => fault.fmt(f),
        }
    }
}

impl core::error::Error for Death {}

/// What a thread died of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kind.
    pub kind: FaultKind,
    /// The address that was touched, for those that touch one.
    pub address: u64,
    /// The instruction that did it.
    pub rip: u64,
    /// Whose code that is.
    pub mode: Mode,
}

/// Where a thread is when it faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A thread of the kernel.
    Kernel,
    /// In user code.
    User,
    /// In the kernel, for a user thread: mostly in a system call. Its stack there is its privileged stack.
    SystemCall,
}

impl Mode {
    /// As words in front of `stack`, and behind what happened.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Kernel => ("", ""),
            Self::User => ("", " in user mode"),
            Self::SystemCall => ("privileged ", " in a system call"),
        }
    }
}

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A guard of its own stack, this many bytes past the edge.
    Guard(Guard, u64),
    /// A guard of its user stack, this many bytes past the edge.
    UserGuard(Guard, u64),
    /// Another address that is not mapped, or not for this.
    Page,
    /// Another exception, by its vector.
    Exception(u8),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, address, rip, mode } = self;
        let (stack, place) = mode.words();
        let (stack, guard, distance) = match kind {
            FaultKind::Guard(guard, distance) => (stack, guard, distance),
            FaultKind::UserGuard(guard, distance) => ("user ", guard, distance),
            FaultKind::Page => return write!(f, "page fault{place} at {address:#x}, rip {rip:#x}"),
            FaultKind::Exception(vector) => return write!(f, "exception {vector}{place} at rip {rip:#x}"),
        };
        let (what, side) = match guard {
            Guard::Front => ("overflow", "below"),
            Guard::Rear => ("underflow", "above"),
        };
        write!(f, "{stack}stack {what}: {address:#x} is {distance} bytes {side} the stack, at rip {rip:#x}")
    }
}

/// A thread's handle. Dropping it lets the thread go on by itself.
#[derive(Debug)]
pub struct JoinHandle<T> {
    thread: &'static Thread,
    value: Arc<SpinLock<Option<T>>>,
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_name(|name| f.write_str(name))
    }
}

impl<T> fmt::Debug for SpinLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SpinLock")
    }
}

impl<T> JoinHandle<T> {
    pub(super) const fn new(thread: &'static Thread, value: Arc<SpinLock<Option<T>>>) -> Self {
        Self { thread, value }
    }

    /// Waits for the thread's end. When this returns, no CPU stands on the thread's stack, and the thread's object may
    /// be used again.
    ///
    /// # Errors
    /// [`Death`] if the thread ended without a value.
    pub fn join(self) -> Result<T, Death> {
        table::bury();
        let shield = Shield::new();
        let me = cpu::current();
        assert!(!ptr::eq(me, self.thread), "a thread waits for its own end");
        loop {
            {
                let mut join = self.thread.join.lock();
                let done = if bug::armed(Bug::LockRecursion) { self.is_finished() } else { join.done };
                if done {
                    break;
                }
                join.waiter = Some(me);
            }
            if !me.abort_pending() {
                switch::park();
            } else if me.shield_count() > 1 {
                // The caller holds the abort off, so the wait goes on; parking is over for an aborted thread.
                switch::yield_now();
            } else {
                self.thread.join.lock().waiter = None;
                drop(self);
                drop(shield); // does not come back
                unreachable!("an aborted thread goes on");
            }
        }
        emit(Event::Joined { thread: self.thread.number() });
        let dead = self.thread.state.load(Ordering::Relaxed) == state::DEAD;
        assert!(dead, "joined a thread that still stands on its stack");
        let left = self.thread.join.lock().left.expect("a thread that ended says how");
        let end = match left.death() {
            Some(death) => Err(death),
            None => Ok(self.value.lock().take().expect("a thread that returned left its value")),
        };
        // Before the shield: an abort that comes through then must not leave the handle behind.
        drop(self);
        end
    }

    /// Asks the thread to end, wherever it is; see the module's text for what that means. Returns at once: [`join`]
    /// waits for the end.
    ///
    /// [`join`]: Self::join
    pub fn abort(&self) {
        let _shield = Shield::new();
        emit(Event::Abort { thread: self.thread.number() });
        self.thread.abort.store(true, Ordering::SeqCst);
        switch::unpark(self.thread);
        switch::kick(self.thread);
    }

    /// Whether the thread has left its stack for good.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        let _shield = Shield::new();
        self.thread.join.lock().done
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        let _shield = Shield::new();
        table::release(self.thread);
    }
}
