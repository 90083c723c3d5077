//! Reads and writes of addresses that may not be mapped: a fault gives an answer instead of ending the thread.

use core::arch::naked_asm;

/// Reads the word at `address` into `*value`; gives 1, or 0 if the read faulted.
///
/// # Safety
/// `value` can be written. Reading `address` has no effect other than a page fault.
#[unsafe(naked)]
unsafe extern "C" fn read_raw(address: u64, value: *mut u64) -> u64 {
    // The first instruction is the one that may fault: its address is the function's.
    naked_asm!("mov rax, [rdi]", "mov [rsi], rax", "mov eax, 1", "ret")
}

/// Writes `value` at `address`; gives 1, or 0 if the write faulted.
///
/// # Safety
/// If `address` is mapped, writing there is wanted.
#[unsafe(naked)]
unsafe extern "C" fn write_raw(address: u64, value: u64) -> u64 {
    naked_asm!("mov [rdi], rsi", "mov eax, 1", "ret")
}

#[unsafe(naked)]
unsafe extern "C" fn faulted() -> u64 {
    naked_asm!("xor eax, eax", "ret")
}

/// Where to go on after a fault at `rip`, if it was a probe's.
pub(crate) fn recovery(rip: u64) -> Option<u64> {
    let probes = [read_raw as *const () as u64, write_raw as *const () as u64];
    probes.contains(&rip).then_some(faulted as *const () as u64)
}

/// The word at `address`, or `None` if it is not mapped here and now.
pub(crate) fn read(address: u64) -> Option<u64> {
    let mut value = 0;
    // SAFETY: `value` is ours; memory that is mapped for the kernel has no read side effects, device pages excepted,
    // which callers do not name.
    let done = unsafe { read_raw(address, &raw mut value) };
    (done == 1).then_some(value)
}

/// Writes `value` at `address`; whether it could.
///
/// # Safety
/// If `address` is mapped, writing there is wanted.
pub(crate) unsafe fn write(address: u64, value: u64) -> bool {
    // SAFETY: by the caller's promise.
    unsafe { write_raw(address, value) == 1 }
}
