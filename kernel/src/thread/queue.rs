//! Lists of threads, chained through the threads themselves: the run queue of a CPU.

use super::{Priority, Thread};
use crate::sync::SpinLock;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use smp::{CpuId, CpuSet};

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
    /// CPUs on which threads in the lists may run, likewise. One stays when its last thread is taken, until a search for
    /// it finds none: so a CPU steps over those that may not run on it once, and not each time that it looks for work.
    allowed: AtomicU64,
}

impl RunQueue {
    pub(crate) const fn new() -> Self {
        Self {
            first: AtomicPtr::new(ptr::null_mut()),
            lists: SpinLock::new("run queue", [const { List::new() }; Priority::LEVELS as usize]),
            filled: AtomicU8::new(0),
            length: AtomicUsize::new(0),
            allowed: AtomicU64::new(0),
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
        // Before `filled`: who sees that there are some sees whom they are for.
        let allowed = self.allowed.load(Ordering::Relaxed) | thread.affinity.load(Ordering::Relaxed);
        self.allowed.store(allowed, Ordering::Relaxed);
        self.length.store(self.length.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        self.filled.store(self.filled.load(Ordering::Relaxed) | 1 << level, Ordering::SeqCst);
    }

    /// Whether there is a thread that may run on `cpu`.
    pub(crate) fn has_for(&self, cpu: CpuId) -> bool {
        let may_run = |thread: &Thread| thread.may_run_on(cpu);
        if self.first().is_some_and(may_run) {
            return true;
        }
        if self.filled.load(Ordering::SeqCst) == 0 || !self.may_have_for(cpu) {
            return false;
        }
        let lists = self.lists.lock();
        let found = lists.iter().flat_map(List::iter).any(may_run);
        if !found {
            self.has_none_for(cpu);
        }
        found
    }

    /// Whether the lists may have a thread that may run on `cpu`, at a glance.
    fn may_have_for(&self, cpu: CpuId) -> bool {
        CpuSet::from_bits(self.allowed.load(Ordering::Relaxed)).contains(cpu)
    }

    /// A search of all lists found nothing for `cpu`. Under the lock.
    fn has_none_for(&self, cpu: CpuId) {
        let allowed = CpuSet::from_bits(self.allowed.load(Ordering::Relaxed)).without(cpu);
        self.allowed.store(allowed.bits(), Ordering::Relaxed);
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
        if self.filled.load(Ordering::Relaxed) >> lowest.min(7) == 0 || !self.may_have_for(cpu) {
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
        self.has_none_for(cpu);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Home, Thread};
    use super::*;

    fn cpu(number: usize) -> CpuId {
        CpuId::new(number)
    }

    fn thread(cpus: &[usize]) -> &'static Thread {
        let thread: &Thread = Box::leak(Box::new(Thread::new(Home::Cpu)));
        let allowed = cpus.iter().fold(CpuSet::EMPTY, |allowed, &number| allowed.with(cpu(number)));
        thread.affinity.store(allowed.bits(), Ordering::Relaxed);
        thread
    }

    #[test]
    fn a_cpu_steps_over_others_threads_once() {
        let queue = RunQueue::new();
        let pinned: Vec<_> = (0..3).map(|_| thread(&[0])).collect();
        pinned.iter().for_each(|thread| queue.push(thread));
        assert!(!queue.may_have_for(cpu(1)), "nothing that came may run there");
        assert!(!queue.has_for(cpu(1)) && queue.take_for(cpu(1)).is_none() && queue.has_for(cpu(0)));

        let shared = thread(&[0, 1]);
        queue.push(shared);
        assert!(queue.has_for(cpu(1)) && queue.may_have_for(cpu(1)));
        assert!(queue.take_for(cpu(1)).is_some_and(|taken| ptr::eq(taken, shared)));
        assert!(queue.may_have_for(cpu(1)), "nobody has looked again");
        assert!(queue.take_for(cpu(1)).is_none());
        assert!(!queue.may_have_for(cpu(1)));

        for wanted in pinned {
            assert!(queue.take_for(cpu(0)).is_some_and(|taken| ptr::eq(taken, wanted)));
        }
        assert!(queue.is_empty() && !queue.has_for(cpu(0)));
        queue.push(shared);
        assert!(queue.has_for(cpu(1)) && queue.has_for(cpu(0)));
    }

    #[test]
    fn a_search_among_the_more_urgent_alone_says_nothing_of_the_rest() {
        let queue = RunQueue::new();
        let (urgent, shared) = (thread(&[0]), thread(&[1]));
        urgent.priority.store(Priority::HIGHEST.level(), Ordering::Relaxed);
        queue.push(thread(&[0])); // has a word of its own
        queue.push(urgent);
        queue.push(shared);
        assert!(queue.take_from_lists(cpu(1), Priority::HIGHEST.level()).is_none());
        assert!(queue.take_for(cpu(1)).is_some_and(|taken| ptr::eq(taken, shared)));
    }
}
