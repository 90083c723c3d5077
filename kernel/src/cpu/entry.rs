//! The way into the kernel's handlers and out again, in assembly: interrupt entry, leaving a thread's stack, and
//! resuming a thread.
//!
//! ```text
//!  on the thread's stack                     on the CPU's own stack
//!  interrupt: registers ──▶ Frame ──(1)──▶  trap::interrupt(frame) ─┐
//!  park():    registers ──▶ Frame ──(1)──▶  thread::switch(frame)  ─┤
//!                                                                   │ the frame to go on with
//!  registers ◀── Frame ◀───────────────(2)──────────────────────────┘
//! ```
//! Everything but the saving of the registers happens on the CPU's own stack: an interrupt takes [`Frame`]'s size of a
//! thread's stack and no more, handlers cannot run into a thread's guard, and a switch leaves the old stack before any
//! scheduler code runs. A nested interrupt (an exception inside a handler) stays on the stack it is on. The counting
//! of the nesting is Linux's old `irq_count`.
//!
//! #DF, NMI and #MC come in on stacks of their own by the interrupt stack table, and stay there.
//!
//! The GS base is the kernel's in the kernel and the user's in user code. What comes from user code, by the saved CS, swaps
//! them on the way in and on the way out. That does not hold for the three above: they may also come between the entry of
//! a system call ([`crate::user`]) and its swap, in the kernel and with the user's base. So they look at the base itself: the
//! kernel's is in the upper half, and user code cannot set its own.

use super::offset;
#[cfg(target_os = "none")]
use core::arch::global_asm;
use core::arch::naked_asm;

/// What a thread's registers look like in memory while it does not run; the upper part is what the CPU pushes.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs)]
pub(crate) struct Frame {
    pub(crate) r15: u64,
    pub(crate) r14: u64,
    pub(crate) r13: u64,
    pub(crate) r12: u64,
    pub(crate) rbp: u64,
    pub(crate) rbx: u64,
    pub(crate) r11: u64,
    pub(crate) r10: u64,
    pub(crate) r9: u64,
    pub(crate) r8: u64,
    pub(crate) rdi: u64,
    pub(crate) rsi: u64,
    pub(crate) rdx: u64,
    pub(crate) rcx: u64,
    pub(crate) rax: u64,
    pub(crate) vector: u64,
    pub(crate) error: u64,
    pub(crate) rip: u64,
    pub(crate) cs: u64,
    pub(crate) rflags: u64,
    pub(crate) rsp: u64,
    pub(crate) ss: u64,
}

/// Interrupts are enabled in a frame's `rflags`.
pub(crate) const RFLAGS_IF: u64 = 1 << 9;
/// The bit of `rflags` that is always set.
pub(crate) const RFLAGS_FIXED: u64 = 1 << 1;

impl Frame {
    /// Whether it was user code that was interrupted, or that made the system call.
    pub(crate) const fn is_user(&self) -> bool {
        self.cs & 3 == 3
    }
}

/// Bytes between the entry points of two vectors.
pub(crate) const VECTOR_STRIDE: usize = 16;

#[cfg(target_os = "none")]
unsafe extern "C" {
    /// Entry point of vector 0; that of vector n is `n * VECTOR_STRIDE` further.
    #[link_name = "palisade_vectors"]
    pub(crate) static VECTORS: u8;
}
/// On a host there is no interrupt table; the symbol stands in, so that the crate's pure parts can be tested there.
#[cfg(not(target_os = "none"))]
pub(crate) static VECTORS: u8 = 0;

// Entry points: push a zero where the CPU pushes no error code (it does for 8, 10 to 14, 17, 21, 29 and 30: Intel SDM
// volume 3, table 6-1; AMD APM volume 2, table 8-1), then the vector. 2, 8 and 18 have stacks of their own.
#[cfg(target_os = "none")]
global_asm!(
    ".section .text.entry, \"ax\"",
    ".balign 16",
    ".global palisade_vectors",
    "palisade_vectors:",
    ".set vector, 0",
    ".rept 256",
    "    .balign {stride}",
    "    .if (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)",
    "    .else",
    "        push 0",
    "    .endif",
    "    push vector",
    "    .if (vector == 2) || (vector == 8) || (vector == 18)",
    "        jmp palisade_enter_own_stack",
    "    .else",
    "        jmp palisade_enter",
    "    .endif",
    "    .set vector, vector + 1",
    ".endr",
    // The frame's general registers, in the order of `Frame`.
    ".macro save_registers",
    "    push rax; push rcx; push rdx; push rsi; push rdi; push r8; push r9; push r10; push r11",
    "    push rbx; push rbp; push r12; push r13; push r14; push r15",
    ".endm",
    ".macro restore_registers",
    "    pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx",
    "    pop r11; pop r10; pop r9; pop r8; pop rdi; pop rsi; pop rdx; pop rcx; pop rax",
    "    add rsp, 16",
    ".endm",
    // What was interrupted may have had SMAP lifted: user code by its own flags, the kernel while it copied.
    ".macro forbid_user_memory",
    "    cmp dword ptr gs:[{smap}], 0",
    "    je 9f",
    "    clac",
    "9:",
    ".endm",
    "palisade_enter:",
    "    test byte ptr [rsp + 24], 3", // the saved CS
    "    jz 3f",
    "    swapgs",
    "3:  save_registers",
    "    cld",
    "    test byte ptr [rsp + {cs}], 3",
    "    jz 4f",
    "    xor ebp, ebp", // the user's: no backtrace follows it
    "4:  forbid_user_memory",
    "    mov rdi, rsp",
    "    inc dword ptr gs:[{depth}]",
    "    jnz 2f",
    "    mov rsp, gs:[{stack_top}]", // (1)
    "2:  call {interrupt}",
    ".global palisade_resume",
    "palisade_resume:",
    "    mov rsp, rax", // (2)
    "    dec dword ptr gs:[{depth}]",
    "    restore_registers",
    "    test byte ptr [rsp + 8], 3",
    "    jz 5f",
    "    swapgs",
    "5:  iretq",
    "palisade_enter_own_stack:",
    "    save_registers",
    "    cld",
    "    mov ecx, 0xc0000101", // the GS base
    "    rdmsr",
    "    xor ebx, ebx",
    "    test edx, edx",
    "    js 6f",
    "    swapgs",
    "    inc ebx",
    "    xor ebp, ebp",
    "6:  forbid_user_memory",
    "    mov rdi, rsp",
    "    call {own_stack}",
    "    test ebx, eax", // it was swapped, and what goes on is what was interrupted
    "    jz 7f",
    "    swapgs",
    "7:  restore_registers",
    "    iretq",
    ".global palisade_vectors_end",
    "palisade_vectors_end:",
    stride = const VECTOR_STRIDE,
    smap = const offset::SMAP,
    cs = const core::mem::offset_of!(Frame, cs),
    depth = const offset::INTERRUPT_DEPTH,
    stack_top = const offset::STACK_TOP,
    interrupt = sym crate::trap::interrupt,
    own_stack = sym crate::trap::own_stack_interrupt,
);

/// Whether the code at `rip` is that above, where registers may still be, or be again, what user code left in them.
pub(crate) fn is_entry(rip: u64) -> bool {
    #[cfg(target_os = "none")]
    {
        unsafe extern "C" {
            static palisade_vectors_end: u8;
        }
        (&raw const VECTORS as u64..&raw const palisade_vectors_end as u64).contains(&rip)
    }
    #[cfg(not(target_os = "none"))]
    {
        let _ = rip;
        false
    }
}

/// Defines a way for a thread to leave its CPU and come back: saves its registers in a [`Frame`] on its stack, goes over to the
/// CPU's own stack, and has the scheduler find the frame to go on with. Returns when the thread is resumed.
macro_rules! leaving {
    ($(#[$meta:meta])* $name:ident => $switch:path) => {
        $(#[$meta])*
        ///
        /// # Safety
        /// On a thread's stack, with interrupts on.
        #[unsafe(naked)]
        pub(crate) unsafe extern "C" fn $name() {
            naked_asm!(
                "mov rdx, [rsp]",     // where to go on
                "lea rcx, [rsp + 8]", // with this stack
                "push {ss}",
                "push rcx",
                "pushfq",
                "push {cs}",
                "push rdx",
                "sub rsp, {scratch}", // a caller expects nothing of these registers
                "push rbx; push rbp; push r12; push r13; push r14; push r15",
                "cli",
                "mov rdi, rsp",
                "inc dword ptr gs:[{depth}]",
                "mov rsp, gs:[{stack_top}]", // (1)
                "call {switch}",
                "jmp palisade_resume",
                ss = const super::descriptors::KERNEL_DATA,
                cs = const super::descriptors::KERNEL_CODE,
                scratch = const core::mem::offset_of!(Frame, rip) - core::mem::offset_of!(Frame, r11),
                depth = const offset::INTERRUPT_DEPTH,
                stack_top = const offset::STACK_TOP,
                switch = sym $switch,
            )
        }
    };
}
leaving!(
    /// Gives way: the thread wants to go on.
    give_way => crate::thread::switch::gives_way
);
leaving!(
    /// Parks: the thread waits to be woken.
    park => crate::thread::switch::parks
);

/// Leaves the CPU, and the thread's stack, for good. Nothing is saved.
///
/// # Safety
/// On a thread's stack, with interrupts on; nothing that is on the stack is needed any more.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn leave_for_good() -> ! {
    naked_asm!(
        "cli",
        "inc dword ptr gs:[{depth}]",
        "mov rsp, gs:[{stack_top}]", // (1)
        "call {switch}",
        "jmp palisade_resume", // (2)
        depth = const offset::INTERRUPT_DEPTH,
        stack_top = const offset::STACK_TOP,
        switch = sym crate::thread::switch::ends,
    )
}

/// Goes on with `entry` from `top` of the thread's stack: nothing that is on it is needed any more.
///
/// # Safety
/// `top` is the upper end of the stack of the thread that calls, less 8.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn restart(top: u64, entry: extern "C" fn() -> !) -> ! {
    naked_asm!("mov rsp, rdi", "xor ebp, ebp", "jmp rsi")
}

/// Leaves the boot stack for good: goes over to the CPU's own stack and resumes the first thread.
///
/// # Safety
/// Once on each CPU, when its stack, its idle thread and its descriptors are set up, with interrupts off.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn start() -> ! {
    naked_asm!(
        "mov rsp, gs:[{stack_top}]",
        "xor ebp, ebp",
        "call {first}",
        "jmp palisade_resume",
        stack_top = const offset::STACK_TOP,
        first = sym crate::thread::switch::first,
    )
}
