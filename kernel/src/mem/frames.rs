//! The frame allocator: a free list through a table with one entry a frame.
//!
//! The table says of each frame what it is used for, so that a frame that is freed twice, or that was never handed out,
//! is noticed at once, and the account at the end of a run can name what is missing. Frames that belong together are a
//! [`FrameList`], chained through the same table: a list of any length is one small value, and freeing it is one step.

use super::PAGE_SIZE;
use super::paging::hhdm;
use crate::inject::{self, Sources};
use crate::sync::SpinLock;
use core::mem::ManuallyDrop;

/// What a frame is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Use {
    /// No memory, or a device's.
    Foreign = 0,
    Free,
    Table,
    Heap,
    /// Behind a stack or another guarded mapping.
    Mapped,
    /// The kernel's image and its tables, and what the boot loader left.
    Kernel,
}

impl Use {
    /// As what allocations of it can be made to fail.
    const fn source(self) -> Sources {
        match self {
            Self::Table => Sources::TABLES,
            Self::Heap => Sources::GROWTH,
            Self::Foreign | Self::Free | Self::Mapped | Self::Kernel => Sources::FRAMES,
        }
    }
}

const USES: usize = 6;
const NONE: u32 = u32::MAX;

/// No frame is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfFrames;

impl core::fmt::Display for OutOfFrames {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("no frame is left")
    }
}

impl core::error::Error for OutOfFrames {}

#[derive(Clone, Copy)]
struct Info {
    /// The next frame of the list that this one is in.
    next: u32,
    usage: Use,
}

struct Table {
    info: &'static mut [Info],
    free: u32,
    counts: [usize; USES],
}

static TABLE: SpinLock<Table> = SpinLock::new("frames", Table { info: &mut [], free: NONE, counts: [0; USES] });

/// Frames handed out together. Give them back with [`free`]; a list that is dropped would leak its frames, so that is
/// an error.
#[derive(Debug)]
#[must_use = "frames leak unless they are freed"]
pub(crate) struct FrameList {
    first: u32,
    last: u32,
    count: usize,
    usage: Use,
}

impl FrameList {
    /// A list without frames, to collect some.
    pub(crate) const fn empty() -> Self {
        Self { first: NONE, last: NONE, count: 0, usage: Use::Mapped }
    }

    /// Appends `other`.
    #[inline(always)]
    pub(crate) fn append(&mut self, other: Self) {
        let other = ManuallyDrop::new(other);
        if self.count == 0 {
            (self.first, self.usage) = (other.first, other.usage);
        } else if other.count == 0 {
            return;
        } else {
            self.chain(&other);
        }
        self.last = other.last;
        self.count = self.count.wrapping_add(other.count);
    }

    #[cold]
    fn chain(&self, other: &Self) {
        assert!(self.usage == other.usage, "lists of different use are joined");
        TABLE.lock().info[self.last as usize].next = other.first;
    }

    /// A list as the numbers of its first and its last frame, for whoever keeps its length.
    pub(super) fn into_ends(self) -> (u32, u32) {
        let list = ManuallyDrop::new(self);
        (list.first, list.last)
    }

    /// The list of `count` frames behind guarded mappings of which [`into_ends`](Self::into_ends) gave the ends.
    pub(super) const fn from_ends(first: u32, last: u32, count: usize) -> Self {
        Self { first, last, count, usage: Use::Mapped }
    }

    /// How many frames.
    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// Runs `f` on the address of each frame, in order. `f` must not come back to this module.
    pub(crate) fn for_each(&self, mut f: impl FnMut(u64)) {
        let table = TABLE.lock();
        let mut frame = self.first;
        for _ in 0..self.count {
            f(u64::from(frame) * PAGE_SIZE);
            frame = table.info[frame as usize].next;
        }
    }
}

impl Drop for FrameList {
    fn drop(&mut self) {
        assert!(self.count == 0, "{} frames leak", self.count);
    }
}

/// Takes over the memory of the boot loader's map: `regions` are the usable ones, `kept` those that are memory in use;
/// start and length in bytes, page-aligned, and apart. The table itself is cut off the largest one, and behind it `aside` bytes, cleared, that are never handed
/// out. Gives the bytes that can be handed out, and the address of what was set aside.
///
/// # Safety
/// The regions are unused memory, and mapped at the HHDM's offset. Called once.
pub(crate) unsafe fn init(
    regions: impl Iterator<Item = (u64, u64)> + Clone,
    kept: impl Iterator<Item = (u64, u64)> + Clone,
    aside: u64,
) -> Result<(u64, u64), OutOfFrames> {
    let end = regions
        .clone()
        .chain(kept.clone())
        .map(|(start, length)| start + length)
        .max()
        .expect("there is usable memory");
    let frames = (end / PAGE_SIZE) as usize;
    let bytes = ((frames * size_of::<Info>()) as u64).next_multiple_of(PAGE_SIZE);
    let (home, room) = regions.clone().max_by_key(|(_, length)| *length).expect("as above");
    let cut = bytes + aside.next_multiple_of(PAGE_SIZE);
    if cut > room / 2 {
        return Err(OutOfFrames);
    }
    // SAFETY: the start of the largest region, unused and mapped; frames of the table and of what is set aside are never
    // handed out. All bytes are written before a reference is made.
    let info = unsafe {
        core::ptr::write_bytes(hhdm(home + bytes) as *mut u8, 0, (cut - bytes) as usize);
        let first = hhdm(home) as *mut Info;
        for frame in 0..frames {
            first.add(frame).write(Info { next: NONE, usage: Use::Foreign });
        }
        core::slice::from_raw_parts_mut(first, frames)
    };
    let mut table = TABLE.lock();
    table.info = info;
    table.counts[Use::Foreign as usize] = frames;
    let cut_off = core::iter::once((home, cut));
    for (start, length) in kept.chain(cut_off) {
        for frame in start / PAGE_SIZE..(start + length) / PAGE_SIZE {
            table.set_use(frame as u32, Use::Foreign, Use::Kernel);
        }
    }
    for (start, length) in regions {
        let cut = if start == home { cut } else { 0 };
        // Low memory first: the list hands out what was put in last.
        for frame in (start + cut) / PAGE_SIZE..(start + length) / PAGE_SIZE {
            if frame != 0 {
                table.set_use(frame as u32, Use::Foreign, Use::Free);
                table.info[frame as usize].next = table.free;
                table.free = frame as u32;
            }
        }
    }
    Ok((table.counts[Use::Free as usize] as u64 * PAGE_SIZE, home + bytes))
}

/// # Panics
/// If the frame is not used as `usage`: it is freed twice, or was never handed out.
#[inline(always)]
fn in_use_as(info: &mut [Info], frame: u32, usage: Use) -> &mut Info {
    let info = &mut info[frame as usize];
    if info.usage != usage {
        misused(frame, info.usage, usage);
    }
    info
}

impl Table {
    /// So many frames have gone from one use to another.
    fn recount(&mut self, frames: usize, from: Use, to: Use) {
        self.counts[from as usize] = self.counts[from as usize].wrapping_sub(frames);
        self.counts[to as usize] = self.counts[to as usize].wrapping_add(frames);
    }

    fn set_use(&mut self, frame: u32, from: Use, to: Use) {
        in_use_as(self.info, frame, from).usage = to;
        self.recount(1, from, to);
    }
}

#[cold]
fn misused(frame: u32, usage: Use, not: Use) -> ! {
    panic!("frame {frame:#x} is {usage:?}, not {not:?}");
}

/// Hands out `count` frames, contents as they happen to be.
///
/// # Errors
/// [`OutOfFrames`] if there are fewer; then none is handed out.
pub(crate) fn allocate(count: usize, usage: Use) -> Result<FrameList, OutOfFrames> {
    allocate_each(count, usage, |_| ())
}

/// As [`allocate`], and runs `f` on the address of each frame, in order. `f` must not come back to this module.
///
/// # Errors
/// As for [`allocate`].
#[inline(always)]
pub(super) fn allocate_each(count: usize, usage: Use, mut f: impl FnMut(u64)) -> Result<FrameList, OutOfFrames> {
    if inject::fails(usage.source()) {
        return Err(OutOfFrames);
    }
    let mut table = TABLE.lock();
    if table.counts[Use::Free as usize] < count {
        return Err(OutOfFrames);
    }
    let mut list = FrameList { first: if count == 0 { NONE } else { table.free }, last: NONE, count, usage };
    let mut frame = table.free;
    let info = &mut *table.info;
    for _ in 0..count {
        let info = in_use_as(info, frame, Use::Free);
        info.usage = usage;
        list.last = frame;
        frame = info.next;
        f(u64::from(list.last) * PAGE_SIZE);
    }
    table.free = frame;
    table.recount(count, Use::Free, usage);
    Ok(list)
}

/// Takes frames back.
pub(crate) fn free(mut list: FrameList) {
    free_all(&mut list);
}

/// Takes all of a list's frames back.
#[inline(always)]
pub(super) fn free_all(list: &mut FrameList) {
    let count = core::mem::take(&mut list.count);
    if count == 0 {
        return;
    }
    let mut table = TABLE.lock();
    let (mut frame, free) = (list.first, table.free);
    let info = &mut *table.info;
    for _ in 1..count {
        let info = in_use_as(info, frame, list.usage);
        info.usage = Use::Free;
        frame = info.next;
    }
    *in_use_as(info, frame, list.usage) = Info { next: free, usage: Use::Free };
    table.free = list.first;
    table.recount(count, list.usage, Use::Free);
}

/// Hands out one cleared frame for a page table. The kernel's own are never freed.
pub(crate) fn allocate_table() -> Result<u64, OutOfFrames> {
    let list = ManuallyDrop::new(allocate(1, Use::Table)?);
    let address = u64::from(list.first) * PAGE_SIZE;
    clear(address);
    Ok(address)
}

/// Makes a list of one frame out of the address that a page-table entry held.
///
/// The frame must be in use as `usage` and in no other list; a wrong one is noticed when it is freed.
pub(crate) fn adopt(address: u64, usage: Use) -> FrameList {
    let frame = (address / PAGE_SIZE) as u32;
    FrameList { first: frame, last: frame, count: 1, usage }
}

/// Forgets a list whose frames are now owned by page-table entries, from which [`adopt`] makes lists again.
pub(crate) fn disown(list: FrameList) {
    let _ = ManuallyDrop::new(list);
}

/// Fills a frame with zeros.
pub(crate) fn clear(address: u64) {
    fill(address, 0);
}

/// Fills a frame with a word.
pub(crate) fn fill(address: u64, word: u64) {
    let words = hhdm(address) as *mut u64;
    // SAFETY: a frame that the caller owns, through the HHDM.
    (0..PAGE_SIZE as usize / 8).for_each(|at| unsafe { words.add(at).write(word) });
}

/// The first frame from `start` to `end` that is memory of the kernel (and so must not be mapped as foreign).
pub(crate) fn first_of_ours(start: u64, end: u64) -> Option<u64> {
    let known = TABLE.lock().info.len() as u64 * PAGE_SIZE;
    // The lock for each anew: the range may be all of memory.
    (start..end.min(known)).step_by(PAGE_SIZE as usize).find(|address| {
        let table = TABLE.lock();
        table.info[(address / PAGE_SIZE) as usize].usage != Use::Foreign
    })
}

/// How many frames are used for what, for the account at the end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameCounts {
    /// Free.
    pub free: u64,
    /// Page tables.
    pub tables: u64,
    /// Under the heap.
    pub heap: u64,
    /// Behind stacks and other guarded mappings.
    pub mapped: u64,
}

/// How many frames are used for what, now.
#[must_use]
pub fn frame_counts() -> FrameCounts {
    let counts = TABLE.lock().counts;
    FrameCounts {
        free: counts[Use::Free as usize] as u64,
        tables: counts[Use::Table as usize] as u64,
        heap: counts[Use::Heap as usize] as u64,
        mapped: counts[Use::Mapped as usize] as u64,
    }
}
