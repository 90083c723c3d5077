//! The threads that wait for a time on a CPU: a leftist heap (Crane, 1972; Knuth, The Art of Computer Programming,
//! volume 3, section 5.2.3), chained through the threads themselves.
//!
//! Interrupts are masked while one is added, taken, or taken out, and each looks at no more than some log2 of all that
//! sleep there. Hence no heap whose bounds hold on average only, and no sorted list.

use super::Thread;
use crate::bug;
use crate::sync::SpinLock;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU8, Ordering};
use wire::cmdline::Bug;
use x86_64::instructions::interrupts;

/// A thread's place among those that sleep on the same CPU. Whoever holds their lock owns it.
pub(crate) struct Place {
    /// What wakes later, or at the same time: of the two, the left one has the longer way to an end, so that the way
    /// to the right is short.
    left: AtomicPtr<Thread>,
    right: AtomicPtr<Thread>,
    /// What wakes earlier; the first one itself; null where the thread is not among them.
    parent: AtomicPtr<Thread>,
    /// Threads on the way to the right, this one included.
    rank: AtomicU8,
}

impl Place {
    pub(crate) const fn none() -> Self {
        Self {
            left: AtomicPtr::new(ptr::null_mut()),
            right: AtomicPtr::new(ptr::null_mut()),
            parent: AtomicPtr::new(ptr::null_mut()),
            rank: AtomicU8::new(0),
        }
    }
}

type Link = Option<&'static Thread>;

fn get(link: &AtomicPtr<Thread>) -> Link {
    // SAFETY: null, or a thread that was added; their objects live for ever.
    unsafe { link.load(Ordering::Relaxed).as_ref() }
}

fn set(link: &AtomicPtr<Thread>, to: Link) {
    link.store(to.map_or(ptr::null(), ptr::from_ref).cast_mut(), Ordering::Relaxed);
}

fn due(thread: &Thread) -> u64 {
    thread.wake_at.load(Ordering::Relaxed)
}

fn rank(link: Link) -> u8 {
    link.map_or(0, |thread| thread.place.rank.load(Ordering::Relaxed))
}

/// The one that wakes first.
struct Heap(AtomicPtr<Thread>);

impl Heap {
    fn first(&self) -> Link {
        get(&self.0)
    }

    fn set_first(&self, first: Link) {
        set(&self.0, first);
        if let Some(first) = first {
            set(&first.place.parent, Some(first));
        }
    }

    fn add(&self, thread: &'static Thread) {
        debug_assert!(get(&thread.place.parent).is_none(), "a thread sleeps twice");
        set(&thread.place.left, None);
        set(&thread.place.right, None);
        thread.place.rank.store(1, Ordering::Relaxed);
        self.set_first(meld(self.first(), Some(thread)));
    }

    /// Takes `thread` out, if it is there.
    fn remove(&self, thread: &'static Thread) {
        let place = &thread.place;
        let Some(parent) = get(&place.parent) else { return };
        let rest = meld(get(&place.left), get(&place.right));
        set(&place.parent, None);
        if ptr::eq(parent, thread) {
            return self.set_first(rest);
        }
        let above = &parent.place;
        set(if get(&above.left).is_some_and(|left| ptr::eq(left, thread)) { &above.left } else { &above.right }, rest);
        if let Some(rest) = rest {
            set(&rest.place.parent, Some(parent));
        }
        let mut at = parent;
        while settle(at) {
            let parent = get(&at.place.parent).expect("it is among them");
            if ptr::eq(parent, at) {
                break;
            }
            at = parent;
        }
    }
}

/// Makes one heap of two: the one that wakes first in it, whose `parent` is left to the caller.
fn meld(mut one: Link, mut other: Link) -> Link {
    let (mut first, mut last): (Link, Link) = (None, None);
    // Down the ways to the right of both, which become one.
    while let (Some(a), Some(b)) = (one, other) {
        let (earlier, later) = if due(b) < due(a) { (b, a) } else { (a, b) };
        one = get(&earlier.place.right);
        other = Some(later);
        match last {
            None => first = Some(earlier),
            Some(last) => hang(last, Some(earlier)),
        }
        last = Some(earlier);
    }
    let rest = one.or(other);
    let Some(last) = last else { return rest };
    hang(last, rest);
    // And up again.
    let mut at = last;
    loop {
        settle(at);
        if first.is_some_and(|first| ptr::eq(first, at)) {
            return first;
        }
        at = get(&at.place.parent).expect("it was hung there");
    }
}

fn hang(parent: &'static Thread, right: Link) {
    set(&parent.place.right, right);
    if let Some(right) = right {
        set(&right.place.parent, Some(parent));
    }
}

/// Puts the longer way to the left; whether the rank is another one now.
fn settle(thread: &Thread) -> bool {
    let place = &thread.place;
    let (left, right) = (get(&place.left), get(&place.right));
    if rank(left) < rank(right) {
        set(&place.left, right);
        set(&place.right, left);
    }
    let now = rank(left).min(rank(right)) + 1;
    place.rank.swap(now, Ordering::Relaxed) != now
}

/// The threads that wait for a time on a CPU.
pub(crate) struct Sleepers(SpinLock<Heap>);

impl Sleepers {
    pub(crate) const fn new() -> Self {
        Self(SpinLock::new("sleepers", Heap(AtomicPtr::new(ptr::null_mut()))))
    }

    /// Adds `thread`, whose `wake_at` is set.
    pub(crate) fn add(&self, thread: &'static Thread) {
        let heap = self.0.lock();
        if bug::armed(Bug::IrqUnsafe) {
            interrupts::enable_and_hlt(); // until one comes
            interrupts::disable();
        }
        heap.add(thread);
    }

    /// Takes `thread` out, if it is still there.
    pub(crate) fn remove(&self, thread: &'static Thread) {
        self.0.lock().remove(thread);
    }

    /// Takes a thread that is due at `now`, the one that is due first.
    pub(crate) fn take_due(&self, now: u64) -> Option<&'static Thread> {
        let heap = self.0.lock();
        let first = heap.first().filter(|first| due(first) <= now)?;
        heap.remove(first);
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Home;
    use super::*;
    use proptest::prelude::*;

    fn threads(count: usize) -> Vec<&'static Thread> {
        (0..count).map(|_| &*Box::leak(Box::new(Thread::new(Home::Cpu)))).collect()
    }

    /// Checks every link and rank; how many there are.
    fn checked(heap: &Heap) -> usize {
        fn below(thread: &'static Thread) -> usize {
            let (left, right) = (get(&thread.place.left), get(&thread.place.right));
            assert!(rank(left) >= rank(right));
            assert_eq!(rank(Some(thread)), rank(right) + 1);
            let below = [left, right].into_iter().flatten().map(|child| {
                assert!(due(child) >= due(thread));
                assert!(ptr::eq(get(&child.place.parent).unwrap(), thread));
                below(child)
            });
            below.sum::<usize>() + 1
        }
        let Some(first) = heap.first() else { return 0 };
        assert!(ptr::eq(get(&first.place.parent).unwrap(), first));
        let count = below(first);
        assert!(1 << rank(Some(first)) <= count + 1, "the way to the right of {count} is too long");
        count
    }

    proptest! {
        #[test]
        fn the_heap_is_what_a_sorted_list_would_be(steps in prop::collection::vec((0..3u8, 0..12usize, 0..30u64), 1..200)) {
            let threads = threads(12);
            let heap = Heap(AtomicPtr::new(ptr::null_mut()));
            let mut model: Vec<Option<u64>> = vec![None; threads.len()];
            for (step, which, time) in steps {
                match step {
                    0 if model[which].is_none() => {
                        threads[which].wake_at.store(time, Ordering::Relaxed);
                        heap.add(threads[which]);
                        model[which] = Some(time);
                    }
                    1 => {
                        heap.remove(threads[which]);
                        model[which] = None;
                    }
                    _ => {
                        prop_assert_eq!(heap.first().map(due), model.iter().flatten().min().copied());
                        if let Some(first) = heap.first() {
                            let which = threads.iter().position(|thread| ptr::eq(*thread, first)).unwrap();
                            heap.remove(first);
                            prop_assert_eq!(model[which].take(), Some(due(first)));
                        }
                    }
                }
                prop_assert_eq!(checked(&heap), model.iter().flatten().count());
            }
        }
    }

    #[test]
    fn those_that_came_in_order_are_no_list() {
        for order in [|n: u64| n, |n: u64| 5000 - n, |n: u64| n * 2_654_435_761 % 5000, |_: u64| 7] {
            let heap = Heap(AtomicPtr::new(ptr::null_mut()));
            let threads = threads(5000);
            for (thread, n) in threads.iter().zip(0..) {
                thread.wake_at.store(order(n), Ordering::Relaxed);
                heap.add(thread);
            }
            assert_eq!(checked(&heap), 5000);
            let mut before = 0;
            while let Some(first) = heap.first() {
                assert!(due(first) >= before);
                before = due(first);
                heap.remove(first);
            }
        }
    }
}
