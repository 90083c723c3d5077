//! What threads stand on: where a stack comes from, and to whom it goes back.
//!
//! | | mapped between guards | its frames are | when its thread has left it |
//! |---|---|---|---|
//! | fresh (the default) | by the spawn | the allocator's | it waits to be reaped, or goes into the CPU's cache |
//! | [`GuardedStack`] | when it is made | the allocator's | its owner has it back at once |
//! | a view of [`StackMemory`] | by the spawn | its owner's | it waits to be reaped; then its owner has the memory back |
//! | bare [`StackMemory`] | not at all | its owner's | its owner has it back at once |
//!
//! Whatever is lent is refused to a second thread by an error. What only waits to be reaped is reaped first.

use super::{Shield, Thread, watermark};
use crate::mem::MapError;
use crate::mem::guarded::{self, Fill};
use crate::mem::lender::Lender;
use crate::mem::paging::Access;
use crate::mem::slots::{Kind, SlotId};
use crate::mem::{PAGE_SIZE, oracle};
use crate::perturb::{self, Point};
use crate::sync::may_wait;
use core::cell::UnsafeCell;
use core::fmt;
use core::mem::ManuallyDrop;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// The stack that a thread stands on. Set before the thread is READY, taken by the epilogue that has left it.
pub(super) struct Current {
    start: AtomicU64,
    end: AtomicU64,
    slot: AtomicPtr<()>,
    lender: AtomicPtr<Lender>,
}

/// A stack that nobody stands on any more.
pub(super) enum Former {
    /// There was none.
    None,
    /// In a slot.
    Mapped(SlotId),
    /// Bare memory.
    Bare(&'static Lender),
}

impl Current {
    pub(super) const fn none() -> Self {
        Self {
            start: AtomicU64::new(0),
            end: AtomicU64::new(0),
            slot: AtomicPtr::new(ptr::null_mut()),
            lender: AtomicPtr::new(ptr::null_mut()),
        }
    }

    #[inline(always)]
    pub(super) fn is_there(&self) -> bool {
        self.end.load(Ordering::Relaxed) != 0
    }

    #[inline(always)]
    pub(super) fn bounds(&self) -> (u64, u64) {
        (self.start.load(Ordering::Relaxed), self.end.load(Ordering::Relaxed))
    }

    #[inline(always)]
    pub(super) fn slot(&self) -> Option<SlotId> {
        // SAFETY: null, or of a slot, by `set_slot`.
        unsafe { SlotId::from_raw(self.slot.load(Ordering::Relaxed)) }
    }

    #[inline(always)]
    pub(super) fn set_slot(&self, slot: SlotId) {
        let (start, pages) = slot.extent();
        self.start.store(start, Ordering::Relaxed);
        self.end.store(start.wrapping_add(pages * PAGE_SIZE), Ordering::Relaxed);
        self.slot.store(slot.into_raw(), Ordering::Relaxed);
    }

    fn set_bare(&self, start: u64, bytes: u64, lender: &'static Lender) {
        self.start.store(start, Ordering::Relaxed);
        self.end.store(start + bytes, Ordering::Relaxed);
        self.lender.store(ptr::from_ref(lender).cast_mut(), Ordering::Relaxed);
    }

    #[inline(always)]
    pub(super) fn take(&self) -> Former {
        let slot = self.slot();
        self.start.store(0, Ordering::Relaxed);
        self.end.store(0, Ordering::Relaxed);
        self.slot.store(ptr::null_mut(), Ordering::Relaxed);
        match slot {
            Some(slot) => Former::Mapped(slot),
            // SAFETY: null, or set by `set_bare` from a `&'static`.
            None => unsafe { self.lender.swap(ptr::null_mut(), Ordering::Relaxed).as_ref() }
                .map_or(Former::None, Former::Bare),
        }
    }
}

/// Where a thread's stack is to come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source<'s> {
    Fresh { pages: u64, guard: u64 },
    Lent(&'s GuardedStack),
    View(&'static Lender, Extent, u64),
    Bare(&'static Lender, Extent),
}

/// A range of memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    start: u64,
    pages: u64,
}

/// Why there is no stack.
pub(super) enum NoStack {
    Map(MapError),
    InUse,
}

impl From<MapError> for NoStack {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

impl Source<'_> {
    /// Whether the memory is lent, and comes back without anybody's doing but the reaper's.
    pub(super) fn is_leaving(&self) -> bool {
        matches!(self, Self::View(lender, ..) | Self::Bare(lender, _) if lender.is_leaving())
    }

    /// Gives `thread` its stack.
    #[inline(always)]
    pub(super) fn give(&self, thread: &'static Thread, fill: Option<Fill>) -> Result<(), NoStack> {
        match *self {
            Self::Fresh { pages, guard } => {
                let slot = match super::cache::take(pages, guard, fill) {
                    Some(cached) => cached,
                    None => {
                        let fill = fill.unwrap_or_else(watermark::fill);
                        guarded::map_fresh(pages, guard, fill, Access::ReadWrite, Kind::Stack)?
                    }
                };
                slot.set_owner(thread);
                thread.stack.set_slot(slot);
            }
            Self::Lent(stack) => {
                // Acquire: pairs with the release in `return_lent`; the thread before has left the stack.
                if !stack.0.change(Kind::Lent, Kind::OnLoan) {
                    return Err(NoStack::InUse);
                }
                stack.0.set_owner(thread);
                clear_if_wanted(fill, stack.start(), stack.end());
                thread.stack.set_slot(stack.0);
            }
            Self::View(lender, extent, guard) => {
                if !lender.take() {
                    return Err(NoStack::InUse);
                }
                let slot = guarded::map_view(extent.start, extent.pages, guard).inspect_err(|_| lender.give_back())?;
                clear_if_wanted(fill, slot.start(), slot.end());
                slot.set_lender(lender);
                slot.set_owner(thread);
                thread.stack.set_slot(slot);
            }
            Self::Bare(lender, extent) => {
                if !lender.take() {
                    return Err(NoStack::InUse);
                }
                let bytes = extent.pages * PAGE_SIZE;
                clear_if_wanted(fill, extent.start, extent.start + bytes);
                thread.stack.set_bare(extent.start, bytes, lender);
            }
        }
        Ok(())
    }
}

/// Clears memory that the caller has just taken to be a stack, if that is asked for, or wanted for the watermark.
fn clear_if_wanted(fill: Option<Fill>, start: u64, end: u64) {
    if fill.unwrap_or_else(watermark::fill) == Fill::Zeros {
        // SAFETY: mapped memory that the caller has taken: nobody else uses it.
        unsafe { core::ptr::write_bytes(start as *mut u8, 0, (end - start) as usize) }
    }
}

/// A stack between guard pages that its owner keeps, and lends to one thread after the other
/// ([`Builder::on_stack`](super::Builder::on_stack)).
///
/// Dropping it frees it; if a thread stands on it at that moment, it is freed when the thread has left it.
///
/// ```no_run
/// use kernel::thread::{Builder, GuardedStack, StackBusy};
///
/// # fn example() -> Result<(), Box<dyn core::error::Error>> {
/// let stack = GuardedStack::new(4, 1)?;
/// let thread = Builder::new().on_stack(&stack).spawn(|| ())?;
/// let stack = match stack.free() {
///     Err(StackBusy(stack)) => stack, // the thread still stands on it
///     Ok(()) => return Ok(()),
/// };
/// let _ = thread.join();
/// stack.free()?; // with a shootdown
/// # Ok(())
/// # }
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct GuardedStack(SlotId);

/// The stack is lent to a thread that has not left it. It is given back.
#[derive(Debug, PartialEq, Eq)]
pub struct StackBusy(pub GuardedStack);

impl fmt::Display for StackBusy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a thread stands on the stack at {:#x}", self.0.start())
    }
}

impl core::error::Error for StackBusy {}

impl GuardedStack {
    /// Maps a stack of `pages` pages of 4 KiB between guards of `guard` pages each. Its contents are whatever was there.
    ///
    /// # Errors
    /// [`MapError`] says what is wrong or missing; nothing has changed then.
    pub fn new(pages: u64, guard: u64) -> Result<Self, MapError> {
        let _shield = Shield::new();
        guarded::map_fresh(pages, guard, Fill::AsIs, Access::ReadWrite, Kind::Lent).map(Self)
    }

    /// First byte.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.0.start()
    }

    /// First byte past the end.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.0.end()
    }

    /// Whether a thread has it.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.0.kind() != Kind::Lent
    }

    /// Frees it, with a shootdown. What is freed is nobody's to lend:
    ///
    /// ```compile_fail,E0382
    /// # use kernel::thread::{Builder, GuardedStack};
    /// fn after_free(stack: GuardedStack) {
    ///     let _ = stack.free();
    ///     let _ = Builder::new().on_stack(&stack);
    /// }
    /// ```
    ///
    /// # Errors
    /// [`StackBusy`] gives it back if a thread has it.
    ///
    /// # Panics
    /// Where the caller may not wait: in a handler, with a lock held, with interrupts masked. So does dropping it.
    pub fn free(self) -> Result<(), StackBusy> {
        if self.is_busy() { Err(StackBusy(self)) } else { Ok(()) }
    }

    /// Gives it up to whoever knows its address, without freeing it.
    #[must_use]
    pub fn leak(self) -> u64 {
        ManuallyDrop::new(self).start()
    }
}

impl Drop for GuardedStack {
    fn drop(&mut self) {
        let _shield = Shield::new();
        loop {
            // The owner's way out and the thread's, in `return_lent`, are one compare-and-swap each, of the same word. After
            // its own, neither looks at the slot again, unless it has it.
            if self.0.change(Kind::Lent, Kind::Empty) {
                perturb::in_a_thread(Point::Dropped);
                return guarded::take_down(self.0, true, &mut may_wait(0));
            }
            if self.0.change(Kind::OnLoan, Kind::Stack) {
                return perturb::in_a_thread(Point::Dropped);
            }
        }
    }
}

/// In the epilogue of this thread: gives a stack back that was lent to it. False if its owner has dropped it meanwhile: then it is to be
/// reaped, and says whose it was, as others do.
pub(super) fn return_lent(slot: SlotId, thread: &'static Thread) -> bool {
    slot.release_owner();
    let returned = slot.change(Kind::OnLoan, Kind::Lent);
    if !returned {
        slot.set_owner(thread);
    }
    returned
}

/// Memory of its owner's for a stack of `PAGES` pages of 4 KiB: a static, or leaked.
///
/// A thread runs on a view of it, mapped between guards ([`Builder::on_view_of`](super::Builder::on_view_of)), or on it as it is, without guards
/// ([`Builder::on_bare`](super::Builder::on_bare)).
///
/// ```no_run
/// use kernel::thread::{Builder, SpawnError, StackMemory};
///
/// static MEMORY: StackMemory<4> = StackMemory::new();
///
/// # fn example() -> Result<(), SpawnError> {
/// let thread = Builder::new().on_view_of(&MEMORY).spawn(|| 6 * 7)?;
/// assert_eq!(thread.join(), Ok(42));
/// // SAFETY: it needs next to nothing.
/// let _without_guards = unsafe { Builder::new().on_bare(&MEMORY) }.spawn(|| ())?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct StackMemory<const PAGES: usize> {
    lender: Lender,
    pages: Pages<PAGES>,
}

#[derive(Debug)]
#[repr(C, align(4096))]
struct Pages<const PAGES: usize>(UnsafeCell<[[u8; PAGE_SIZE as usize]; PAGES]>);

// SAFETY: the bytes are reached only through the stack of the one thread that has the memory.
unsafe impl<const PAGES: usize> Sync for Pages<PAGES> {}

impl<const PAGES: usize> Default for StackMemory<PAGES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const PAGES: usize> StackMemory<PAGES> {
    /// Memory that nobody uses.
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(PAGES > 0, "a stack has a page at least") };
        Self { lender: Lender::new(), pages: Pages(UnsafeCell::new([[0; PAGE_SIZE as usize]; PAGES])) }
    }

    /// Address of its first byte.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.pages.0.get() as u64
    }

    /// Whether a thread has it, or did, and it waits to be reaped.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.lender.is_lent()
    }

    pub(super) fn lend(&'static self) -> (&'static Lender, Extent) {
        (&self.lender, Extent { start: self.start(), pages: PAGES as u64 })
    }
}

/// Hurries whatever may hold stacks that nobody stands on. How many there were.
pub(super) fn free_what_waits() -> usize {
    super::cache::drain() + super::reap() + crate::mem::custody::hurry(&mut may_wait(0)) + oracle::give_all_back()
}
