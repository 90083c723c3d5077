//! Leaving the loader: calls of the code in `handoff.s` by its address in the direct map.

use loader::HHDM;

core::arch::global_asm!(include_str!("handoff.s"), options(att_syntax));

unsafe extern "C" {
    fn enter_kernel(entry: u64, stack_end: u64, tables: u64) -> !;
    fn park(structure: u64, stack_end: u64, tables: u64) -> !;
}

/// What `handoff.s` is given: three words, of which the last is the page tables' physical address.
type Code = unsafe extern "C" fn(u64, u64, u64) -> !;

/// Everything that entering the kernel needs.
pub(super) struct Handoff {
    /// Virtual address to enter at.
    pub(super) entry: u64,
    /// Virtual address of the end of the stack, in the direct map.
    pub(super) stack_end: u64,
    /// Physical address of the kernel's page tables.
    pub(super) tables: u64,
}

impl Handoff {
    /// Enters the kernel on the first CPU.
    pub(super) fn enter(self) -> ! {
        let code = in_direct_map(enter_kernel);
        // SAFETY: the tables show the direct map, in which the code and the stack are, and the entry.
        unsafe { code(self.entry, self.stack_end, self.tables) }
    }
}

/// Parks another CPU until the kernel writes an address to its structure. All addresses are physical.
///
/// # Safety
/// The structure is this CPU's, the stack nobody else's, and the tables are the kernel's.
pub(super) unsafe fn park_here(structure: u64, stack_end: u64, tables: u64) -> ! {
    let code = in_direct_map(park);
    // SAFETY: by the caller's promise; the tables show the direct map, in which all three are.
    unsafe { code(HHDM + structure, HHDM + stack_end, tables) }
}

fn in_direct_map(code: Code) -> Code {
    let address = HHDM as usize + code as usize;
    // SAFETY: the same code, mapped a second time; it uses no address but those that it is given.
    unsafe { core::mem::transmute::<usize, Code>(address) }
}
