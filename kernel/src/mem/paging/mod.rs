//! The kernel's page tables: built fresh at boot, walked and changed here and nowhere else.
//!
//! What is mapped keeps to W^X: text is readable and executable, read-only data is readable, everything else is
//! readable, perhaps writable, and never executable; the image's own frames have no second, writable mapping. Address 0
//! and all of the lower half are not mapped. No entry is global, so that a load of CR3 flushes everything (Zircon once
//! left global entries behind).

mod access;
mod entries;
mod walk;

pub use access::Access;
pub(super) use entries::Entries;
pub(crate) use walk::may_be_mapped;
pub(super) use walk::walk;

use super::frames::{self, FrameList, OutOfFrames};
use super::general::Cache;
use super::{PAGE_SIZE, PhysAddr, heap, slots, tags};
use crate::sync::SpinLock;
use crate::sync::irq::IrqsOff;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use x86_64::registers::control::{Cr0, Cr0Flags, Cr3, Cr3Flags, Cr4, Cr4Flags, Efer, EferFlags};
use x86_64::structures::paging::{PageTableFlags as Flags, PhysFrame};

/// Entries in a table.
const ENTRIES: u64 = 512;
const LARGE_PAGE: u64 = 2 << 20;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Where device registers are mapped, and the most bytes of them.
pub(super) const DEVICES: u64 = 0xffff_e000_0000_0000;
pub(super) const DEVICES_BYTES: u64 = 1 << 32;

/// Where physical address 0 is mapped; set once, before anything else here is used.
static HHDM: AtomicU64 = AtomicU64::new(0);

/// A root table, by its physical address.
#[derive(Debug)]
pub(super) struct Root(u64);

/// What an entry holds whose page was unmapped while CPUs may still use the translation: not present, and not free.
pub(super) const LEAVING: u64 = Flags::BIT_9.bits();
/// Entries of a root table that belong to the lower half.
const LOWER: u64 = ENTRIES / 2;

/// The same address, for a CPU that cannot take locks yet.
static ROOT_ADDRESS: AtomicU64 = AtomicU64::new(0);
/// Whether the root's upper half is complete.
static COMPLETE: AtomicBool = AtomicBool::new(false);
static ROOT: SpinLock<Root> = SpinLock::new("page tables", Root(0));

/// Where this physical address is mapped.
pub(crate) fn hhdm(physical: u64) -> u64 {
    HHDM.load(Ordering::Relaxed) + physical
}

/// Takes over the boot loader's offset, which the new tables keep.
pub(crate) fn set_hhdm(offset: u64) {
    HHDM.store(offset, Ordering::Relaxed);
}

/// The entry at `index` of the table at this physical address.
fn entry(table: u64, index: u64) -> &'static AtomicU64 {
    debug_assert!(index < ENTRIES);
    // SAFETY: tables are whole frames, mapped by the HHDM; the kernel's are never freed, a space's when nobody can get at
    // them any more. Other CPUs' page walkers read and write (accessed, dirty) the same words, which atomics allow for.
    unsafe { &*((hhdm(table) + index * 8) as *const AtomicU64) }
}

const fn index(address: u64, level: u32) -> u64 {
    address >> (12 + 9 * (level - 1)) & (ENTRIES - 1)
}

/// Whether an entry maps something.
pub(super) const fn is_present(value: u64) -> bool {
    value & Flags::PRESENT.bits() != 0
}

impl Root {
    /// No table.
    pub(super) const fn none() -> Self {
        Self(0)
    }

    /// A root with the kernel's upper half, and its physical address.
    pub(super) fn create_space() -> Result<(Self, u64), OutOfFrames> {
        let (root, kernels) = (frames::allocate_table()?, ROOT_ADDRESS.load(Ordering::Acquire));
        for index in LOWER..ENTRIES {
            entry(root, index).store(entry(kernels, index).load(Ordering::Relaxed), Ordering::Relaxed);
        }
        Ok((Self(root), root))
    }

    /// Gives each frame that the lower half maps to `mapped`, and each table, this one last, to `table`. CPUs may still have
    /// the tables loaded, so they stay as they are.
    pub(super) fn take_apart(self, mut mapped: impl FnMut(u64), mut table: impl FnMut(u64)) {
        let below = |of: u64, entries: u64| {
            (0..entries).filter_map(move |index| {
                let value = entry(of, index).load(Ordering::Relaxed);
                is_present(value).then_some(value & ADDRESS)
            })
        };
        for third in below(self.0, LOWER) {
            for second in below(third, ENTRIES) {
                for first in below(second, ENTRIES) {
                    below(first, ENTRIES).for_each(&mut mapped);
                    table(first);
                }
                table(second);
            }
            table(third);
        }
        table(self.0);
    }

    /// The address of the first of `pages` pages from `address` on whose entry (0, if there is no table) is `wanted`.
    pub(super) fn first_where(&self, address: u64, pages: u64, wanted: impl Fn(u64) -> bool) -> Option<u64> {
        let value = |at: &u64| self.find(*at).map_or(0, |slot| slot.load(Ordering::Relaxed));
        (0..pages).map(|page| address + page * PAGE_SIZE).find(|at| wanted(value(at)))
    }

    /// Maps the frames of `list`, in order, from `address` on. The pages were not mapped, so no TLB knows them and no CPU has to
    /// be told.
    ///
    /// # Errors
    /// [`OutOfFrames`] if there is no memory for a table; then nothing is mapped.
    pub(super) fn map_frames(&mut self, address: u64, list: &FrameList, access: Access) -> Result<(), OutOfFrames> {
        self.create_all(address, list.len() as u64)?;
        let mut at = address;
        list.for_each(|frame| {
            let slot = self.find(at).expect("the tables were just created");
            debug_assert!(slot.load(Ordering::Relaxed) == 0, "page {at:#x} is mapped already");
            slot.store(frame | access.flags().bits(), Ordering::Release);
            at += PAGE_SIZE;
        });
        Ok(())
    }

    /// Puts `left_behind` into the entries of `pages` pages from `address` on, and gives each frame's address to `each`.
    /// TLBs may still hold the translations.
    ///
    /// # Panics
    /// If one of the pages is not mapped.
    pub(super) fn unmap(&mut self, address: u64, pages: u64, left_behind: u64, mut each: impl FnMut(u64)) {
        for page in 0..pages {
            let at = address + page * PAGE_SIZE;
            let value = self.find(at).map_or(0, |slot| slot.swap(left_behind, Ordering::AcqRel));
            assert!(is_present(value), "page {at:#x} is unmapped, and was not mapped");
            each(value & ADDRESS);
        }
    }

    /// Clears the marks that [`unmap`](Self::unmap) left behind: no TLB holds the translations.
    pub(super) fn forget(&mut self, address: u64, pages: u64) {
        for at in (0..pages).map(|page| address + page * PAGE_SIZE) {
            if let Some(slot) = self.find(at) {
                debug_assert!(slot.load(Ordering::Relaxed) == LEAVING, "page {at:#x} is not on its way out");
                slot.store(0, Ordering::Relaxed);
            }
        }
    }

    /// The physical address behind a page that is mapped by 4 KiB pages.
    pub(super) fn translate(&self, address: u64) -> Option<PhysAddr> {
        let value = self.find(address)?.load(Ordering::Relaxed);
        is_present(value).then(|| PhysAddr((value & ADDRESS) + address % PAGE_SIZE))
    }

    /// The entry for `address` in the table of `level` (1 maps 4 KiB pages), creating the tables on the way.
    fn create(&mut self, address: u64, level: u32) -> Result<&'static AtomicU64, OutOfFrames> {
        let mut table = self.0;
        for above in (level + 1..=4).rev() {
            let slot = entry(table, index(address, above));
            if !is_present(slot.load(Ordering::Relaxed)) {
                let shared = above == 4 && index(address, 4) >= LOWER;
                assert!(!shared || !COMPLETE.load(Ordering::Relaxed), "spaces do not see a new table for {address:#x}");
                let fresh = frames::allocate_table()?;
                // What user code may use is said by the last entry alone, and nothing of it is in the upper half.
                let user = if index(address, 4) < LOWER { Flags::USER_ACCESSIBLE } else { Flags::empty() };
                // Release: a walker that sees the table sees it cleared.
                slot.store(fresh | (Flags::PRESENT | Flags::WRITABLE | user).bits(), Ordering::Release);
            }
            table = slot.load(Ordering::Relaxed) & ADDRESS;
        }
        Ok(entry(table, index(address, level)))
    }

    /// Creates all tables that `pages` pages from `address` on need: once they are there, mapping cannot fail. If one is
    /// missing, those made before it are kept, count as tables, and are there for whoever maps near that address next.
    fn create_all(&mut self, address: u64, pages: u64) -> Result<(), OutOfFrames> {
        let table_span = ENTRIES * PAGE_SIZE;
        let mut at = address;
        while at < address + pages * PAGE_SIZE {
            self.create(at, 1)?;
            at = (at + table_span) & !(table_span - 1);
        }
        Ok(())
    }

    /// The level-1 entry for `address`, if there is a table for it.
    #[inline(always)]
    fn find(&self, address: u64) -> Option<&'static AtomicU64> {
        let mut table = self.0;
        for above in (2..=4).rev() {
            let value = entry(table, index(address, above)).load(Ordering::Relaxed);
            if !is_present(value) || value & Flags::HUGE_PAGE.bits() != 0 {
                return None;
            }
            table = value & ADDRESS;
        }
        Some(entry(table, index(address, 1)))
    }

    /// Maps `length` bytes, with large pages where they fit if `large`.
    fn map_linear(&mut self, address: u64, physical: u64, length: u64, flags: Flags, large: bool) {
        let mut done = 0;
        while done < length {
            let (va, pa) = (address + done, physical + done);
            let fits = large && (va | pa).is_multiple_of(LARGE_PAGE) && length - done >= LARGE_PAGE;
            let (level, size, extra) =
                if fits { (2, LARGE_PAGE, Flags::HUGE_PAGE) } else { (1, PAGE_SIZE, Flags::empty()) };
            let slot = self.create(va, level).expect("memory for the kernel's page tables");
            slot.store(pa | (flags | extra).bits(), Ordering::Release);
            done += size;
        }
    }
}

/// A range of the kernel image.
pub(crate) struct Section {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) access: Access,
}

/// Builds the kernel's tables: the memory in `regions` (start, length) at the HHDM, that in `constant` likewise but read-only,
/// and the image's sections, of which virtual address `virtual_base` is at `physical_base`.
pub(crate) fn build(
    regions: impl Iterator<Item = (u64, u64)>,
    constant: impl Iterator<Item = (u64, u64)>,
    sections: &[Section],
    physical_base: u64,
    virtual_base: u64,
) {
    let mut root = ROOT.lock();
    root.0 = frames::allocate_table().expect("memory for the kernel's page tables");
    ROOT_ADDRESS.store(root.0, Ordering::Release);
    for (start, length) in regions {
        root.map_linear(hhdm(start), start, length, Access::ReadWrite.flags(), true);
    }
    for (start, length) in constant {
        root.map_linear(hhdm(start), start, length, Access::Read.flags(), false);
    }
    for section in sections {
        let physical = section.start - virtual_base + physical_base;
        root.map_linear(section.start, physical, section.end - section.start, section.access.flags(), false);
    }
    // Address spaces copy the root's upper half, so all that will ever be in it is there now.
    for (start, bytes) in [heap::RANGE, slots::RANGE, (DEVICES, DEVICES_BYTES)] {
        for at in (start..start + bytes).step_by(1 << 39) {
            root.create(at, 3).expect("memory for the kernel's page tables");
        }
    }
    COMPLETE.store(true, Ordering::Relaxed);
}

/// Goes over to the kernel's tables on the CPU that this runs on.
///
/// # Safety
/// The tables are built, and map the code, the stack and the data in use.
pub(crate) unsafe fn activate() {
    let root = ROOT_ADDRESS.load(Ordering::Acquire);
    // SAFETY: by the caller's promise. No-execute has to be known before a table that uses it is loaded; write
    // protection makes read-only data read-only for the kernel too.
    unsafe {
        Efer::update(|efer| efer.insert(EferFlags::NO_EXECUTE_ENABLE));
        Cr0::update(|cr0| cr0.insert(Cr0Flags::WRITE_PROTECT));
        Cr4::update(|cr4| cr4.remove(Cr4Flags::PAGE_GLOBAL));
        Cr3::write(PhysFrame::containing_address(x86_64::PhysAddr::new(root)), Cr3Flags::empty());
    }
}

/// Maps a page of device registers, uncached; gives its address.
pub(crate) fn map_device_page(physical: u64) -> u64 {
    let address = DEVICES + (physical & 0xffff_f000);
    let flags = Access::ReadWrite.flags() | Cache::Uncached.flags();
    let slot = ROOT.lock().create(address, 1).expect("memory for the kernel's page tables");
    slot.store(physical | flags.bits(), Ordering::Release);
    address
}

/// Maps the frames of `list`, in order, from `address` on; see [`Root::map_frames`].
///
/// # Errors
/// [`OutOfFrames`] if there is no memory for a table; then nothing is mapped.
pub(crate) fn map_frames(address: u64, list: &FrameList, access: Access) -> Result<(), OutOfFrames> {
    ROOT.lock().map_frames(address, list, access)
}

/// Maps `pages` consecutive frames from `physical` on, which the allocator does not own.
///
/// # Errors
/// [`OutOfFrames`] if there is no memory for a table; then nothing is mapped.
pub(super) fn map_foreign(
    address: u64,
    physical: PhysAddr,
    pages: u64,
    access: Access,
    cache: Cache,
) -> Result<(), OutOfFrames> {
    let mut root = ROOT.lock();
    root.create_all(address, pages)?;
    root.map_linear(address, physical.0, pages * PAGE_SIZE, access.flags() | cache.flags(), false);
    Ok(())
}

/// Clears the entries of `pages` pages from `address` on, and gives each frame's address to `each`. TLBs may still hold
/// the translations.
///
/// # Panics
/// If one of the pages is not mapped.
pub(crate) fn unmap(address: u64, pages: u64, each: impl FnMut(u64)) {
    ROOT.lock().unmap(address, pages, 0, each);
}

/// The physical address behind a page that is mapped by 4 KiB pages.
pub(crate) fn translate(address: u64) -> Option<PhysAddr> {
    ROOT.lock().translate(address)
}

/// Loads this root table on the calling CPU, or the kernel's, under `tag`: drops all translations, or those of the tag,
/// which it may `keep`.
///
/// # Safety
/// The root has the kernel's upper half, and is freed only after the CPU has loaded another. What is kept under the tag is of
/// these tables, and up to date.
pub(super) unsafe fn load(root: Option<u64>, tag: usize, keep: bool) {
    let root = root.unwrap_or_else(|| ROOT_ADDRESS.load(Ordering::Relaxed));
    let frame = PhysFrame::containing_address(x86_64::PhysAddr::new(root));
    // SAFETY: by the caller's promise; tags other than 0 are used only where they are turned on.
    unsafe {
        match keep {
            true => Cr3::write_pcid_no_flush(frame, tags::pcid(tag)),
            false => Cr3::write_pcid(frame, tags::pcid(tag)),
        }
    }
}

/// Drops all translations of the calling CPU, or where there are tags, those of the tag in use.
pub(super) fn reload() {
    // A handler must not come between the two: it may load the kernel's tables in place of those of a space that is being
    // destroyed, and they would be loaded once more when they are free.
    let _irqs = IrqsOff::new();
    let (root, tag) = Cr3::read_raw();
    // SAFETY: what is loaded already.
    unsafe { Cr3::write_raw(root, tag) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_the_nine_bits_of_each_level() {
        let address = 0xffff_d123_4567_8000;
        let parts: Vec<u64> = (1..=4).map(|level| index(address, level)).collect();
        assert_eq!(parts, [0x078, 0x02b, 0x08d, 0x1a2]);
    }
}
