//! A barrier for threads, used again and again: all that take part go on when the last one has come.

use core::sync::atomic::{AtomicUsize, Ordering};
use kernel::thread;

/// The barrier; everybody says how many there are.
#[derive(Debug, Default)]
pub struct Barrier {
    arrived: AtomicUsize,
    opened: AtomicUsize,
}

impl Barrier {
    /// Nobody has come yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { arrived: AtomicUsize::new(0), opened: AtomicUsize::new(0) }
    }

    /// Comes, and waits for the others: `parties` in all.
    pub fn wait(&self, parties: usize) {
        let round = self.opened.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == parties {
            self.arrived.store(0, Ordering::Relaxed);
            self.opened.store(round.wrapping_add(1), Ordering::Release);
            return;
        }
        let mut turns = 0u32;
        while self.opened.load(Ordering::Acquire) == round {
            core::hint::spin_loop();
            turns += 1;
            // Others may need this CPU to get here at all.
            if turns.is_multiple_of(64) {
                thread::yield_now();
            }
        }
    }
}
