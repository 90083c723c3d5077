//! Lists of threads, chained through the threads themselves: the run queue and the sleepers of a CPU.

use super::{Priority, Thread};
use crate::bug;
use crate::sync::SpinLock;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicUsize, Ordering};
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

    const fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// Takes the first thread for which `wanted` holds.
    #[inline]
    fn take_first(&mut self, wanted: impl Fn(&Thread) -> bool) -> Option<&'static Thread> {
        // SAFETY: null, or a thread that was pushed.
        let first = unsafe { self.first.as_ref() }?;
        if wanted(first) {
            self.first = first.link.load(Ordering::Relaxed);
            if self.first.is_null() {
                self.last = ptr::null();
            }
            return Some(first);
        }
        self.take_later(wanted)
    }

    /// As [`take_first`](Self::take_first), where the first one is not wanted.
    #[cold]
    fn take_later(&mut self, wanted: impl Fn(&Thread) -> bool) -> Option<&'static Thread> {
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
///
/// The first that comes to a CPU where none waits has a word of its own, so that where one thread wakes another, as a joiner is
/// woken, no lock is taken. It came before all that are in the lists.
pub(crate) struct RunQueue {
    first: AtomicPtr<Thread>,
    lists: SpinLock<[List; Priority::LEVELS as usize]>,
    /// Levels whose lists have threads, a bit each. Changed under the lock, looked at without.
    filled: AtomicU8,
    /// How many threads are in the lists, likewise.
    length: AtomicUsize,
}

impl RunQueue {
    pub(crate) const fn new() -> Self {
        Self {
            first: AtomicPtr::new(ptr::null_mut()),
            lists: SpinLock::new("run queue", [const { List::new() }; Priority::LEVELS as usize]),
            filled: AtomicU8::new(0),
            length: AtomicUsize::new(0),
        }
    }

    #[inline(always)]
    fn first(&self) -> Option<&'static Thread> {
        // SAFETY: null, or a thread that was pushed; threads' objects live for ever. Acquire: pairs with `push`.
        unsafe { self.first.load(Ordering::Acquire).as_ref() }
    }

    /// How many there are, at a glance.
    pub(crate) fn len(&self) -> usize {
        self.length.load(Ordering::Relaxed) + usize::from(self.first().is_some())
    }

    /// Whether there is none. Sequentially consistent: see `switch::make_ready` and `idle`.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.first.load(Ordering::SeqCst).is_null() && self.filled.load(Ordering::SeqCst) == 0
    }

    /// Whether there is one that is at least as urgent as this, at a glance.
    #[inline(always)]
    pub(crate) fn has_as_urgent_as(&self, priority: Priority) -> bool {
        self.first().is_some_and(|first| first.priority() >= priority)
            || self.filled.load(Ordering::Relaxed) >> priority.level() != 0
    }

    #[inline(always)]
    pub(crate) fn push(&self, thread: &'static Thread) {
        if self.filled.load(Ordering::Relaxed) != 0 || !self.become_first(thread) {
            self.push_behind(thread);
        }
    }

    #[inline(always)]
    fn become_first(&self, thread: &'static Thread) -> bool {
        let thread = ptr::from_ref(thread).cast_mut();
        // Release: who takes the thread sees it READY. Sequentially consistent: see `is_empty`.
        self.first.compare_exchange(ptr::null_mut(), thread, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    fn push_behind(&self, thread: &'static Thread) {
        let level = thread.priority().level();
        let mut lists = self.lists.lock();
        lists[usize::from(level)].push(thread);
        self.length.store(self.length.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        self.filled.store(self.filled.load(Ordering::Relaxed) | 1 << level, Ordering::SeqCst);
    }

    /// Whether there is a thread that may run on `cpu`.
    pub(crate) fn has_for(&self, cpu: CpuId) -> bool {
        let may_run = |thread: &Thread| thread.may_run_on(cpu);
        self.first().is_some_and(may_run)
            || self.filled.load(Ordering::SeqCst) != 0 && self.lists.lock().iter().flat_map(List::iter).any(may_run)
    }

    /// Takes the first thread that may run on `cpu`.
    #[inline(always)]
    pub(crate) fn take_for(&self, cpu: CpuId) -> Option<&'static Thread> {
        let filled = self.filled.load(Ordering::SeqCst);
        match self.first() {
            None if filled == 0 => None,
            Some(first) if filled == 0 && self.take(first, cpu) => Some(first),
            first => self.take_carefully(first, cpu),
        }
    }

    /// Takes the first thread that may run on this queue's own CPU, where all may that have a word of their own.
    #[inline(always)]
    pub(crate) fn take_own(&self, cpu: CpuId) -> Option<&'static Thread> {
        let word = self.first.load(Ordering::Acquire);
        let filled = self.filled.load(Ordering::SeqCst);
        if word.is_null() && filled == 0 {
            return None;
        }
        if filled == 0
            && self.first.compare_exchange(word, ptr::null_mut(), Ordering::Acquire, Ordering::Relaxed).is_ok()
        {
            // SAFETY: not null, and a thread that was pushed.
            return unsafe { word.as_ref() };
        }
        self.take_for(cpu)
    }

    /// Takes the one that has a word of its own, if it is still there and may run on `cpu`.
    #[inline(always)]
    fn take(&self, thread: &'static Thread, cpu: CpuId) -> bool {
        let word = ptr::from_ref(thread).cast_mut();
        if !thread.may_run_on(cpu) {
            return false;
        }
        if self.first.compare_exchange(word, ptr::null_mut(), Ordering::Acquire, Ordering::Relaxed).is_err() {
            return false;
        }
        if thread.may_run_on(cpu) {
            return true;
        }
        // Between the two looks another thread got the object, and came here.
        self.push_behind(thread);
        false
    }

    /// As [`take_for`](Self::take_for), where more than one thread waits, or the only one is not to be had.
    #[inline(never)]
    fn take_carefully(&self, first: Option<&'static Thread>, cpu: CpuId) -> Option<&'static Thread> {
        let first = first.filter(|first| first.may_run_on(cpu));
        let level = first.map_or(0, |first| first.priority().level() + 1);
        // Those that are more urgent than it, then itself, then the rest.
        self.take_from_lists(cpu, level)
            .or_else(|| first.filter(|first| self.take(first, cpu)))
            .or_else(|| self.take_from_lists(cpu, 0))
    }

    fn take_from_lists(&self, cpu: CpuId, lowest: u8) -> Option<&'static Thread> {
        if self.filled.load(Ordering::Relaxed) >> lowest.min(7) == 0 {
            return None;
        }
        let mut lists = self.lists.lock();
        let mut left = self.filled.load(Ordering::Relaxed);
        while left != 0 {
            let level = left.ilog2() as u8;
            if level < lowest {
                return None;
            }
            left ^= 1 << level;
            let list = &mut lists[usize::from(level)];
            if let Some(thread) = list.take_first(|thread| thread.may_run_on(cpu)) {
                self.length.store(self.length.load(Ordering::Relaxed).wrapping_sub(1), Ordering::Relaxed);
                if list.is_empty() {
                    self.filled.store(self.filled.load(Ordering::Relaxed) ^ 1 << level, Ordering::SeqCst);
                }
                return Some(thread);
            }
        }
        None
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
