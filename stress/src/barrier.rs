//! A barrier for threads, used again and again: all that take part go on when the last one has come.

use alloc::vec::Vec;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicUsize, Ordering};
use kernel::SpinLock;
use kernel::thread::{self, Handle};

/// Looks that a thread takes before it lets its CPU go: enough to leave together where CPUs run in parallel, few enough
/// not to hold up a host with fewer cores than the guest has CPUs.
const LOOKS: u32 = 64;

/// The barrier; everybody says how many there are.
#[derive(Debug)]
pub struct Barrier {
    arrived: AtomicUsize,
    opened: AtomicUsize,
    waiting: SpinLock<Vec<Handle>>,
}

impl Default for Barrier {
    fn default() -> Self {
        Self::new()
    }
}

impl Barrier {
    /// Nobody has come yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            arrived: AtomicUsize::new(0),
            opened: AtomicUsize::new(0),
            waiting: SpinLock::new("barrier", Vec::new()),
        }
    }

    /// Comes, and waits for the others: `parties` in all.
    pub fn wait(&self, parties: usize) {
        let round = self.opened.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == parties {
            self.arrived.store(0, Ordering::Relaxed);
            self.opened.store(round.wrapping_add(1), Ordering::Release);
            let waiting = core::mem::take(&mut *self.waiting.lock());
            waiting.iter().for_each(Handle::unpark);
            return;
        }
        let closed = || self.opened.load(Ordering::Acquire) == round;
        let mut looks = 0;
        while closed() && looks < LOOKS {
            spin_loop();
            looks += 1;
        }
        while closed() {
            {
                // Under the lock: whoever opens takes the list after that, and finds this thread in it, or this thread
                // finds it open.
                let mut waiting = self.waiting.lock();
                if !closed() {
                    return;
                }
                waiting.push(thread::current());
            }
            thread::park();
        }
    }
}
