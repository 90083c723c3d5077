//! `many`: as many threads as `threads=` says, each on a stack of one page, all alive at once; and what each of them takes.
//!
//! What a thread takes is looked at in the first round only: thread objects, slot entries and page tables are kept, and the
//! rounds that follow use them again.

use super::{Context, spawned};
use crate::failure::check;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use kernel::mem::{self, FrameCounts, PAGE_SIZE, frame_counts, peek};
use kernel::thread::{self, Builder, JoinHandle, Object, State};
use kernel::{SpinLock, println};

/// What the threads of the first round took.
static COST: SpinLock<Option<Cost>> = SpinLock::new("cost of threads", None);
/// Threads of this round that have run.
static ARRIVED: AtomicUsize = AtomicUsize::new(0);
static GO: AtomicBool = AtomicBool::new(false);

/// What is taken at a moment.
struct Taken {
    frames: FrameCounts,
    heap: u64,
    threads: usize,
}

impl Taken {
    fn now() -> Self {
        Self { frames: frame_counts(), heap: mem::heap_bytes(), threads: thread::live() }
    }
}

/// Bytes that so many threads take.
#[derive(Clone, Copy)]
struct Cost {
    threads: u64,
    /// Frames behind their stacks.
    stacks: u64,
    /// Page tables in which the stacks, and the heap that has grown, lie.
    tables: u64,
    /// Heap memory that was handed out, with what the allocator itself adds.
    heap: u64,
}

pub fn round(_: &Context, round: u64) {
    let wanted = kernel::options().threads as usize;
    ARRIVED.store(0, Ordering::Relaxed);
    GO.store(false, Ordering::Relaxed);
    // Before anything is measured: the handles are not the threads' own.
    let mut handles = Vec::with_capacity(wanted);
    thread::quiesce();
    let before = Taken::now();
    while handles.len() < wanted
        && let Some(handle) = spawned(Builder::new().name("one-of-many").stack_pages(1).spawn(live))
    {
        handles.push(handle);
    }
    while ARRIVED.load(Ordering::Acquire) < handles.len() || !all_are_parked(&handles) {
        thread::yield_now();
    }
    let after = Taken::now();
    account(&before, &after, handles.len(), round);
    GO.store(true, Ordering::Release);
    handles.iter().for_each(|handle| handle.thread().unpark());
    let lived = handles.into_iter().filter_map(|handle| handle.join().ok()).filter(|guarded| *guarded).count();
    check(lived == wanted, "each of many threads lives, between guards", format_args!("{lived} of {wanted} did"));
}

/// Says that it is there, and waits. Whether it lies between guards.
fn live() -> bool {
    let (start, end) = thread::stack_bounds();
    let guarded = end - start == PAGE_SIZE && peek(start - 8).is_none() && peek(end).is_none();
    ARRIVED.fetch_add(1, Ordering::AcqRel);
    while !GO.load(Ordering::Acquire) {
        thread::park();
    }
    guarded
}

fn all_are_parked(handles: &[JoinHandle<bool>]) -> bool {
    handles.iter().all(|handle| handle.thread().state() == State::Parked)
}

fn account(before: &Taken, after: &Taken, threads: usize, round: u64) {
    let live = after.threads - before.threads;
    check(live == threads, "all of many threads live at once", format_args!("{live} of {threads} do"));
    let stacks = after.frames.mapped - before.frames.mapped;
    check(stacks == threads as u64, "guards take no frames", format_args!("{stacks} frames for {threads} threads"));
    if round > 0 || threads == 0 {
        return;
    }
    let cost = Cost {
        threads: threads as u64,
        stacks: stacks * PAGE_SIZE,
        tables: (after.frames.tables - before.frames.tables) * PAGE_SIZE,
        heap: after.heap - before.heap,
    };
    cost.tell();
    *COST.lock() = Some(cost);
}

impl Cost {
    fn tell(&self) {
        let [all, stacks, tables, heap, object, slot] = self.each();
        println!(
            "{} threads alive at once: {all} bytes each, {stacks} of stack, {tables} of page tables, {heap} of heap: \
             an object of {object}, a slot's entry of {slot}",
            self.threads
        );
    }

    /// Bytes of one thread: in all; its stack, page tables, heap; and of the heap, its object and its slot's entry.
    fn each(&self) -> [u64; 6] {
        let each = |bytes: u64| bytes / self.threads;
        let (object, slot) = (size_of::<Object>() as u64, mem::SLOT_BYTES);
        let all = each(self.stacks + self.tables + self.heap);
        [all, each(self.stacks), each(self.tables), each(self.heap), object, slot]
    }
}

/// Sends what the threads of the first round took, if there was one.
pub fn send(mut count: impl FnMut(&str, u64)) {
    let Some(cost) = *COST.lock() else { return };
    let [all, stacks, tables, heap, object, slot] = cost.each();
    for (name, value) in [
        ("threads.at-once", cost.threads),
        ("threads.bytes-each", all),
        ("threads.stack-bytes-each", stacks),
        ("threads.table-bytes-each", tables),
        ("threads.heap-bytes-each", heap),
        ("threads.object-bytes", object),
        ("threads.slot-bytes", slot),
    ] {
        count(name, value);
    }
}
