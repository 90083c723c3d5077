//! Lists of threads, chained through the threads themselves: the run queue and the sleepers of a CPU.

use super::{Priority, Thread};
use crate::bug;
use crate::sync::SpinLock;
use core::ptr;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use smp::CpuId;
use wire::cmdline::Bug;
use x86_64::instructions::interrupts;

/// Threads in the order in which they came, chained by `link`. Whoever holds the list owns the links.
pub(crate) struct List {
    first: *const Thread,
    last: *const Thread,
}

// SAFETY: the pointers are to threads, which live for ever and are `Sync`.
unsafe impl Send for List {}

impl List {
    pub(crate) const fn new() -> Self {
        Self { first: ptr::null(), last: ptr::null() }
    }

    pub(crate) fn push(&mut self, thread: &'static Thread) {
        thread.link.store(ptr::null_mut(), Ordering::Relaxed);
        // SAFETY: null, or a thread that was pushed.
        match unsafe { self.last.as_ref() } {
            None => self.first = thread,
            Some(last) => last.link.store(ptr::from_ref(thread).cast_mut(), Ordering::Relaxed),
        }
        self.last = thread;
    }

    pub(crate) fn pop(&mut self) -> Option<&'static Thread> {
        self.take_first(|_| true)
    }

    fn iter(&self) -> impl Iterator<Item = &'static Thread> {
        // SAFETY: null, or a thread that was pushed; so are the links.
        core::iter::successors(unsafe { self.first.as_ref() }, |thread| unsafe {
            thread.link.load(Ordering::Relaxed).as_ref()
        })
    }

    /// Takes the first thread for which `wanted` holds.
    fn take_first(&mut self, wanted: impl Fn(&Thread) -> bool) -> Option<&'static Thread> {
        let mut before: Option<&'static Thread> = None;
        // SAFETY: null, or a thread that was pushed; so are the links.
        let mut at = unsafe { self.first.as_ref() };
        while let Some(thread) = at {
            let next: *const Thread = thread.link.load(Ordering::Relaxed);
            if wanted(thread) {
                match before {
                    None => self.first = next,
                    Some(before) => before.link.store(next.cast_mut(), Ordering::Relaxed),
                }
                if ptr::eq(self.last, thread) {
                    self.last = before.map_or(ptr::null(), ptr::from_ref);
                }
                return Some(thread);
            }
            before = at;
            // SAFETY: as above.
            at = unsafe { next.as_ref() };
        }
        None
    }
}

/// The threads that are READY to run on a CPU: the most urgent first, and of equally urgent ones the one that came first.
pub(crate) struct RunQueue {
    threads: SpinLock<ByPriority>,
    /// How many there are, to look without the lock.
    length: AtomicUsize,
    /// One more than the level of the most urgent, 0 if there is none; to look without the lock.
    highest: AtomicU8,
}

struct ByPriority {
    lists: [List; Priority::LEVELS as usize],
    /// Levels that have threads, a bit each.
    filled: u8,
}

impl ByPriority {
    const fn new() -> Self {
        Self { lists: [const { List::new() }; Priority::LEVELS as usize], filled: 0 }
    }

    /// One more than the highest level that has threads.
    const fn highest(&self) -> u8 {
        8 - self.filled.leading_zeros() as u8
    }

    #[inline]
    fn push(&mut self, thread: &'static Thread) {
        let level = thread.priority().level();
        self.lists[usize::from(level)].push(thread);
        self.filled |= 1 << level;
    }

    /// The first of the most urgent for which `wanted` holds.
    #[inline]
    fn take_first(&mut self, wanted: impl Fn(&Thread) -> bool) -> Option<&'static Thread> {
        let mut left = self.filled;
        while left != 0 {
            let level = 7 - left.leading_zeros();
            left ^= 1 << level;
            let list = &mut self.lists[level as usize];
            if let Some(thread) = list.take_first(&wanted) {
                if list.first.is_null() {
                    self.filled ^= 1 << level;
                }
                return Some(thread);
            }
        }
        None
    }
}

impl RunQueue {
    pub(crate) const fn new() -> Self {
        Self {
            threads: SpinLock::new("run queue", ByPriority::new()),
            length: AtomicUsize::new(0),
            highest: AtomicU8::new(0),
        }
    }

    /// How many there are, at a glance. Sequentially consistent: see `switch::make_ready` and `idle`.
    pub(crate) fn len(&self) -> usize {
        self.length.load(Ordering::SeqCst)
    }

    /// Whether there is one that is at least as urgent as this, at a glance.
    pub(crate) fn has_as_urgent_as(&self, priority: Priority) -> bool {
        self.highest.load(Ordering::Relaxed) > priority.level()
    }

    pub(crate) fn push(&self, thread: &'static Thread) {
        let mut threads = self.threads.lock();
        threads.push(thread);
        self.note(&threads, self.length.load(Ordering::Relaxed).wrapping_add(1));
    }

    fn note(&self, threads: &ByPriority, length: usize) {
        self.highest.store(threads.highest(), Ordering::Relaxed);
        self.length.store(length, Ordering::SeqCst);
    }

    /// Whether there is a thread that may run on `cpu`.
    pub(crate) fn has_for(&self, cpu: CpuId) -> bool {
        self.len() > 0
            && self.threads.lock().lists.iter().flat_map(List::iter).any(|thread| thread.may_run_on(cpu))
    }

    /// Takes the first thread that may run on `cpu`.
    pub(crate) fn take_for(&self, cpu: CpuId) -> Option<&'static Thread> {
        if self.len() == 0 {
            return None;
        }
        let mut threads = self.threads.lock();
        let taken = threads.take_first(|thread| thread.may_run_on(cpu))?;
        self.note(&threads, self.length.load(Ordering::Relaxed).wrapping_sub(1));
        Some(taken)
    }
}

/// The threads that wait for a time on a CPU, the earliest first, chained by `sleep_link`.
pub(crate) struct Sleepers(SpinLock<Earliest>);

struct Earliest(*const Thread);

// SAFETY: as for `List`.
unsafe impl Send for Earliest {}

impl Sleepers {
    pub(crate) const fn new() -> Self {
        Self(SpinLock::new("sleepers", Earliest(ptr::null())))
    }

    /// Adds `thread`, whose `wake_at` is set.
    pub(crate) fn add(&self, thread: &'static Thread) {
        let mut first = self.0.lock();
        if bug::armed(Bug::IrqUnsafe) {
            interrupts::enable_and_hlt(); // until one comes
            interrupts::disable();
        }
        let due = thread.wake_at.load(Ordering::Relaxed);
        let (mut before, mut at): (Option<&'static Thread>, _) = (None, first.0);
        // SAFETY: null, or a thread that was added; so are the links.
        while let Some(later) = unsafe { at.as_ref() }.filter(|t| t.wake_at.load(Ordering::Relaxed) <= due) {
            before = Some(later);
            at = later.sleep_link.load(Ordering::Relaxed);
        }
        thread.sleep_link.store(at.cast_mut(), Ordering::Relaxed);
        match before {
            None => first.0 = thread,
            Some(before) => before.sleep_link.store(ptr::from_ref(thread).cast_mut(), Ordering::Relaxed),
        }
    }

    /// Takes `thread` out, if it is still there.
    pub(crate) fn remove(&self, thread: &'static Thread) {
        let mut first = self.0.lock();
        let (mut before, mut at): (Option<&'static Thread>, _) = (None, first.0);
        // SAFETY: as in `add`.
        while let Some(here) = unsafe { at.as_ref() } {
            let next: *const Thread = here.sleep_link.load(Ordering::Relaxed);
            if ptr::eq(here, thread) {
                match before {
                    None => first.0 = next,
                    Some(before) => before.sleep_link.store(next.cast_mut(), Ordering::Relaxed),
                }
                return;
            }
            (before, at) = (Some(here), next);
        }
    }

    /// Takes the first thread that is due at `now`.
    pub(crate) fn take_due(&self, now: u64) -> Option<&'static Thread> {
        let mut first = self.0.lock();
        // SAFETY: as in `add`.
        let thread = unsafe { first.0.as_ref() }.filter(|t| t.wake_at.load(Ordering::Relaxed) <= now)?;
        first.0 = thread.sleep_link.load(Ordering::Relaxed);
        Some(thread)
    }
}
