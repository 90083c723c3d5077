//! The locks that a CPU holds, by name, for reports.

use super::cell::Own;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use wire::debug::HELD;

/// The latest [`HELD`] of them. Belongs to its CPU; others may look.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Held {
    count: Own<u32>,
    names: [AtomicPtr<&'static str>; HELD],
}

/// Offsets for readers outside.
pub(crate) const COUNT: usize = offset_of!(Held, count);
pub(crate) const NAMES: usize = offset_of!(Held, names);

impl Held {
    pub(crate) const fn new() -> Self {
        Self { count: Own::<u32>::new(0), names: [const { AtomicPtr::new(ptr::null_mut()) }; HELD] }
    }

    /// A lock whose name lies at `name` was taken. The lock is there as long as it is held.
    #[inline(always)]
    pub(crate) fn push(&self, name: &&'static str) {
        let count = self.count.get();
        if let Some(place) = self.names.get(count as usize) {
            place.store(ptr::from_ref(name).cast_mut(), Ordering::Relaxed);
        }
        self.count.set(count + 1);
    }

    /// It was given up. Mostly the latest one.
    #[inline(always)]
    pub(crate) fn pop(&self, name: &&'static str) {
        let count = self.count.get().wrapping_sub(1);
        self.count.set(count);
        let last = self.names.get(count as usize).map(|place| place.load(Ordering::Relaxed));
        if last != Some(ptr::from_ref(name).cast_mut()) {
            self.pop_other(name, count);
        }
    }

    #[cold]
    fn pop_other(&self, name: &&'static str, count: u32) {
        let known = &self.names[..HELD.min(count as usize + 1)];
        let wanted = ptr::from_ref(name).cast_mut();
        if let Some(at) = known.iter().position(|place| place.load(Ordering::Relaxed) == wanted) {
            for (place, next) in known[at..].iter().zip(&known[at + 1..]) {
                place.store(next.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
    }

    /// Their names; empty ones are none.
    pub(crate) fn names(&self) -> [&'static str; HELD] {
        let count = (self.count.get() as usize).min(HELD);
        core::array::from_fn(|at| {
            let name = if at < count { self.names[at].load(Ordering::Relaxed) } else { ptr::null_mut() };
            // SAFETY: null, or the name of a lock that is held, or was a moment ago: locks outlive the moment, since the
            // CPU that is looked at stands still.
            unsafe { name.as_ref() }.copied().unwrap_or("")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_remembered_in_whatever_order_they_are_given_up() {
        let (held, locks) = (Held::new(), ["a", "b", "c"]);
        let names = || held.names().into_iter().filter(|name| !name.is_empty()).collect::<Vec<_>>();
        locks.iter().for_each(|lock| held.push(lock));
        held.pop(&locks[1]);
        assert_eq!(names(), ["a", "c"]);
        held.pop(&locks[2]);
        held.pop(&locks[0]);
        assert_eq!(names(), [""; 0]);
    }

    #[test]
    fn more_than_can_be_remembered_are_counted() {
        let (held, locks) = (Held::new(), ["x"; HELD + 3]);
        locks.iter().for_each(|lock| held.push(lock));
        locks.iter().rev().for_each(|lock| held.pop(lock));
        assert_eq!(held.names(), [""; HELD]);
    }
}
