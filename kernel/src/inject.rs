//! Allocations that fail on purpose: the n-th from now on, of the kinds asked for, by the calling thread alone. For tests
//! that let every allocation inside a call fail in turn.
//!
//! An image without the cargo feature `fault-injection` has none of it: the question whether an allocation fails is constant there.

bitflags::bitflags! {
    /// Kinds of allocations. [`Sources::all`] is each of them.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Sources: u32 {
        /// Frames behind stacks and mappings: each time that some are asked for, however many.
        const FRAMES = 1 << 0;
        /// Frames for page tables.
        const TABLES = 1 << 1;
        /// Address ranges: slots, each time that one is asked for.
        const SLOTS = 1 << 2;
        /// Heap allocations.
        const HEAP = 1 << 3;
        /// Frames by which the heap would grow.
        const GROWTH = 1 << 4;
    }
}

/// How many allocations fail, from the n-th on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// That one.
    One,
    /// That one and all after it.
    Rest,
}

/// Whether this image has what is in this module.
pub const BUILT_IN: bool = cfg!(feature = "fault-injection");

/// Runs `f`, in which the allocation of the calling thread that comes after `n` others fails, counting those of `sources`;
/// the result, and whether it came to that. Other threads' allocations neither count nor fail. Whoever comes while another
/// thread is in here waits for it.
///
/// `f` runs under a [`Shield`](crate::thread::Shield): aborts are held off. In an image without the feature nothing fails.
///
/// ```no_run
/// use kernel::inject::{Failing, Sources, fail_nth};
/// # // no_run: it needs the machine.
/// for n in 0.. {
///     let (spawned, hit) = fail_nth(n, Failing::One, Sources::FRAMES, || kernel::thread::spawn(|| ()));
///     if !hit {
///         break; // there are n allocations in it, and it does without each of them
///     }
///     assert!(spawned.is_err());
/// }
/// ```
pub fn fail_nth<R>(n: u64, failing: Failing, sources: Sources, f: impl FnOnce() -> R) -> (R, bool) {
    #[cfg(not(feature = "fault-injection"))]
    {
        let _ = (n, failing, sources);
        (f(), false)
    }
    #[cfg(feature = "fault-injection")]
    built_in::fail_nth(n, failing, sources, f)
}

/// Whether the allocation that is about to be made has to fail.
#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub(crate) const fn fails(_source: Sources) -> bool {
    false
}

#[cfg(feature = "fault-injection")]
pub(crate) use built_in::fails;

#[cfg(feature = "fault-injection")]
mod built_in {
    use super::{Failing, Sources};
    use crate::cpu;
    use crate::thread::{self, Shield, Thread};
    use core::ptr;
    use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

    /// The thread whose allocations fail; null if none's do. The rest is written and read by that thread alone, so relaxed
    /// does for it.
    static ARMED: AtomicPtr<Thread> = AtomicPtr::new(ptr::null_mut());
    static SOURCES: AtomicU32 = AtomicU32::new(0);
    /// Allocations before the one that fails.
    static LEFT: AtomicU64 = AtomicU64::new(0);
    static REST: AtomicBool = AtomicBool::new(false);
    static HIT: AtomicBool = AtomicBool::new(false);

    pub(super) fn fail_nth<R>(n: u64, failing: Failing, sources: Sources, f: impl FnOnce() -> R) -> (R, bool) {
        let _shield = Shield::new();
        let me = ptr::from_ref(cpu::current()).cast_mut();
        assert!(ARMED.load(Ordering::Relaxed) != me, "a thread asks for failures while it has asked for some");
        // Acquire: pairs with the release of the thread that was in here before, whose last writes come before these.
        while ARMED.compare_exchange(ptr::null_mut(), me, Ordering::Acquire, Ordering::Relaxed).is_err() {
            thread::yield_now();
        }
        LEFT.store(n, Ordering::Relaxed);
        REST.store(failing == Failing::Rest, Ordering::Relaxed);
        HIT.store(false, Ordering::Relaxed);
        SOURCES.store(sources.bits(), Ordering::Relaxed);
        let result = f();
        SOURCES.store(0, Ordering::Relaxed);
        let hit = HIT.load(Ordering::Relaxed);
        ARMED.store(ptr::null_mut(), Ordering::Release);
        (result, hit)
    }

    /// Whether the allocation that is about to be made has to fail.
    pub(crate) fn fails(source: Sources) -> bool {
        // Null before the first thread runs, when there is no current one to ask for.
        let armed = ARMED.load(Ordering::Relaxed);
        if armed.is_null() || !ptr::eq(armed, cpu::current()) || cpu::in_interrupt() {
            return false;
        }
        if SOURCES.load(Ordering::Relaxed) & source.bits() == 0 {
            return false;
        }
        let left = LEFT.load(Ordering::Relaxed);
        LEFT.store(left.saturating_sub(1), Ordering::Relaxed);
        let fails = left == 0 && (REST.load(Ordering::Relaxed) || !HIT.load(Ordering::Relaxed));
        if fails {
            HIT.store(true, Ordering::Relaxed);
        }
        fails
    }
}
