//! Conservation (invariant I4): what there was before a run is there after it. What is missing is named.

use crate::failure;
use kernel::mem::{frame_counts, heap_allocations, live_slots};
use kernel::{println, record, thread};
use wire::Record;

/// What must be the same at every quiet moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    threads: u64,
    slots: u64,
    mapped_frames: u64,
    all_frames: u64,
    allocations: u64,
    pending: u64,
}

impl Account {
    /// As it is now, when all stacks of dead threads are reaped.
    #[must_use]
    pub fn now() -> Self {
        let dying = thread::quiesce() as u64;
        let frames = frame_counts();
        Self {
            threads: thread::live() as u64,
            slots: live_slots(),
            mapped_frames: frames.mapped,
            all_frames: frames.free + frames.tables + frames.heap + frames.mapped,
            allocations: heap_allocations(),
            pending: dying,
        }
    }

    /// Sends the comparison of `self`, before, with what is `after`, and breaks the promise where they differ.
    pub fn settle(&self, after: &Self) {
        let lines = [
            ("threads", self.threads, after.threads),
            ("address ranges (stacks and mappings)", self.slots, after.slots),
            ("frames behind stacks and mappings", self.mapped_frames, after.mapped_frames),
            ("frames in all", self.all_frames, after.all_frames),
            ("heap allocations", self.allocations, after.allocations),
            ("stacks of dead threads", self.pending, after.pending),
        ];
        for (what, before, after) in lines {
            record::send(&Record::Balance { what, before, after });
            if before != after && what == "threads" {
                thread::for_each_handle(|thread| match thread.last_cpu() {
                    Some(cpu) => println!("thread {thread:?}: {}, {cpu}", thread.state()),
                    None => println!("thread {thread:?}"),
                });
            }
            failure::check(before == after, "conservation", format_args!("{what}: {before} before, {after} after"));
        }
    }
}
