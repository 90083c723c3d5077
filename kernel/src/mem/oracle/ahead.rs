//! Loading translations ahead, as hardware does.

use super::super::probe;
use super::super::slots::{Kind, SlotId};
use super::super::tlb::Hardware;
use super::{is_on, some_pages};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use smp::Machine;
use smp::space::SpaceId;

/// Mappings that are read ahead: the latest.
const FRESH: usize = 16;

/// The slots that were mapped last, as bits.
static SLOTS: [AtomicU32; FRESH] = [const { AtomicU32::new(0) }; FRESH];
/// What was mapped last in address spaces.
static RANGES: [Range; FRESH] = [const { Range::new() }; FRESH];
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A range of an address space.
struct Range {
    /// The space's number plus one.
    space: AtomicU32,
    start: AtomicU64,
    pages: AtomicU32,
}

impl Range {
    const fn new() -> Self {
        Self { space: AtomicU32::new(0), start: AtomicU64::new(0), pages: AtomicU32::new(0) }
    }
}

fn next_place() -> usize {
    NEXT.fetch_add(1, Ordering::Relaxed) as usize % FRESH
}

/// Something was mapped.
#[cold]
pub(super) fn mapped(slot: SlotId) {
    SLOTS[next_place()].store(slot.into_bits(), Ordering::Relaxed);
}

/// Something was mapped in an address space.
pub(in super::super) fn mapped_in_space(id: SpaceId, start: u64, pages: u64) {
    if is_on() {
        let range = &RANGES[next_place()];
        // What comes of a mixture of two is an address that is read and perhaps not mapped.
        range.start.store(start, Ordering::Relaxed);
        range.pages.store(pages as u32, Ordering::Relaxed);
        range.space.store(id.0 + 1, Ordering::Relaxed);
    }
}

/// Loads translations, as any CPU may at any moment: those of what was mapped last, and may be unmapped at this moment. The
/// calling CPU is awake and is asked.
#[cold]
pub(super) fn speculate() {
    let read = |start, pages| some_pages(start, pages).for_each(|address| _ = probe::read_any(address));
    for slot in SLOTS.iter().filter_map(|bits| SlotId::from_bits(bits.load(Ordering::Relaxed))) {
        // Not what a device may have behind it: reading that may have effects.
        if matches!(slot.kind(), Kind::Stack | Kind::Memory | Kind::LooseMemory) {
            let (start, pages) = slot.extent();
            read(start, pages);
        }
    }
    let Some(SpaceId(here)) = Hardware.loaded().space() else { return };
    for range in RANGES.iter().filter(|range| range.space.load(Ordering::Relaxed) == here + 1) {
        read(range.start.load(Ordering::Relaxed), range.pages.load(Ordering::Relaxed).into());
    }
}
