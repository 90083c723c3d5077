//! Reads and writes of addresses that may not be mapped: a fault gives an answer instead of ending the thread. Copies from
//! user memory are of this kind; SMAP is lifted for them alone.

use crate::cpu::offset;
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

/// Copies `count` bytes, with SMAP lifted; gives how many could not be copied because of a fault.
///
/// # Safety
/// On the kernel's side of the copy the bytes are there to be read or written. The other side is user memory.
#[unsafe(naked)]
unsafe extern "C" fn copy_raw(to: *mut u8, from: *const u8, count: u64) -> u64 {
    naked_asm!(
        "mov rcx, rdx",
        "cmp dword ptr gs:[{smap}], 0",
        "je 2f",
        "stac",
        "2:",
        ".global palisade_user_copy",
        "palisade_user_copy:",
        "rep movsb", // may fault, and is gone on with at the next address
        ".global palisade_user_copy_end",
        "palisade_user_copy_end:",
        "cmp dword ptr gs:[{smap}], 0",
        "je 3f",
        "clac",
        "3: mov rax, rcx",
        "ret",
        smap = const offset::SMAP,
    )
}

/// The two addresses named in [`copy_raw`].
fn copy_labels() -> (u64, u64) {
    #[cfg(target_os = "none")]
    {
        unsafe extern "C" {
            static palisade_user_copy: u8;
            static palisade_user_copy_end: u8;
        }
        (&raw const palisade_user_copy as u64, &raw const palisade_user_copy_end as u64)
    }
    #[cfg(not(target_os = "none"))]
    (0, 0)
}

#[unsafe(naked)]
unsafe extern "C" fn faulted() -> u64 {
    naked_asm!("xor eax, eax", "ret")
}

/// Where to go on after a fault at `rip`, if it was a probe's.
pub(crate) fn recovery(rip: u64) -> Option<u64> {
    let probes = [read_raw as *const () as u64, write_raw as *const () as u64];
    let (copy, copy_end) = copy_labels();
    match rip {
        _ if probes.contains(&rip) => Some(faulted as *const () as u64),
        _ if rip == copy => Some(copy_end),
        _ => None,
    }
}

/// Copies from user memory; whether all of it was there to be read.
///
/// # Safety
/// The bytes from `from` on are in the lower half.
pub(crate) unsafe fn copy_from_user(to: &mut [u8], from: u64) -> bool {
    // SAFETY: `to` is ours to write; by the caller's promise the other side is no memory of the kernel's.
    unsafe { copy_raw(to.as_mut_ptr(), from as *const u8, to.len() as u64) == 0 }
}

/// As [`read`], of user memory too.
pub(crate) fn read_any(address: u64) -> Option<u64> {
    if address.cast_signed() < 0 {
        return read(address);
    }
    let mut bytes = [0; 8];
    // SAFETY: in the lower half.
    let done = unsafe { copy_from_user(&mut bytes, address) };
    done.then_some(u64::from_ne_bytes(bytes))
}

/// Where the kernel's own reads may fault and go on: no user code does by being there.
#[cfg(feature = "misdeeds")]
pub(crate) fn code() -> u64 {
    read_raw as *const () as u64
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
