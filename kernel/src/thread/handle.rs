//! Handles that anybody can have of a thread: to wake it, to ask for its end, and to look at it.

use super::{Name, Shield, Thread, park, state, switch, table};
use crate::cpu;
use crate::trace::{Event, emit};
use core::fmt;
use core::hash::{Hash, Hasher};
use core::ptr;
use core::sync::atomic::Ordering;
use smp::CpuId;

/// A thread, as it was named once. Threads' objects are used again; a handle knows whether its thread is the one that has the
/// object now, and does nothing to another.
///
/// ```no_run
/// use kernel::thread::{self, Builder, SpawnError};
///
/// # fn example() -> Result<(), SpawnError> {
/// let waker = Builder::new().spawn(|| thread::park())?.detach();
/// waker.unpark(); // or waker.abort(), from an interrupt handler, too
/// kernel::println!("{:?} is {}", waker.name(), waker.state());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Handle {
    thread: &'static Thread,
    number: u32,
}

impl PartialEq for Thread {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self, other)
    }
}

impl Eq for Thread {}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.name(), f)
    }
}

/// What a thread is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits for a CPU.
    Ready,
    /// It runs.
    Running,
    /// It waits to be woken, or for a time.
    Parked,
    /// It has ended, and waits to be joined, or its stack to be reaped.
    Dead,
    /// It is no more.
    Gone,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Parked => "parked",
            Self::Dead => "dead",
            Self::Gone => "gone",
        })
    }
}

/// The calling thread.
#[must_use]
pub fn current() -> Handle {
    Handle::of(cpu::current())
}

impl Handle {
    pub(super) fn of(thread: &'static Thread) -> Self {
        Self { thread, number: thread.number() }
    }

    pub(super) const fn object(&self) -> &'static Thread {
        self.thread
    }

    /// Its number, by which traces know it: no other thread of the run has it.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.number
    }

    /// Its name; `None` if it is no more.
    #[must_use]
    pub fn name(&self) -> Option<Name> {
        let name = self.thread.name();
        (!self.is_gone()).then_some(name)
    }

    pub(super) fn is_gone(&self) -> bool {
        self.thread.number() != self.number
    }

    /// What it is at, at this moment.
    #[must_use]
    pub fn state(&self) -> State {
        let found = self.thread.state.load(Ordering::Acquire);
        if self.is_gone() {
            return State::Gone;
        }
        match found {
            state::READY => State::Ready,
            state::RUNNING => State::Running,
            state::PARKED => State::Parked,
            state::DEAD => State::Dead,
            _ => State::Gone,
        }
    }

    /// Asks it to end, wherever it is; see the module's text for what that means. Returns at once. Whoever asks may be a
    /// handler, and may be inside the thread itself: then it ends when the handler returns. Asking twice is asking once, and
    /// a thread that is no more is not there to mind.
    ///
    /// # Panics
    /// In the thread, when it ends, if it is essential.
    pub fn abort(&self) {
        let _shield = Shield::new();
        emit(Event::Abort { thread: self.number });
        if self.thread.ask_to_end(self.number) {
            park::wake(self.thread);
            switch::kick(self.thread);
        }
    }

    /// Lets it go on from [`park`](super::park), now or the next time it gets there. A thread that has ended since is not
    /// there to mind; one that uses its object again may wake for nothing, which `park` allows for.
    pub fn unpark(&self) {
        let _shield = Shield::new();
        if !self.is_gone() {
            park::unpark(self.thread);
        }
    }

    /// The CPU that it runs on, or ran on last; before it first runs, the one where it waits to. `None` if it is no more.
    #[must_use]
    pub fn last_cpu(&self) -> Option<CpuId> {
        let cpu = CpuId::new(self.thread.last_cpu.load(Ordering::Relaxed) as usize);
        (!self.is_gone()).then_some(cpu)
    }

    /// Times that it was given a CPU; `None` if it is no more.
    #[must_use]
    pub fn turns(&self) -> Option<u64> {
        let turns = self.thread.turns.get();
        (!self.is_gone()).then_some(turns)
    }

    /// A word that the thread's users keep with it, 0 at first; `None` if it is no more.
    #[must_use]
    pub fn data(&self) -> Option<u64> {
        let data = self.thread.data.load(Ordering::Acquire);
        (!self.is_gone()).then_some(data)
    }
}

/// Keeps a word with the calling thread, for others to see by [`Handle::data`].
pub fn set_data(data: u64) {
    cpu::current().data.store(data, Ordering::Release);
}

impl Hash for Handle {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'#{}", self.name().unwrap_or(const { Name::new("gone") }), self.number)
    }
}

/// Runs `f` on each thread that there is.
pub fn for_each_handle(mut f: impl FnMut(Handle)) {
    table::for_each_object(|thread| {
        let handle = Handle::of(thread);
        // It may just have come free.
        if handle.number != 0 {
            f(handle);
        }
    });
}
