//! What the checkers have in common, by the same names.

#[cfg(feature = "loom")]
pub use loom::{sync::Mutex, thread};
#[cfg(feature = "shuttle")]
pub use shuttle::{sync::Mutex, thread};
use smp::reaper::Lock;
use std::sync::atomic::{AtomicBool, Ordering};

/// A frame of memory: used through translations, and freed once.
pub struct Frame {
    /// In the order of this execution.
    freed: AtomicBool,
    /// In the order that the atomics promise: an access that is not ordered after another is a race, which loom reports.
    #[cfg(feature = "loom")]
    contents: loom::cell::UnsafeCell<()>,
}

// SAFETY: the pointer that the cell gives is never followed; loom itself sees to the rest.
#[cfg(feature = "loom")]
unsafe impl Sync for Frame {}

impl Frame {
    pub fn new() -> Self {
        Self {
            freed: AtomicBool::new(false),
            #[cfg(feature = "loom")]
            contents: loom::cell::UnsafeCell::new(()),
        }
    }

    /// A CPU reads it through a translation, or walks it.
    pub fn is_used(&self) {
        #[cfg(feature = "loom")]
        self.contents.with(|_| ());
        assert!(!self.freed.load(Ordering::Relaxed), "a frame is used after it was freed");
    }

    /// Its owner takes it back and writes to it.
    pub fn free(&self) {
        #[cfg(feature = "loom")]
        self.contents.with_mut(|_| ());
        assert!(!self.freed.swap(true, Ordering::Relaxed), "a frame is freed twice");
    }
}

/// Something that happens now and then, for CPUs that wait for anything to happen.
///
/// With three CPUs that look without end, loom would try schedules in which two of them look for ever while the third
/// stands still. Waiting makes that a deadlock if nothing can happen any more, and nothing else. It also orders what the
/// waiting CPUs do, so models of two CPUs, which check the orderings, do without.
pub struct Events {
    #[cfg(feature = "loom")]
    state: Option<(Mutex<u64>, loom::sync::Condvar)>,
}

#[cfg(feature = "loom")]
impl Events {
    pub fn new(cpus: usize) -> Self {
        Self { state: (cpus > 2).then(|| (Mutex::new(0), loom::sync::Condvar::new())) }
    }

    /// Something has happened.
    pub fn happened(&self) {
        if let Some((count, changed)) = &self.state {
            *count.lock().unwrap() += 1;
            changed.notify_all();
        }
    }

    /// Waits until more than `seen` has happened; how much has.
    pub fn wait(&self, seen: u64) -> u64 {
        let Some((count, changed)) = &self.state else {
            thread::yield_now();
            return seen;
        };
        let mut count = count.lock().unwrap();
        while *count == seen {
            count = changed.wait(count).unwrap();
        }
        *count
    }
}

#[cfg(feature = "shuttle")]
impl Events {
    pub fn new(_cpus: usize) -> Self {
        Self {}
    }

    pub fn happened(&self) {}

    pub fn wait(&self, seen: u64) -> u64 {
        thread::yield_now();
        seen
    }
}

/// The checker's mutex as the reaper's lock.
pub struct CheckedLock<T>(Mutex<T>);

impl<T> Lock<T> for CheckedLock<T> {
    fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.lock().unwrap())
    }
}
