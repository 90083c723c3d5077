//! The stacks on which CPUs boot, and the first instructions, which go over to them.
//!
//! ```text
//!   first CPU    entered on the boot loader's stack ──▶ a stack in the image, between two pages that our tables leave out
//!   the others   entered on the boot loader's stack ──▶ our tables ──▶ the CPU's own stack, where its handlers will run
//! ```
//! The first CPU's guards come with the kernel's page tables. Until then they are plain pages, and an overflow would go into
//! the front one: [`assert_intact`] looks. All CPUs leave these stacks for good when their first thread runs.

use crate::cpu::Cpu;
use crate::cpu::offset;
use crate::mem::paging::{self, Access, Section};
use crate::mem::slots::{Hit, Region};
use crate::mem::{PAGE_SIZE, probe};
use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::sync::atomic::Ordering;
use wire::record::Guard;

/// The boot stack's size: latency histograms pass over it, 20 KiB each.
const BYTES: usize = 256 << 10;
/// The size of each guard.
const GUARD: usize = PAGE_SIZE as usize;

#[repr(C, align(4096))]
struct BootStack {
    front: UnsafeCell<[u8; GUARD]>,
    stack: UnsafeCell<[u8; BYTES]>,
    rear: UnsafeCell<[u8; GUARD]>,
}

// SAFETY: used as the first CPU's stack alone; everybody else looks at addresses.
unsafe impl Sync for BootStack {}

static BOOT_STACK: BootStack = BootStack {
    front: UnsafeCell::new([0; GUARD]),
    stack: UnsafeCell::new([0; BYTES]),
    rear: UnsafeCell::new([0; GUARD]),
};

/// The boot stack of the first CPU: first byte, and first byte past the end.
pub(crate) fn bounds() -> (u64, u64) {
    let start = &raw const BOOT_STACK.stack as u64;
    (start, start + BYTES as u64)
}

/// What `address` hits, if it lies in the boot stack or its guards.
pub(crate) fn classify(address: u64) -> Option<Hit> {
    let (start, end) = bounds();
    let guard = GUARD as u64;
    let region = match address {
        _ if (start - guard..start).contains(&address) => Region::Guard(Guard::Front, start - address),
        _ if (start..end).contains(&address) => Region::Mapped,
        _ if (end..end + guard).contains(&address) => Region::Guard(Guard::Rear, address - end + 1),
        _ => return None,
    };
    Some(Hit { start, end, region })
}

/// What is to be mapped of the section that the boot stack lies in: all but the two guards.
pub(super) fn leave_guards_out(section: &Section) -> [Section; 3] {
    let ((start, end), guard) = (bounds(), GUARD as u64);
    let part = |start, end| Section { start, end, access: Access::ReadWrite };
    [part(section.start, start - guard), part(start, end), part(end + guard, section.end)]
}

/// Before the guards are there: nothing has run into the front one.
pub(super) fn assert_intact() {
    let (start, _) = bounds();
    let words = (start - GUARD as u64..start).step_by(8);
    assert!(
        words.into_iter().all(|at| probe::read(at) == Some(0)),
        "the boot stack was too small before its guards were there"
    );
}

/// The first CPU's first instructions.
///
/// # Safety
/// Called by the boot loader, once, in the state that the Limine protocol describes.
#[unsafe(naked)]
#[cfg_attr(target_os = "none", unsafe(no_mangle))]
unsafe extern "C" fn palisade_start() -> ! {
    naked_asm!(
        "lea rsp, [rip + {boot_stack} + {end}]",
        "xor ebp, ebp",
        "call {start}",
        "ud2",
        boot_stack = sym BOOT_STACK,
        end = const GUARD + BYTES,
        start = sym super::start,
    )
}

/// Any other CPU's first instructions. What the boot loader gave it for a stack is used by [`leave_the_boot_loader`] alone.
///
/// # Safety
/// Called by the boot loader, once for each CPU, in the state that the Limine protocol describes; `info.extra` is the
/// address of a [`Cpu`] made for this CPU alone, with its stacks.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn start_other(info: &limine::mp::Cpu) -> ! {
    naked_asm!(
        "and rsp, -16",
        "call {leave}",
        "mov rsp, [rax + {stack_top}]",
        "xor ebp, ebp",
        "mov rdi, rax",
        "call {start}",
        "ud2",
        leave = sym leave_the_boot_loader,
        stack_top = const offset::STACK_TOP,
        start = sym super::start_other,
    )
}

/// Goes over to the kernel's page tables, in which the CPU's own stacks are.
///
/// # Safety
/// As for [`start_other`].
unsafe extern "C" fn leave_the_boot_loader(info: &limine::mp::Cpu) -> &'static Cpu {
    // SAFETY: the tables were built before any other CPU was started, and map what the boot loader's do of the stack in
    // use. The address is of a `Cpu` made for this CPU alone.
    unsafe {
        paging::activate();
        &*(info.extra.load(Ordering::Acquire) as *const Cpu)
    }
}

const _: () = assert!(offset_of!(BootStack, stack) == GUARD, "nothing lies between the front guard and the stack");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_around_the_boot_stack_is_told_apart() {
        let (start, end) = bounds();
        let region = |address| classify(address).map(|hit| hit.region);
        assert_eq!(region(start - PAGE_SIZE - 1), None);
        assert_eq!(region(start - PAGE_SIZE), Some(Region::Guard(Guard::Front, PAGE_SIZE)));
        assert_eq!(region(start - 1), Some(Region::Guard(Guard::Front, 1)));
        assert_eq!(region(start), Some(Region::Mapped));
        assert_eq!(region(end - 1), Some(Region::Mapped));
        assert_eq!(region(end), Some(Region::Guard(Guard::Rear, 1)));
        assert_eq!(region(end + PAGE_SIZE), None);
    }

    #[test]
    fn the_guards_are_left_out_and_nothing_else() {
        let (start, end) = bounds();
        let whole = Section { start: start - 3 * PAGE_SIZE, end: end + 5 * PAGE_SIZE, access: Access::ReadWrite };
        let parts = leave_guards_out(&whole).map(|part| (part.start, part.end));
        assert_eq!(parts, [(whole.start, start - PAGE_SIZE), (start, end), (end + PAGE_SIZE, whole.end)]);
    }
}
