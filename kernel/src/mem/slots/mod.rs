//! Virtual addresses for guarded mappings: slots of 16 KiB, 32 KiB, … 64 MiB, each size in a window of its own.
//!
//! A slot holds one mapping and its two guards; whatever the mapping leaves over is guard too, in front, where an
//! overflow goes. From any address, size class and number follow by shifts, so that a fault handler can tell what was
//! hit without a lock. A freed slot is the next one handed out: addresses are reused at once, and a TLB that was not
//! told shows.

mod free;
mod list;
mod lookup;

pub(super) use free::chunks;
pub use free::live;
pub(crate) use free::{NoSlot, allocate, free};
pub(crate) use list::SlotList;
pub(super) use lookup::is_slots;
pub(crate) use lookup::slot_of;
pub use lookup::{Hit, Region, classify};

use super::frames::{FrameList, OutOfFrames};
use super::lender::Lender;
use super::paging::Entries;
use super::{PAGE_SIZE, StackKind};
use crate::thread::Thread;
use alloc::boxed::Box;
use core::fmt;
use core::num::NonZeroU32;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use smp::CpuId;
use spin::Once;
use wire::trace::event::SlotName;

const START: u64 = 0xffff_d000_0000_0000;
/// Bytes of one class's window.
const WINDOW: u64 = 64 << 30;
const CLASSES: usize = 13;
/// Pages of a slot of class 0.
const SMALLEST: u64 = 4;
/// Where all windows are: start and bytes.
pub(super) const RANGE: (u64, u64) = (START, CLASSES as u64 * WINDOW);
const CHUNK: u32 = 256;
const CHUNKS: usize = 256;

/// A slot: what stands for it is a reference to its entry, which lives for ever.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct SlotId(&'static Slot);

/// What is known about a slot; read by fault handlers at any moment.
#[repr(C)]
struct Slot {
    /// Class in the upper half, number in the class + 1 in the lower. First, for readers outside.
    bits: NonZeroU32,
    /// First byte past the slot.
    end: u64,
    /// The next of the list that it is in.
    next: AtomicPtr<Slot>,
    /// Pages mapped in it; 0 if none.
    pages: AtomicU32,
    /// Pages of its rear guard.
    guard: AtomicU32,
    /// What is mapped: a [`Kind`].
    kind: AtomicU32,
    /// The first and the last of the frames that are mapped in it, which are chained ([`FrameList`]).
    frames: [AtomicU32; 2],
    /// The page-table entries of the slot, once there is a table for it; see [`SlotId::entries`].
    entries: AtomicPtr<AtomicU64>,
    /// What kind of stack: a [`StackKind`] in the lowest byte, the CPU that it belongs to in the next.
    stack: AtomicU32,
    /// The thread whose stack it is.
    owner: AtomicPtr<Thread>,
    /// Who lends the memory that is mapped in it, if somebody does.
    lender: AtomicPtr<Lender>,
    /// A page of it whose dirty bit is not set holds zeros.
    is_clean: AtomicBool,
}

/// Bytes of a slot's entry, which is made with those of its chunk and kept for ever.
pub const BYTES: u64 = size_of::<Slot>() as u64;

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    /// Nothing, or what is on its way out.
    Empty,
    /// Frames of the allocator, owned by a value.
    Memory,
    /// Frames of somebody else, owned by a value.
    Foreign,
    /// A thread's or a CPU's stack, freed when that is left.
    Stack,
    /// Frames of the allocator, known by their address alone.
    LooseMemory,
    /// Frames of somebody else, known by their address alone.
    LooseForeign,
    /// A stack that its owner lends to one thread after the other, and has at the moment.
    Lent,
    /// A thread's stack, on frames of somebody else.
    View,
    /// A stack that a thread has from its owner. If the owner drops it, it becomes the thread's, a [`Kind::Stack`].
    OnLoan,
    /// What was loose until just now, while whoever wants to unmap it looks whether it is what it takes it for.
    Doubted,
}

static CHUNK_TABLE: [[Once<Box<[Slot]>>; CHUNKS]; CLASSES] = [const { [const { Once::new() }; CHUNKS] }; CLASSES];
impl PartialEq for SlotId {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self.0, other.0)
    }
}

impl Eq for SlotId {}

impl fmt::Debug for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", SlotName(self.into_bits()))
    }
}

const fn bits(class: usize, number: u32) -> NonZeroU32 {
    NonZeroU32::new((class as u32) << 16 | (number + 1)).expect("never 0")
}

impl SlotId {
    /// The slot with this number in this class, if it was ever handed out.
    fn find(class: usize, number: u32) -> Option<Self> {
        let chunk = CHUNK_TABLE[class][(number / CHUNK) as usize].get()?;
        Some(Self(&chunk[(number % CHUNK) as usize]))
    }

    const fn class(self) -> usize {
        (self.0.bits.get() >> 16) as usize
    }

    /// First byte past the mapping.
    #[inline(always)]
    pub(crate) fn end(self) -> u64 {
        self.0.end.wrapping_sub(u64::from(self.0.guard.load(Ordering::Relaxed)) * PAGE_SIZE)
    }

    /// Pages of the mapping.
    #[inline(always)]
    pub(crate) fn pages(self) -> u64 {
        self.0.pages.load(Ordering::Relaxed).into()
    }

    /// First byte of the mapping.
    #[inline(always)]
    pub(crate) fn start(self) -> u64 {
        self.extent().0
    }

    /// First byte of the mapping, and its pages.
    #[inline(always)]
    pub(crate) fn extent(self) -> (u64, u64) {
        let pages = self.pages();
        (self.start_of(pages), pages)
    }

    /// Where a mapping of so many pages begins in it.
    #[inline(always)]
    pub(crate) fn start_of(self, pages: u64) -> u64 {
        self.end().wrapping_sub(pages * PAGE_SIZE)
    }

    /// The page-table entries for the slot's first page and the following, if it lies in one table, which the larger ones do
    /// not. Whoever has the slot has them: nobody else touches them, so no lock is needed.
    ///
    /// # Errors
    /// [`OutOfFrames`] if there is no table yet, and no memory for one.
    #[inline(always)]
    pub(super) fn entries(self) -> Result<Option<Entries>, OutOfFrames> {
        let known = self.0.entries.load(Ordering::Relaxed);
        match Entries::from_raw(known) {
            None if size(self.class()) > Entries::SPAN => Ok(None),
            None => self.create_entries().map(Some),
            found => Ok(found),
        }
    }

    #[cold]
    fn create_entries(self) -> Result<Entries, OutOfFrames> {
        let entries = Entries::create(self.0.end - size(self.class()))?;
        self.0.entries.store(entries.into_raw(), Ordering::Relaxed);
        Ok(entries)
    }

    /// Which of the slot's pages is the first of a mapping of so many.
    #[inline(always)]
    pub(super) fn first_page(self, pages: u64) -> u64 {
        (SMALLEST << self.class()).wrapping_sub(pages + u64::from(self.0.guard.load(Ordering::Relaxed)))
    }

    /// Keeps the frames that are mapped in it.
    #[inline(always)]
    pub(super) fn set_frames(self, frames: FrameList) {
        let (first, last) = frames.into_ends();
        self.0.frames[0].store(first, Ordering::Relaxed);
        self.0.frames[1].store(last, Ordering::Relaxed);
    }

    /// The frames that [`set_frames`](Self::set_frames) kept. For whoever has unmapped them, once.
    #[inline(always)]
    pub(super) fn take_frames(self) -> FrameList {
        let [first, last] = [0, 1].map(|end| self.0.frames[end].load(Ordering::Relaxed));
        FrameList::from_ends(first, last, self.pages() as usize)
    }

    /// Says what is mapped in it.
    pub(crate) fn describe(self, pages: u64, kind: Kind) {
        let slot = self.0;
        slot.pages.store(pages as u32, Ordering::Relaxed);
        slot.kind.store(kind as u32, Ordering::Release);
    }

    /// What is mapped in it.
    pub(crate) fn kind(self) -> Kind {
        match self.0.kind.load(Ordering::Acquire) {
            1 => Kind::Memory,
            2 => Kind::Foreign,
            3 => Kind::Stack,
            4 => Kind::LooseMemory,
            5 => Kind::LooseForeign,
            6 => Kind::Lent,
            7 => Kind::View,
            8 => Kind::OnLoan,
            9 => Kind::Doubted,
            _ => Kind::Empty,
        }
    }

    /// Takes what is mapped in it, to unmap it: true for one caller only.
    pub(crate) fn claim(self, kind: Kind) -> bool {
        let slot = self.0;
        slot.kind.compare_exchange(kind as u32, Kind::Empty as u32, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Takes what is mapped in it for something else: true for one caller only.
    #[inline(always)]
    pub(crate) fn change(self, from: Kind, to: Kind) -> bool {
        self.0.kind.compare_exchange(from as u32, to as u32, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Says what kind of stack is mapped in it, and which CPU's it is. Until then it is a thread's.
    pub(crate) fn set_stack_kind(self, kind: StackKind, cpu: CpuId) {
        self.0.stack.store(kind as u32 | (cpu.index() as u32) << 8, Ordering::Relaxed);
    }

    /// What kind of stack is mapped in it, and if it is not a thread's, which CPU's it is.
    pub(crate) fn stack_kind(self) -> (StackKind, CpuId) {
        let word = self.0.stack.load(Ordering::Relaxed) as usize;
        (StackKind::ALL[word & 0xff], CpuId::new(word >> 8))
    }

    /// The thread whose stack it is.
    #[inline(always)]
    pub(crate) fn owner(self) -> Option<&'static Thread> {
        // SAFETY: null, or set by `set_owner` from a `&'static`.
        unsafe { self.0.owner.load(Ordering::Relaxed).as_ref() }
    }

    /// The thread whose stack it was: the thread ends its life before the slot does.
    #[inline(always)]
    pub(crate) fn take_owner(self) -> Option<&'static Thread> {
        let owner = self.owner();
        self.0.owner.store(ptr::null_mut(), Ordering::Relaxed);
        owner
    }

    /// Says whose stack it is.
    #[inline(always)]
    pub(crate) fn set_owner(self, thread: &'static Thread) {
        self.0.owner.store(ptr::from_ref(thread).cast_mut(), Ordering::Relaxed);
    }

    /// It is nobody's any more. Whoever hands it on afterwards does so with release.
    #[inline(always)]
    pub(crate) fn release_owner(self) {
        self.0.owner.store(ptr::null_mut(), Ordering::Relaxed);
    }

    /// Says who lends what is mapped in it: it is given back when the slot comes free.
    pub(crate) fn set_lender(self, lender: &'static Lender) {
        self.0.lender.store(ptr::from_ref(lender).cast_mut(), Ordering::Relaxed);
    }

    /// Who lends what is mapped in it.
    #[inline(always)]
    pub(crate) fn lender(self) -> Option<&'static Lender> {
        // SAFETY: null, or set by `set_lender` from a `&'static`.
        unsafe { self.0.lender.load(Ordering::Relaxed).as_ref() }
    }

    /// Pages of the mapping, and of the rear guard.
    #[inline(always)]
    pub(crate) fn sizes(self) -> (u32, u32) {
        (self.0.pages.load(Ordering::Relaxed), self.0.guard.load(Ordering::Relaxed))
    }

    /// Whether it holds a stack on frames of the allocator that is freed when it is left.
    #[inline(always)]
    pub(crate) fn is_own_stack(self) -> bool {
        self.0.kind.load(Ordering::Relaxed) == Kind::Stack as u32
    }

    /// Whether its [`entries`](Self::entries) are known: it lies in one page table, and something was mapped in it.
    #[inline(always)]
    pub(crate) fn has_entries(self) -> bool {
        !self.0.entries.load(Ordering::Relaxed).is_null()
    }

    /// Whether a page of it whose dirty bit is not set holds zeros.
    pub(super) fn is_clean(self) -> bool {
        self.0.is_clean.load(Ordering::Relaxed)
    }

    pub(super) fn set_clean(self, is_clean: bool) {
        self.0.is_clean.store(is_clean, Ordering::Relaxed);
    }

    /// The slot as a pointer, for places that are atomics.
    #[inline(always)]
    pub(crate) const fn into_raw(self) -> *mut () {
        ptr::from_ref(self.0).cast_mut().cast()
    }

    /// The slot that [`into_raw`](Self::into_raw) made `raw` of; `None` for null.
    ///
    /// # Safety
    /// It is such a pointer, or null.
    #[inline(always)]
    pub(crate) unsafe fn from_raw(raw: *mut ()) -> Option<Self> {
        // SAFETY: by the caller's promise; slots live for ever.
        unsafe { raw.cast::<Slot>().as_ref() }.map(Self)
    }

    /// The slot as a number that is never 0.
    pub(crate) const fn into_bits(self) -> u32 {
        self.0.bits.get()
    }

    /// The slot that [`into_bits`](Self::into_bits) made `bits` of; `None` for 0 and for what is no slot's.
    pub(crate) fn from_bits(bits: u32) -> Option<Self> {
        let (class, number) = ((bits >> 16) as usize, (bits & 0xffff).checked_sub(1)?);
        if class < CLASSES { Self::find(class, number) } else { None }
    }
}

/// Bytes of a slot of this class.
const fn size(class: usize) -> u64 {
    (SMALLEST << class) * PAGE_SIZE
}

/// How many slots a class has room for.
const fn capacity(class: usize) -> u32 {
    let (by_window, by_table) = (WINDOW / size(class), (CHUNK as u64) * CHUNKS as u64 - 1);
    (if by_window < by_table { by_window } else { by_table }) as u32
}

impl Slot {
    const fn new(class: usize, number: u32) -> Self {
        Self {
            bits: bits(class, number),
            end: START + class as u64 * WINDOW + (number as u64 + 1) * size(class),
            next: AtomicPtr::new(ptr::null_mut()),
            pages: AtomicU32::new(0),
            guard: AtomicU32::new(0),
            kind: AtomicU32::new(Kind::Empty as u32),
            frames: [const { AtomicU32::new(0) }; 2],
            entries: AtomicPtr::new(ptr::null_mut()),
            stack: AtomicU32::new(StackKind::Thread as u32),
            owner: AtomicPtr::new(ptr::null_mut()),
            lender: AtomicPtr::new(ptr::null_mut()),
            is_clean: AtomicBool::new(false),
        }
    }
}
