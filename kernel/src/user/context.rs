//! What a user thread has besides a kernel thread: registers that the kernel does not use itself, and a stack in its
//! process.
//!
//! The kernel is built without SSE and x87, so their registers are the user thread's from the moment that it is switched to,
//! and are saved when it is switched from: always, so that nothing of one is ever seen by another. (AMD's processors before Zen
//! keep the addresses of the last x87 instruction over FXRSTOR; those are not hidden there.)

use super::memory::UserStack;
use super::process::Process;
use crate::cpu::Cpu;
use crate::cpu::cell::Own;
use crate::thread::Thread;
use alloc::sync::Arc;
use core::arch::asm;
use core::cell::UnsafeCell;
use core::fmt;
use core::mem::offset_of;
use wire::record::Guard;

/// The FXSAVE area (Intel SDM volume 1, section 10.5.1).
#[repr(C, align(16))]
struct Registers([u8; 512]);

impl Registers {
    /// As after FNINIT, with all exceptions of SSE masked: what a program finds.
    const INITIAL: Self = {
        let mut bytes = [0; 512];
        [bytes[0], bytes[1]] = 0x037f_u16.to_le_bytes();
        [bytes[24], bytes[25]] = 0x1f80_u16.to_le_bytes();
        Self(bytes)
    };
}

/// A user thread's own.
#[repr(C)]
pub(crate) struct Context {
    /// Where the privileged stack is free while the thread is in user code; 0 before it first goes there.
    privileged_stack: Own<u64>,
    entry: u64,
    rsp: u64,
    arguments: [u64; 2],
    registers: UnsafeCell<Registers>,
    stack: UserStack,
    process: Arc<Process>,
}

// SAFETY: `registers` is touched only by the CPU that switches from or to the one thread whose the context is.
unsafe impl Sync for Context {}

impl Context {
    /// Offsets of what `entry` needs: place on the privileged stack, entry point, stack pointer, first argument.
    pub(super) const OFFSETS: [usize; 4] = [
        offset_of!(Self, privileged_stack),
        offset_of!(Self, entry),
        offset_of!(Self, rsp),
        offset_of!(Self, arguments),
    ];

    /// A thread of `process` that begins at `entry` on this stack.
    pub(super) fn new(process: Arc<Process>, entry: u64, stack: UserStack, arguments: [u64; 2]) -> Self {
        Self {
            privileged_stack: Own::<u64>::new(0),
            entry,
            rsp: stack.end(),
            arguments,
            registers: UnsafeCell::new(Registers::INITIAL),
            stack,
            process,
        }
    }

    pub(super) fn process(&self) -> &Process {
        &self.process
    }

    pub(super) fn privileged_stack(&self) -> u64 {
        self.privileged_stack.get()
    }

    /// The guard of its user stack that this address is in, and how many bytes past the edge.
    pub(crate) fn guard_at(&self, address: u64) -> Option<(Guard, u64)> {
        self.stack.guard_at(address)
    }

    /// Loads what is this thread's on `cpu`, which goes on with it. Interrupts are off.
    pub(super) fn load(&self, cpu: &Cpu) {
        cpu.privileged_stack.set(self.privileged_stack.get());
        // SAFETY: the place below which the thread needs nothing while it is in user code. Interrupts are off, on this CPU.
        unsafe { cpu.descriptors.set_privileged_stack(self.privileged_stack.get()) };
        // SAFETY: the area is aligned, and holds what FXSAVE stored, or the initial state. The selectors are not kept: null,
        // with which the bases of FS and of the user's GS are 0. The kernel's base of GS is swapped away meanwhile;
        // an NMI in between finds a base in the lower half, and swaps.
        unsafe {
            asm!(
                "fxrstor64 [{area}]",
                "mov ds, {null:e}",
                "mov es, {null:e}",
                "mov fs, {null:e}",
                "swapgs",
                "mov gs, {null:e}",
                "swapgs",
                area = in(reg) self.registers.get(),
                null = in(reg) 0,
                options(nostack, preserves_flags),
            );
        }
    }

    fn save(&self) {
        // SAFETY: the area is aligned, and this CPU's as long as the thread has not left it.
        unsafe { asm!("fxsave64 [{}]", in(reg) self.registers.get(), options(nostack, preserves_flags)) }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.process.memory().give_back(&self.stack);
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("process", &self.process).finish_non_exhaustive()
    }
}

/// The CPU has left `thread`, and no other runs it yet.
#[inline]
pub(crate) fn leaves(thread: &Thread) {
    if let Some(context) = thread.user() {
        context.save();
    }
}

/// `cpu` goes on with `thread`.
#[inline]
pub(crate) fn comes(cpu: &Cpu, thread: &Thread) {
    if let Some(context) = thread.user() {
        context.load(cpu);
    }
}
