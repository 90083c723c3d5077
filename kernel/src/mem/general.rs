//! Guarded mappings by address: map a physical range or fresh memory, get an address; [`unmap`] takes it.
//! Arguments may be anything, from anybody: what is wrong with them is an error that carries the bad value, and nothing has
//! changed then.
//!
//! The shape is that of Zephyr's `k_mem_map_phys_guard` (`kernel/mmu.c`); what the mapping has for its owner in Rust is
//! [`GuardedMapping`](super::GuardedMapping), over the same code.

use super::error::{MapError, UnmapError};
use super::frames;
use super::guarded::{self, Fill};
use super::paging::{self, Access};
use super::slots::{self, Kind, SlotId};
use super::{PAGE_SIZE, PhysAddr};
use crate::boot;
use crate::sync::may_wait;
use crate::thread::{PreemptOff, Shield};
use crate::time;
use crate::trace::{Event, emit};
use core::arch::x86_64::__cpuid;
use x86_64::structures::paging::PageTableFlags as Flags;

bitflags::bitflags! {
    /// How memory is mapped. Reading is always allowed. Flags from outside come in by `MapFlags::from_bits_retain`: bits that
    /// mean nothing are an error when something is mapped. There is none for user mode: these mappings are in the upper
    /// half, which is the kernel's alone.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MapFlags: u32 {
        /// It may be written.
        const WRITE = 1 << 0;
        /// It may be executed. Not together with `WRITE`.
        const EXECUTE = 1 << 1;
        /// Each access goes to the device, past all caches. For physical ranges.
        const UNCACHED = 1 << 2;
        /// It is not cleared: whatever was there can be read. For fresh memory.
        const AS_IS = 1 << 3;
        /// Pages of each guard, 1 to 65,535; 0 stands for 1. See [`MapFlags::guard`].
        const GUARD = 0xffff << 16;
    }
}

impl MapFlags {
    /// Guards of `pages` pages of 4 KiB each.
    #[must_use]
    pub const fn guard(pages: u16) -> Self {
        Self::from_bits_retain((pages as u32) << 16)
    }

    fn guard_pages(self) -> u64 {
        u64::from(self.bits() >> 16).max(1)
    }

    /// What they allow, if they are among those that are `fit` for the mapping.
    fn access(self, fit: Self) -> Result<Access, MapError> {
        let unknown = self.bits() & !Self::all().bits();
        if unknown != 0 {
            return Err(MapError::UnknownFlags(unknown));
        }
        let unfit = self.difference(fit.union(Self::WRITE).union(Self::EXECUTE).union(Self::GUARD));
        match (self.contains(Self::WRITE), self.contains(Self::EXECUTE)) {
            _ if !unfit.is_empty() => Err(MapError::UnfitFlags(unfit)),
            (true, true) => Err(MapError::WriteExecute(self)),
            (true, false) => Ok(Access::ReadWrite),
            (false, true) => Ok(Access::ReadExecute),
            (false, false) => Ok(Access::Read),
        }
    }
}

/// Maps the physical range of `bytes` bytes at `physical`, whole pages of 4 KiB both, between two guards; the address of its
/// first byte. The range must not be memory of the kernel. No CPU is interrupted, and no frame is used but for page tables.
///
/// # Errors
/// * of the size: [`MapError::Zero`], [`MapError::UnalignedSize`], or [`MapError::Overflow`] with the address if the range
///   reaches past the physical addresses that the processor has;
/// * of the address: [`MapError::Unaligned`], and [`MapError::InUse`] with the first page that is the kernel's;
/// * of the flags: [`MapError::UnknownFlags`], [`MapError::UnfitFlags`], [`MapError::WriteExecute`];
/// * [`MapError::OutOfAddresses`], [`MapError::OutOfFrames`] and [`MapError::OutOfHeap`] if something is used up.
///
/// ```no_run
/// use kernel::mem::{MapFlags, PhysAddr, map_guarded, unmap};
/// // The text screen, two pages behind the guard on either side. (no_run: it needs the machine.)
/// let flags = MapFlags::WRITE | MapFlags::UNCACHED | MapFlags::guard(2);
/// let screen = map_guarded(PhysAddr(0xb8000), 0x8000, flags)?;
/// assert!(unmap(screen).is_ok());
/// # Ok::<(), kernel::mem::MapError>(())
/// ```
pub fn map_guarded(physical: PhysAddr, bytes: u64, flags: MapFlags) -> Result<u64, MapError> {
    let _shield = Shield::new();
    let access = flags.access(MapFlags::UNCACHED)?;
    let cache = if flags.contains(MapFlags::UNCACHED) { Cache::Uncached } else { Cache::AsUsual };
    let slot = map_physical(physical, bytes, flags.guard_pages(), access, cache, Kind::LooseForeign)?;
    Ok(slot.start())
}

/// Maps `bytes` bytes of fresh memory, whole pages of 4 KiB, between two guards; the address of its first byte. It is cleared
/// unless the flags say [`MapFlags::AS_IS`]. It takes a frame a page, and none for the guards; no CPU is interrupted.
///
/// # Errors
/// * of the size: [`MapError::Zero`], [`MapError::UnalignedSize`];
/// * of the flags: [`MapError::UnknownFlags`], [`MapError::UnfitFlags`], [`MapError::WriteExecute`];
/// * [`MapError::OutOfAddresses`], [`MapError::OutOfFrames`] and [`MapError::OutOfHeap`] if something is used up.
///
/// ```no_run
/// use kernel::mem::{MapFlags, map_anonymous_guarded, peek, unmap};
/// // (no_run: it needs the machine.)
/// let memory = map_anonymous_guarded(0x4000, MapFlags::WRITE)?;
/// assert_eq!(peek(memory), Some(0));
/// assert!(unmap(memory).is_ok());
/// # Ok::<(), kernel::mem::MapError>(())
/// ```
pub fn map_anonymous_guarded(bytes: u64, flags: MapFlags) -> Result<u64, MapError> {
    let _shield = Shield::new();
    let access = flags.access(MapFlags::AS_IS)?;
    let fill = if flags.contains(MapFlags::AS_IS) { Fill::AsIs } else { Fill::Zeros };
    let slot = guarded::map_fresh(pages(bytes)?, flags.guard_pages(), fill, access, Kind::LooseMemory)?;
    Ok(slot.start())
}

/// Unmaps the mapping that starts at `address`, which [`map_guarded`], [`map_anonymous_guarded`] or
/// [`GuardedMapping::into_address`](super::GuardedMapping::into_address) gave.
///
/// # Errors
/// [`UnmapError::NotMapped`] if none does: unmapped before, or by somebody else just now, of whom exactly one succeeds.
/// [`UnmapError::Unaligned`], [`UnmapError::Inside`] and [`UnmapError::Foreign`] for addresses at which none can.
/// [`UnmapError::IsOwned`] if a value owns the mapping, and [`UnmapError::IsStack`] for a stack.
///
/// # Panics
/// Where the caller may not wait: in a handler, with a lock held, with interrupts masked.
pub fn unmap(address: u64) -> Result<(), UnmapError> {
    let _shield = Shield::new();
    let mut permit = may_wait(0);
    let since = time::now();
    let slot = slots::slot_of(address).ok_or_else(|| no_mapping_at(address))?;
    loop {
        if slot.pages() == 0 || slot.start() != address {
            return Err(no_mapping_at(address));
        }
        let kind = match slot.kind() {
            loose @ (Kind::LooseMemory | Kind::LooseForeign) => loose,
            Kind::Memory | Kind::Foreign => return Err(UnmapError::IsOwned(address)),
            Kind::Stack | Kind::Lent | Kind::OnLoan | Kind::View => return Err(UnmapError::IsStack(address)),
            Kind::Empty => return Err(UnmapError::NotMapped(address)),
            Kind::Doubted => {
                // For a few instructions, of somebody who is not preempted.
                assert!(time::now().saturating_sub(since) <= time::patience(), "{address:#x} is doubted for ever");
                core::hint::spin_loop();
                continue;
            }
        };
        if claim_loose(slot, kind, address) {
            guarded::take_down(slot, kind == Kind::LooseMemory, &mut permit);
            return Ok(());
        }
    }
}

/// Takes a loose mapping that starts at `address`, to unmap it. The slot may have been unmapped by somebody else and used for another one
/// since it was looked at: that one stays, and nobody sees it gone meanwhile.
fn claim_loose(slot: SlotId, kind: Kind, address: u64) -> bool {
    let _here = PreemptOff::new();
    if !slot.change(kind, Kind::Doubted) {
        return false;
    }
    let is_it = slot.start() == address;
    slot.describe(slot.pages(), if is_it { Kind::Empty } else { kind });
    is_it
}

fn pages(bytes: u64) -> Result<u64, MapError> {
    match bytes {
        0 => Err(MapError::Zero),
        _ if !bytes.is_multiple_of(PAGE_SIZE) => Err(MapError::UnalignedSize(bytes)),
        _ => Ok(bytes / PAGE_SIZE),
    }
}

/// The pages of a physical range that can be, whoever it belongs to.
fn physical_pages(physical: PhysAddr, bytes: u64, end_of_all: u64) -> Result<u64, MapError> {
    let pages = pages(bytes)?;
    if !physical.0.is_multiple_of(PAGE_SIZE) {
        return Err(MapError::Unaligned(physical.0));
    }
    let end = physical.0.checked_add(bytes).filter(|end| *end <= end_of_all);
    end.map(|_| pages).ok_or(MapError::Overflow(physical.0))
}

/// How a mapping is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cache {
    /// As the memory itself is.
    AsUsual,
    /// Not at all: each access goes to the device.
    Uncached,
}

impl Cache {
    /// What says so in a page-table entry: of the page attributes (manual volume 3, "Page Attribute Table"), as the firmware
    /// left them, the fourth is strongly uncached.
    pub(super) const fn flags(self) -> Flags {
        match self {
            Self::AsUsual => Flags::empty(),
            Self::Uncached => Flags::NO_CACHE.union(Flags::WRITE_THROUGH),
        }
    }
}

/// Maps a physical range in a fresh slot. The caller has a [`Shield`].
pub(super) fn map_physical(
    physical: PhysAddr,
    bytes: u64,
    guard: u64,
    access: Access,
    cache: Cache,
    kind: Kind,
) -> Result<SlotId, MapError> {
    if guard == 0 {
        return Err(MapError::Zero);
    }
    let pages = physical_pages(physical, bytes, physical_end())?;
    if let Some(ours) = frames::first_of_ours(physical.0, physical.0 + bytes) {
        return Err(MapError::InUse(ours));
    }
    let slot = slots::allocate(pages, guard)?;
    if let Err(error) = paging::map_foreign(slot.start_of(pages), physical, pages, access, cache) {
        slots::free(slot);
        return Err(error.into());
    }
    slot.describe(pages, kind);
    emit(Event::Map { slot: slot.into_bits(), pages });
    Ok(slot)
}

/// The end of the physical addresses that this processor has (CPUID leaf 0x8000_0008), at most the architecture's 52 bits.
fn physical_end() -> u64 {
    let has_leaf = __cpuid(0x8000_0000).eax >= 0x8000_0008;
    let bits = if has_leaf { __cpuid(0x8000_0008).eax & 0xff } else { 36 };
    1 << bits.clamp(32, 52)
}

/// Why no mapping starts at `address`.
pub(super) fn no_mapping_at(address: u64) -> UnmapError {
    let boot_stack = boot::stack::classify(address);
    match slots::classify(address).or(boot_stack) {
        _ if !address.is_multiple_of(PAGE_SIZE) => UnmapError::Unaligned(address),
        Some(hit) if (hit.start + 1..hit.end).contains(&address) => UnmapError::Inside(address, hit.start),
        Some(hit) if boot_stack.is_some() && hit.start == address => UnmapError::IsStack(address),
        _ if !slots::is_slots(address) => UnmapError::Foreign(address),
        _ => UnmapError::NotMapped(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn nothing_is_mapped_writable_and_executable() {
        let both = MapFlags::WRITE | MapFlags::EXECUTE;
        assert_eq!(both.access(MapFlags::empty()), Err(MapError::WriteExecute(both)));
        assert_eq!(MapFlags::WRITE.access(MapFlags::empty()), Ok(Access::ReadWrite));
        assert_eq!(MapFlags::EXECUTE.access(MapFlags::empty()), Ok(Access::ReadExecute));
        assert_eq!(MapFlags::empty().access(MapFlags::empty()), Ok(Access::Read));
    }

    #[test]
    fn every_bit_is_a_flag_or_an_error() {
        for bit in (0..32).map(|n| 1 << n) {
            let end = MapFlags::from_bits_retain(bit).access(MapFlags::UNCACHED | MapFlags::AS_IS);
            let known = bit & (MapFlags::all().bits()) != 0;
            assert!(if known { end.is_ok() } else { end == Err(MapError::UnknownFlags(bit)) }, "{bit:#x}: {end:?}");
        }
    }

    #[test]
    fn a_flag_for_another_kind_of_mapping_is_an_error() {
        let flags = MapFlags::UNCACHED | MapFlags::WRITE;
        assert_eq!(flags.access(MapFlags::AS_IS), Err(MapError::UnfitFlags(MapFlags::UNCACHED)));
    }

    #[test]
    fn what_is_uncached_says_so_by_the_fourth_of_the_page_attributes() {
        assert_eq!(Cache::Uncached.flags().bits(), 1 << 4 | 1 << 3);
        assert_eq!(Cache::AsUsual.flags().bits(), 0);
    }

    #[test]
    fn a_guard_has_as_many_pages_as_it_says_and_at_least_one() {
        for (given, pages) in [(0, 1), (1, 1), (2, 2), (u16::MAX, 65_535)] {
            assert_eq!((MapFlags::guard(given) | MapFlags::WRITE).guard_pages(), pages);
        }
    }

    #[test]
    fn only_whole_pages_of_physical_memory_are_a_range() {
        let end = 1 << 40;
        let check = |physical, bytes| physical_pages(PhysAddr(physical), bytes, end);
        assert_eq!(check(0, PAGE_SIZE), Ok(1));
        assert_eq!(check(end - PAGE_SIZE, PAGE_SIZE), Ok(1));
        assert_eq!(check(0, 0), Err(MapError::Zero));
        assert_eq!(check(0, 4095), Err(MapError::UnalignedSize(4095)));
        assert_eq!(check(1, PAGE_SIZE), Err(MapError::Unaligned(1)));
        assert_eq!(check(end, PAGE_SIZE), Err(MapError::Overflow(end)));
        let last = u64::MAX - (PAGE_SIZE - 1);
        assert_eq!(check(last, PAGE_SIZE), Err(MapError::Overflow(last)));
        assert_eq!(check(PAGE_SIZE, last), Err(MapError::Overflow(PAGE_SIZE)));
    }

    /// Of a mapping that somebody takes for another one, its owner never sees that it is not there.
    #[test]
    fn a_mapping_that_is_doubted_is_not_gone() {
        static OVER: AtomicBool = AtomicBool::new(false);
        let slot = slots::allocate(5, 1).unwrap();
        slot.describe(5, Kind::LooseMemory);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..500_000 {
                    assert!(!claim_loose(slot, Kind::LooseMemory, slot.start() + PAGE_SIZE));
                }
                OVER.store(true, Ordering::Relaxed);
            });
            let mut gone = 0;
            while !OVER.load(Ordering::Relaxed) {
                gone += u32::from(slot.kind() == Kind::Empty);
            }
            assert_eq!(gone, 0);
        });
        assert!(claim_loose(slot, Kind::LooseMemory, slot.start()) && slot.kind() == Kind::Empty);
        slots::free(slot);
    }
}
