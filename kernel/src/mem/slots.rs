//! Virtual addresses for guarded mappings: slots of 16 KiB, 32 KiB, … 64 MiB, each size in a window of its own.
//!
//! A slot holds one mapping and its two guards; whatever the mapping leaves over is guard too, in front, where an
//! overflow goes. From any address, size class and number follow by shifts, so that a fault handler can tell what was
//! hit without a lock. A freed slot is the next one handed out: addresses are reused at once, and a TLB that was not
//! told shows.

use super::{PAGE_SIZE, StackKind};
use crate::sync::SpinLock;
use crate::thread::{PreemptOff, Thread};
use alloc::boxed::Box;
use core::num::NonZeroU32;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use smp::CpuId;
use spin::Once;
use wire::record::Guard;

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
const NONE: u32 = u32::MAX;

/// A slot's number: class in the upper half, number in the class + 1 in the lower.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(crate) struct SlotId(NonZeroU32);

/// What is known about a slot; read by fault handlers at any moment.
struct Slot {
    /// The next of the list that it is in.
    next: AtomicU32,
    /// Pages mapped in it; 0 if none.
    pages: AtomicU32,
    /// Pages of its rear guard.
    guard: AtomicU32,
    /// What is mapped: a [`Kind`].
    kind: AtomicU32,
    /// What kind of stack: a [`StackKind`] in the lowest byte, the CPU that it belongs to in the next.
    stack: AtomicU32,
    /// The thread whose stack it is.
    owner: AtomicPtr<Thread>,
}

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
    /// A thread's or a CPU's stack.
    Stack,
    /// Frames of the allocator, known by their address alone.
    LooseMemory,
    /// Frames of somebody else, known by their address alone.
    LooseForeign,
}

struct FreeList {
    head: u32,
    /// Slots from this number on were never handed out.
    fresh: u32,
    live: u32,
}

static CHUNK_TABLE: [[Once<Box<[Slot]>>; CHUNKS]; CLASSES] = [const { [const { Once::new() }; CHUNKS] }; CLASSES];
static FREE: [SpinLock<FreeList>; CLASSES] =
    [const { SpinLock::new("slots", FreeList { head: NONE, fresh: 0, live: 0 }) }; CLASSES];

static CHUNKS_MADE: AtomicU32 = AtomicU32::new(0);

/// What an address in the slots' range belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// First byte of the mapping in the slot.
    pub start: u64,
    /// First byte past it.
    pub end: u64,
    /// Where the address lies.
    pub region: Region,
}

/// Where an address lies in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// In the mapping.
    Mapped,
    /// In a guard, this many bytes past the edge (1 is the byte next to the mapping).
    Guard(Guard, u64),
    /// In a slot that holds no mapping.
    Empty,
}

impl SlotId {
    fn new(class: usize, number: u32) -> Self {
        Self(NonZeroU32::new((class as u32) << 16 | (number + 1)).expect("never 0"))
    }

    const fn class(self) -> usize {
        (self.0.get() >> 16) as usize
    }

    const fn number(self) -> u32 {
        (self.0.get() & 0xffff) - 1
    }

    fn slot(self) -> &'static Slot {
        let (class, number) = (self.class(), self.number());
        let chunk = CHUNK_TABLE[class][(number / CHUNK) as usize].get().expect("made when it was first handed out");
        &chunk[(number % CHUNK) as usize]
    }

    /// First byte past the slot.
    const fn slot_end(self) -> u64 {
        START + self.class() as u64 * WINDOW + (self.number() as u64 + 1) * size(self.class())
    }

    /// First byte past the mapping.
    pub(crate) fn end(self) -> u64 {
        self.slot_end() - u64::from(self.slot().guard.load(Ordering::Relaxed)) * PAGE_SIZE
    }

    /// Pages of the mapping.
    pub(crate) fn pages(self) -> u64 {
        self.slot().pages.load(Ordering::Relaxed).into()
    }

    /// First byte of the mapping.
    pub(crate) fn start(self) -> u64 {
        self.extent().0
    }

    /// First byte of the mapping, and its pages.
    pub(crate) fn extent(self) -> (u64, u64) {
        let slot = self.slot();
        let (pages, guard) = (slot.pages.load(Ordering::Relaxed), slot.guard.load(Ordering::Relaxed));
        (self.slot_end() - u64::from(pages + guard) * PAGE_SIZE, pages.into())
    }

    /// Says what is mapped in it.
    pub(crate) fn describe(self, pages: u64, kind: Kind) {
        let slot = self.slot();
        slot.pages.store(pages as u32, Ordering::Relaxed);
        slot.kind.store(kind as u32, Ordering::Release);
    }

    /// What is mapped in it.
    pub(crate) fn kind(self) -> Kind {
        match self.slot().kind.load(Ordering::Acquire) {
            1 => Kind::Memory,
            2 => Kind::Foreign,
            3 => Kind::Stack,
            4 => Kind::LooseMemory,
            5 => Kind::LooseForeign,
            _ => Kind::Empty,
        }
    }

    /// Takes what is mapped in it, to unmap it: true for one caller only.
    pub(crate) fn claim(self, kind: Kind) -> bool {
        let slot = self.slot();
        slot.kind.compare_exchange(kind as u32, Kind::Empty as u32, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Says what kind of stack is mapped in it, and which CPU's it is. Until then it is a thread's.
    pub(crate) fn set_stack_kind(self, kind: StackKind, cpu: CpuId) {
        self.slot().stack.store(kind as u32 | (cpu.index() as u32) << 8, Ordering::Relaxed);
    }

    /// What kind of stack is mapped in it, and if it is not a thread's, which CPU's it is.
    pub(crate) fn stack_kind(self) -> (StackKind, CpuId) {
        let word = self.slot().stack.load(Ordering::Relaxed) as usize;
        (StackKind::ALL[word & 0xff], CpuId::new(word >> 8))
    }

    /// The thread whose stack it is.
    pub(crate) fn owner(self) -> Option<&'static Thread> {
        // SAFETY: null, or set by `set_owner` from a `&'static`.
        unsafe { self.slot().owner.load(Ordering::Relaxed).as_ref() }
    }

    /// The thread whose stack it was: the thread ends its life before the slot does.
    pub(crate) fn take_owner(self) -> Option<&'static Thread> {
        let owner = self.owner();
        self.slot().owner.store(core::ptr::null_mut(), Ordering::Relaxed);
        owner
    }

    /// Says whose stack it is.
    pub(crate) fn set_owner(self, thread: &'static Thread) {
        self.slot().owner.store(core::ptr::from_ref(thread).cast_mut(), Ordering::Relaxed);
    }

    /// The slot as a number that is never 0.
    pub(crate) const fn into_bits(self) -> u32 {
        self.0.get()
    }

    /// The slot that [`into_bits`](Self::into_bits) made `bits` of; `None` for 0.
    pub(crate) fn from_bits(bits: u32) -> Option<Self> {
        NonZeroU32::new(bits).map(Self)
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

/// Hands out a slot for `pages` pages between guards of at least `guard` pages; `None` if there is none left, or none
/// so large.
pub(crate) fn allocate(pages: u64, guard: u64) -> Option<SlotId> {
    let needed = guard.checked_mul(2)?.checked_add(pages)?;
    let class = (0..CLASSES).find(|class| SMALLEST << class >= needed)?;
    let (number, fresh) = {
        let mut free = FREE[class].lock();
        let taken = if free.head != NONE {
            let number = free.head;
            free.head = SlotId::new(class, number).slot().next.load(Ordering::Relaxed);
            (number, false)
        } else if free.fresh < capacity(class) {
            free.fresh += 1;
            (free.fresh - 1, true)
        } else {
            return None;
        };
        free.live += 1;
        taken
    };
    if fresh {
        // Outside the lock, since it allocates; a chunk is made once, whoever comes first. Who comes second spins, so the
        // first is not preempted.
        let _here = PreemptOff::new();
        CHUNK_TABLE[class][(number / CHUNK) as usize].call_once(|| {
            CHUNKS_MADE.fetch_add(1, Ordering::Relaxed);
            (0..CHUNK).map(|_| Slot::empty()).collect()
        });
    }
    let id = SlotId::new(class, number);
    let slot = id.slot();
    slot.guard.store(guard as u32, Ordering::Relaxed);
    slot.pages.store(0, Ordering::Relaxed);
    Some(id)
}

impl Slot {
    const fn empty() -> Self {
        Self {
            next: AtomicU32::new(NONE),
            pages: AtomicU32::new(0),
            guard: AtomicU32::new(0),
            kind: AtomicU32::new(Kind::Empty as u32),
            stack: AtomicU32::new(StackKind::Thread as u32),
            owner: AtomicPtr::new(core::ptr::null_mut()),
        }
    }
}

/// Takes a slot back. Nothing is mapped in it, and no TLB says otherwise.
pub(crate) fn free(id: SlotId) {
    let slot = id.slot();
    slot.kind.store(Kind::Empty as u32, Ordering::Relaxed);
    slot.stack.store(StackKind::Thread as u32, Ordering::Relaxed);
    slot.owner.store(core::ptr::null_mut(), Ordering::Relaxed);
    slot.pages.store(0, Ordering::Relaxed);
    let mut free = FREE[id.class()].lock();
    slot.next.store(free.head, Ordering::Relaxed);
    free.head = id.number();
    free.live -= 1;
}

/// Slots on their way to be freed, chained through their own entries.
pub(crate) struct SlotList(u32);

impl SlotList {
    pub(crate) const fn empty() -> Self {
        Self(0)
    }

    pub(crate) fn push(&mut self, id: SlotId) {
        id.slot().next.store(self.0, Ordering::Relaxed);
        self.0 = id.0.get();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = SlotId> + use<> {
        let mut left = Self(self.0);
        core::iter::from_fn(move || left.pop())
    }

    pub(crate) fn pop(&mut self) -> Option<SlotId> {
        let id = SlotId(NonZeroU32::new(self.0)?);
        self.0 = id.slot().next.load(Ordering::Relaxed);
        Some(id)
    }
}

/// How many slots are handed out.
#[must_use]
pub fn live() -> u64 {
    FREE.iter().map(|free| u64::from(free.lock().live)).sum()
}

/// Chunks of slot entries there are; each is one allocation, kept for ever.
pub(super) fn chunks() -> u64 {
    CHUNKS_MADE.load(Ordering::Relaxed).into()
}

/// What `address` hits, if it lies in a slot that was ever handed out. Takes no lock.
#[must_use]
pub fn classify(address: u64) -> Option<Hit> {
    let id = slot_of(address)?;
    let (start, end) = (id.start(), id.end());
    let region = if start == end {
        Region::Empty
    } else if address < start {
        Region::Guard(Guard::Front, start - address)
    } else if address >= end {
        Region::Guard(Guard::Rear, address - end + 1)
    } else {
        Region::Mapped
    };
    Some(Hit { start, end, region })
}

/// The slot that `address` lies in, if it was ever handed out.
pub(crate) fn slot_of(address: u64) -> Option<SlotId> {
    let offset = address.checked_sub(START)?;
    let class = usize::try_from(offset / WINDOW).ok().filter(|class| *class < CLASSES)?;
    let number = u32::try_from(offset % WINDOW / size(class)).ok().filter(|number| *number < capacity(class))?;
    CHUNK_TABLE[class][(number / CHUNK) as usize].get()?;
    Some(SlotId::new(class, number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::record::Guard::{Front, Rear};

    #[test]
    fn every_byte_around_a_mapping_is_told_apart() {
        let id = allocate(3, 1).unwrap();
        id.describe(3, Kind::Memory);
        let (start, end) = (id.start(), id.end());
        assert_eq!(end - start, 3 * PAGE_SIZE);
        let region = |address| classify(address).unwrap().region;
        assert_eq!(region(start - 1), Region::Guard(Front, 1));
        assert_eq!(region(start - PAGE_SIZE), Region::Guard(Front, PAGE_SIZE));
        assert_eq!(region(start), Region::Mapped);
        assert_eq!(region(end - 1), Region::Mapped);
        assert_eq!(region(end), Region::Guard(Rear, 1));
        assert_eq!(region(end + PAGE_SIZE - 1), Region::Guard(Rear, PAGE_SIZE));
        free(id);
        assert_eq!(region(start), Region::Empty);
    }

    #[test]
    fn a_freed_slot_is_the_next_one_handed_out() {
        let (a, b) = (allocate(30, 2).unwrap(), allocate(30, 2).unwrap());
        free(a);
        assert_eq!(allocate(30, 2), Some(a));
        free(b);
        free(a);
    }

    #[test]
    fn what_cannot_fit_is_refused() {
        assert_eq!(allocate(1 << 20, 1), None);
        assert_eq!(classify(0), None);
        assert_eq!(classify(u64::MAX), None);
    }

    #[test]
    fn a_list_of_slots_gives_back_what_it_got() {
        let ids = [allocate(900, 1).unwrap(), allocate(900, 1).unwrap(), allocate(2000, 1).unwrap()];
        let mut list = SlotList::empty();
        ids.iter().for_each(|id| list.push(*id));
        let mut back: Vec<_> = std::iter::from_fn(|| list.pop()).collect();
        back.reverse();
        assert_eq!(back, ids);
        back.into_iter().for_each(free);
    }
}
