//! The locks that a CPU holds, for reports and for the checks of their use: names, classes, and where they were taken.

use super::cell::Own;
use crate::sync::order::Class;
use crate::sync::site::{Place, Site};
use core::fmt;
use core::mem::offset_of;
use core::panic::Location;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use wire::debug::{HELD, HeldLock};

/// The latest [`HELD`] of them. Belongs to its CPU; others may look. Kept by images that
/// check how locks are used.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Held {
    count: Own<u32>,
    names: [AtomicPtr<&'static str>; HELD],
    /// Where each was taken.
    sites: [Site; HELD],
    /// The classes of all of them, one bit each: no two are of one class.
    classes: Own<u64>,
}

/// Offsets for readers outside.
pub(crate) const COUNT: usize = offset_of!(Held, count);
pub(crate) const NAMES: usize = offset_of!(Held, names);
pub(crate) const SITES: usize = offset_of!(Held, sites);

impl Held {
    pub(crate) const fn new() -> Self {
        Self {
            count: Own::<u32>::new(0),
            names: [const { AtomicPtr::new(ptr::null_mut()) }; HELD],
            sites: [const { Site::new() }; HELD],
            classes: Own::<u64>::new(0),
        }
    }

    /// A lock whose name lies at `name` was taken at `site`. The lock is there as long as it is held.
    #[inline(always)]
    pub(crate) fn push(&self, name: &&'static str, class: Class, site: &'static Location<'static>) {
        let count = self.count.get();
        if let Some(place) = self.names.get(count as usize) {
            place.store(ptr::from_ref(name).cast_mut(), Ordering::Relaxed);
            self.sites[count as usize].set(site);
        }
        self.count.set(count.wrapping_add(1));
        self.classes.set(self.classes.get() | bit(class));
    }

    /// It was given up. Mostly the latest one.
    #[inline(always)]
    pub(crate) fn pop(&self, name: &&'static str, class: Class) {
        let count = self.count.get().wrapping_sub(1);
        self.count.set(count);
        self.classes.set(self.classes.get() & !bit(class));
        let last = self.names.get(count as usize).map(|place| place.load(Ordering::Relaxed));
        if last != Some(ptr::from_ref(name).cast_mut()) {
            self.pop_other(name, count);
        }
    }

    #[cold]
    fn pop_other(&self, name: &&'static str, count: u32) {
        let known = HELD.min(count as usize + 1);
        let wanted = ptr::from_ref(name).cast_mut();
        let at = self.names[..known].iter().position(|place| place.load(Ordering::Relaxed) == wanted);
        for at in at.map_or(known, |at| at + 1)..known {
            self.names[at - 1].store(self.names[at].load(Ordering::Relaxed), Ordering::Relaxed);
            self.sites[at - 1].copy(&self.sites[at]);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count.get() == 0
    }

    /// Whether there are more than are remembered.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.count.get() as usize > HELD
    }

    /// The classes of those that are held, one bit each.
    #[inline(always)]
    pub(crate) fn classes(&self) -> u64 {
        self.classes.get()
    }

    /// Name and place of each that is remembered, the outermost first.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&'static str, Place)> {
        let count = (self.count.get() as usize).min(HELD);
        (0..count).filter_map(|at| {
            // SAFETY: null, or the name of a lock that is held, or was a moment ago: locks outlive the moment, since the
            // CPU that is looked at stands still.
            let name = unsafe { self.names[at].load(Ordering::Relaxed).as_ref() }.copied()?;
            Some((name, self.sites[at].get()))
        })
    }

    /// Whether the lock whose name lies there is one of those that are remembered.
    pub(crate) fn has(&self, name: &&'static str) -> bool {
        let remembered = &self.names[..HELD.min(self.count.get() as usize)];
        remembered.iter().any(|place| ptr::eq(place.load(Ordering::Relaxed), name))
    }

    /// Where the one with this name was taken.
    pub(crate) fn place_of(&self, name: &str) -> Place {
        self.each().find(|(held, _)| *held == name).map_or(Place::NONE, |(_, place)| place)
    }

    /// As reports want them; empty names are none.
    pub(crate) fn told(&self) -> [HeldLock<'static>; HELD] {
        let mut told = [HeldLock::default(); HELD];
        for (to, (name, place)) in told.iter_mut().zip(self.each()) {
            let (file, line) = place.parts();
            *to = HeldLock { name, file, line };
        }
        told
    }
}

/// The bit of a class, which is less than 64: without a check, since this is in the way of every lock.
#[inline(always)]
const fn bit(class: Class) -> u64 {
    1u64.wrapping_shl(class as u32)
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (at, lock) in self.told().iter().filter(|lock| !lock.name.is_empty()).enumerate() {
            write!(f, "{}{lock}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_remembered_in_whatever_order_they_are_given_up() {
        let (held, locks) = (Held::new(), ["a", "b", "c"]);
        let names = || held.each().map(|(name, _)| name).collect::<Vec<_>>();
        locks.iter().for_each(|lock| held.push(lock, 0, Location::caller()));
        held.pop(&locks[1], 0);
        assert_eq!(names(), ["a", "c"]);
        held.pop(&locks[2], 0);
        held.pop(&locks[0], 0);
        assert_eq!(names(), [""; 0]);
        assert!(held.is_empty());
    }

    #[test]
    fn more_than_can_be_remembered_are_counted() {
        let (held, locks) = (Held::new(), ["x"; HELD + 3]);
        locks.iter().for_each(|lock| held.push(lock, 0, Location::caller()));
        locks.iter().rev().for_each(|lock| held.pop(lock, 0));
        assert_eq!(held.each().count(), 0);
    }
}
