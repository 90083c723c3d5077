//! How a thread came to its end, from the first cause on.

use super::Watermark;
use super::death::{Fault, FaultKind, Mode};
use crate::trap::backtrace::Backtrace;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU8, Ordering};
use smp::CpuId;

/// The ways in which a thread ends. Their numbers less one are their places in [`wire::trace::event::HOW`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum How {
    /// Its function returned.
    Returned = 1,
    /// It called [`super::exit`].
    Exited = 2,
    /// Somebody asked for it.
    Aborted = 3,
    /// It did what it must not: what that was is noted before.
    Faulted = 4,
}

impl How {
    /// Its place in [`wire::trace::event::HOW`].
    pub(super) const fn code(self) -> u32 {
        self as u32 - 1
    }
}

/// What a thread died of, where, and how it got there.
#[derive(Clone, Copy)]
pub(crate) struct Cause {
    pub(crate) fault: Fault,
    pub(crate) cpu: CpuId,
    pub(crate) backtrace: Backtrace,
}

/// A thread's end. Written by the CPU that runs the thread, or is about to; read by it too, and by the joiner afterwards.
pub(super) struct End {
    how: AtomicU8,
    cause: UnsafeCell<Cause>,
}

// SAFETY: the cause is written by the one CPU that runs the thread, before the end is known to others.
unsafe impl Sync for End {}

impl End {
    pub(super) const fn new() -> Self {
        let used = Watermark::AtLeast(0);
        let fault =
            Fault { kind: FaultKind::Page, address: 0, there: None, rip: 0, used, stack_bytes: 0, mode: Mode::Kernel };
        let none = Cause { fault, cpu: CpuId::new(0), backtrace: Backtrace::EMPTY };
        Self { how: AtomicU8::new(0), cause: UnsafeCell::new(none) }
    }

    /// For the object's next thread.
    #[inline]
    pub(super) fn reset(&self) {
        self.how.store(0, Ordering::Relaxed);
    }

    /// How it ends, if that is known.
    #[inline]
    pub(super) fn get(&self) -> Option<How> {
        match self.how.load(Ordering::Relaxed) {
            1 => Some(How::Returned),
            2 => Some(How::Exited),
            3 => Some(How::Aborted),
            4 => Some(How::Faulted),
            _ => None,
        }
    }

    /// Notes how it ends, unless that is known; gives what is known then.
    #[inline]
    pub(super) fn note(&self, how: How) -> How {
        self.get().unwrap_or_else(|| {
            self.how.store(how as u8, Ordering::Relaxed);
            how
        })
    }

    /// Notes a fault, unless it is known how the thread ends.
    pub(super) fn note_fault(&self, cause: Cause) {
        if self.get().is_none() {
            // SAFETY: on the CPU that runs the thread, and nobody else looks before it is known.
            unsafe { *self.cause.get() = cause }
            self.note(How::Faulted);
        }
    }

    /// What was noted of a fault: of the thread that calls, or one that has ended.
    pub(super) fn cause(&self) -> &Cause {
        // SAFETY: it is not written any more.
        unsafe { &*self.cause.get() }
    }

    /// The fault that was noted.
    pub(super) fn fault(&self) -> Fault {
        self.cause().fault
    }
}
