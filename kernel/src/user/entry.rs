//! The ways into ring 3 and out of it, in assembly: [`enter`], the entry of system calls, and [`leave`].
//!
//! ```text
//!   privileged stack:  top │ begin, body … enter: saved registers │ Frame of the system call │ system_call …
//!                                                                 ▲
//!                             Context::privileged_stack, Cpu::privileged_stack, TSS.rsp0
//! ```
//! SYSCALL leaves the user's stack in place and interrupts masked (`cpu::features`), so nothing but an NMI or a machine check
//! comes between the entry and the frame; those have stacks of their own, and look at GS's base themselves.
//!
//! SYSRET with an address that is none faults in the kernel, on the user's stack (CVE-2012-0217). Here it cannot: the frame's
//! address is where SYSCALL stood, the last page of the lower half is never mapped, and `system_call` ends a thread
//! whose address is beyond it before anything else.

use super::context::Context;
use crate::cpu;
use crate::cpu::descriptors::{USER_CODE, USER_DATA};
use crate::cpu::entry::{RFLAGS_FIXED, RFLAGS_IF};
#[cfg(target_os = "none")]
use crate::cpu::offset;
#[cfg(target_os = "none")]
use core::arch::global_asm;
use core::arch::naked_asm;

/// A system call's place in `Frame::vector`: none of the hardware's.
const VECTOR: u64 = 256;

#[cfg(target_os = "none")]
global_asm!(
    ".section .text.entry, \"ax\"",
    ".balign 16",
    ".global palisade_system_call",
    "palisade_system_call:",
    "    swapgs",
    "    mov gs:[{user_rsp}], rsp",
    "    mov rsp, gs:[{privileged_stack}]",
    "    push {ss}",
    "    push gs:[{user_rsp}]",
    "    push r11", // the flags
    "    push {cs}",
    "    push rcx", // where to go on
    "    push 0",
    "    push {vector}",
    "    push rax; push rcx; push rdx; push rsi; push rdi; push r8; push r9; push r10; push r11",
    "    push rbx; push rbp; push r12; push r13; push r14; push r15",
    "    xor ebp, ebp",   // the user's: no backtrace follows it
    "    mov rdi, rsp",
    "    sti",
    "    call {system_call}",
    "    cli",
    "    pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx",
    "    pop r11; pop r10; pop r9; pop r8; pop rdi; pop rsi; pop rdx; pop rcx; pop rax",
    "    mov rcx, [rsp + 16]", // behind vector and error
    "    mov r11, [rsp + 32]",
    "    mov rsp, [rsp + 40]",
    "    swapgs",
    "    sysretq",
    ".global palisade_system_call_end",
    "palisade_system_call_end:",
    user_rsp = const offset::USER_RSP,
    privileged_stack = const offset::PRIVILEGED_STACK,
    ss = const USER_DATA,
    cs = const USER_CODE,
    vector = const VECTOR,
    system_call = sym super::system_call::system_call,
);

/// Where system calls enter.
pub(crate) fn system_call_entry() -> u64 {
    #[cfg(target_os = "none")]
    {
        unsafe extern "C" {
            static palisade_system_call: u8;
        }
        &raw const palisade_system_call as u64
    }
    #[cfg(not(target_os = "none"))]
    0
}

/// Whether the code at `rip` is the entry of system calls, with what user code left in the registers.
pub(crate) fn is_entry(rip: u64) -> bool {
    #[cfg(target_os = "none")]
    {
        unsafe extern "C" {
            static palisade_system_call_end: u8;
        }
        (system_call_entry()..&raw const palisade_system_call_end as u64).contains(&rip)
    }
    #[cfg(not(target_os = "none"))]
    {
        let _ = rip;
        false
    }
}

/// Goes to user code, and comes back with the exit code when that calls `exit`. All registers but the arguments are 0 there.
///
/// # Safety
/// `context` is the calling thread's, and stays as long as it is in user code. Nothing that the thread owns below is lost if it
/// is ended there.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn enter(context: &Context) -> u64 {
    naked_asm!(
        "push rbx; push rbp; push r12; push r13; push r14; push r15",
        "sub rsp, 8", // to a multiple of 16
        "mov rbx, rdi",
        "mov [rdi + {place}], rsp",
        "cli",
        "call {load}",
        "push {ss}",
        "push [rbx + {rsp}]",
        "push {flags}",
        "push {cs}",
        "push [rbx + {entry}]",
        "mov rdi, [rbx + {arguments}]",
        "mov rsi, [rbx + {arguments} + 8]",
        "xor eax, eax; xor ebx, ebx; xor ecx, ecx; xor edx, edx; xor ebp, ebp",
        "xor r8d, r8d; xor r9d, r9d; xor r10d, r10d; xor r11d, r11d",
        "xor r12d, r12d; xor r13d, r13d; xor r14d, r14d; xor r15d, r15d",
        "swapgs",
        "iretq",
        place = const Context::OFFSETS[0],
        entry = const Context::OFFSETS[1],
        rsp = const Context::OFFSETS[2],
        arguments = const Context::OFFSETS[3],
        load = sym load_here,
        ss = const USER_DATA,
        cs = const USER_CODE,
        flags = const RFLAGS_IF | RFLAGS_FIXED,
    )
}

extern "C" fn load_here(context: &Context) {
    context.load(cpu::this_racy()); // interrupts are off
}

/// Comes back from [`enter`] with `code`.
///
/// # Safety
/// In the thread that called `enter`, with what that left in its context as `place`; nothing that the caller owns is needed.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn leave(place: u64, code: u64) -> ! {
    naked_asm!(
        "mov rsp, rdi",
        "mov rax, rsi",
        "add rsp, 8",
        "pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx",
        "ret",
    )
}
