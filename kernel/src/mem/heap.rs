//! The kernel heap: the crate `talc` under the kernel's lock, over a range of addresses that is filled with frames as
//! it grows. It never shrinks.
//!
//! Allocating takes a lock that masks interrupts, and may take frames; an interrupt handler that allocated could find
//! either taken by the code it interrupted, so none does, and the allocator checks.

use super::fallible::OutOfHeap;
use super::frames::{self, Use};
use super::paging::{self, Access};
use super::{OutOfFrames, PAGE_SIZE, slots};
use crate::cpu;
use crate::inject::{self, Sources};
use crate::sync::SpinLock;
use crate::thread::{self, PreemptOff, Shield};
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;
use smp::MAX_CPUS;
use talc::{DefaultBinning, base::Talc, source::Manual};

const START: u64 = 0xffff_c000_0000_0000;
const LIMIT: u64 = START + (64 << 30);
/// Where it is: start and the most bytes.
pub(super) const RANGE: (u64, u64) = (START, LIMIT - START);
/// The least by which the heap grows. A choice: rare enough not to matter, small enough for a guest of 64 MiB.
const GROWTH: u64 = 256 << 10;

struct Heap {
    talc: Talc<Manual, DefaultBinning>,
    /// Up to where addresses are filled, and what the allocator calls the end of what it has.
    filled: u64,
    end: Option<NonNull<u8>>,
    /// For each CPU, what the next allocation of this layout there gets; see [`with_promised`].
    promised: [Option<(NonNull<u8>, Layout)>; MAX_CPUS],
}

// SAFETY: the pointers inside are into the heap, which all CPUs share; the lock is around them.
unsafe impl Send for Heap {}

static HEAP: SpinLock<Heap> =
    SpinLock::new("heap", Heap { talc: Talc::new(Manual), filled: START, end: None, promised: [None; MAX_CPUS] });

struct Allocator;

#[cfg(target_os = "none")]
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

// SAFETY: `talc` keeps the contract of `GlobalAlloc`; every access is under the lock.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        assert_context();
        let _shield = Shield::new();
        let mut heap = HEAP.lock();
        if let Some((memory, _)) = heap.promise().take_if(|(_, promised)| *promised == layout) {
            return memory.as_ptr();
        }
        if inject::fails(Sources::HEAP) {
            return core::ptr::null_mut();
        }
        loop {
            // SAFETY: the size is not zero, by the caller's promise.
            if let Some(memory) = unsafe { heap.talc.try_allocate(layout) } {
                return memory.as_ptr();
            }
            if heap.grow(layout).is_err() {
                return core::ptr::null_mut();
            }
        }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        assert_context();
        let _shield = Shield::new();
        // SAFETY: allocated here with this layout, by the caller's promise.
        unsafe { HEAP.lock().talc.deallocate(memory, layout) }
    }
}

fn assert_context() {
    assert!(!cpu::in_interrupt(), "the heap is used inside an interrupt handler");
}

/// Runs `f` with memory in hand for one allocation of `layout` in it: that one does not fail. It must not wait.
///
/// # Errors
/// [`OutOfHeap`] if there is none; then `f` was dropped.
pub(super) fn with_promised<R>(layout: Layout, f: impl FnOnce() -> R) -> Result<R, OutOfHeap> {
    assert!(layout.size() > 0, "memory of no size is promised");
    let _shield = Shield::new();
    // SAFETY: the size is not zero.
    let memory = NonNull::new(unsafe { alloc::alloc::alloc(layout) }).ok_or(OutOfHeap)?;
    // What is promised is this CPU's, and nobody else allocates here meanwhile.
    let _here = PreemptOff::new();
    *HEAP.lock().promise() = Some((memory, layout));
    let result = f();
    let left = HEAP.lock().promise().take();
    if left.is_some() {
        // SAFETY: allocated above with this layout, and nobody got it.
        unsafe { alloc::alloc::dealloc(memory.as_ptr(), layout) }
    }
    Ok(result)
}

impl Heap {
    /// What the calling CPU was promised. The lock masks interrupts, so it stays this CPU.
    fn promise(&mut self) -> &mut Option<(NonNull<u8>, Layout)> {
        &mut self.promised[cpu::current_id().index()]
    }

    fn grow(&mut self, layout: Layout) -> Result<(), OutOfFrames> {
        // The allocator's own header and the alignment, generously.
        let wanted = layout.size() as u64 + layout.align() as u64 + PAGE_SIZE;
        let bytes = wanted.next_multiple_of(PAGE_SIZE).max(GROWTH);
        if bytes > LIMIT - self.filled {
            return Err(OutOfFrames);
        }
        let frames = frames::allocate((bytes / PAGE_SIZE) as usize, Use::Heap)?;
        if let Err(error) = paging::map_frames(self.filled, &frames, Access::ReadWrite) {
            frames::free(frames);
            return Err(error);
        }
        frames::disown(frames); // for ever
        let from = self.filled as *mut u8;
        self.filled += bytes;
        let to = self.filled as *mut u8;
        // SAFETY: the range up to `filled` is mapped, adjoins what the allocator has, and is used by nobody else.
        self.end = unsafe {
            match self.end {
                None => self.talc.claim(from, bytes as usize),
                Some(end) => Some(self.talc.extend(end, to)),
            }
        };
        Ok(())
    }
}

/// Allocations that live now, without those of the pools that are kept for ever (thread objects, slot entries): what
/// must be the same before and after a run.
#[must_use]
pub fn allocations() -> u64 {
    HEAP.lock().talc.counters().allocation_count as u64 - slots::chunks() - thread::pooled()
}

/// Bytes of the heap that are handed out, with what the allocator adds to each allocation.
#[must_use]
pub fn handed_out() -> u64 {
    let heap = HEAP.lock();
    let counters = heap.talc.counters();
    (counters.claimed_bytes - counters.available_bytes) as u64
}
