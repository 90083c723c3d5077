//! Masking interrupts, counted for each CPU (xv6's `push_off`): guards may end in any order, and interrupts come back
//! with the last one if they were on before the first.
//!
//! Not for NMI handlers: one that came between the instructions here would leave interrupts off. They take no lock.

use crate::cpu;
#[cfg(target_os = "none")]
use crate::cpu::entry::RFLAGS_IF;
#[cfg(target_os = "none")]
use core::arch::asm;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;

/// Interrupts are off on this CPU as long as this lives; so the thread stays on this CPU too.
#[must_use = "interrupts come back on when the guard is dropped"]
pub(crate) struct IrqsOff(PhantomData<*mut ()>);

impl IrqsOff {
    /// Masks interrupts.
    #[inline(always)]
    pub(crate) fn new() -> Self {
        // A few instructions, because every lock has them. Until the second one the thread may be moved; but where a thread
        // runs that masks nothing, nothing is masked, whichever CPU that is.
        #[cfg(target_os = "none")]
        // SAFETY: the GS base points to this CPU's `Cpu`. What is pushed is popped. The compiler takes it for a write to any
        // memory, so that what comes after stays after.
        unsafe {
            asm!(
                "cmp dword ptr gs:[{depth}], 0",
                "jne 2f",
                "pushfq",
                "cli",
                "pop qword ptr gs:[{flags}]",
                "2: inc dword ptr gs:[{depth}]",
                depth = const cpu::offset::IRQ_OFF_DEPTH,
                flags = const cpu::offset::IRQ_FLAGS,
            );
        }
        Self(PhantomData)
    }

    /// The guard for code that an interrupt gate masked interrupts for: the hardware takes them back when the handler
    /// returns, so there is nothing to count and nothing to undo.
    pub(crate) fn by_hardware() -> ManuallyDrop<Self> {
        debug_assert!(cfg!(not(target_os = "none")) || !x86_64::instructions::interrupts::are_enabled());
        ManuallyDrop::new(Self(PhantomData))
    }

    /// The CPU this runs on.
    pub(crate) fn cpu(&self) -> &'static cpu::Cpu {
        cpu::this_racy()
    }
}

impl Drop for IrqsOff {
    #[inline(always)]
    fn drop(&mut self) {
        #[cfg(target_os = "none")]
        // SAFETY: as in `new`; interrupts come back on only if they were on before the first guard, in this thread.
        unsafe {
            asm!(
                "dec dword ptr gs:[{depth}]",
                "jnz 2f",
                "test byte ptr gs:[{flags} + 1], {enabled}",
                "jz 2f",
                "sti",
                "2:",
                depth = const cpu::offset::IRQ_OFF_DEPTH,
                flags = const cpu::offset::IRQ_FLAGS,
                enabled = const RFLAGS_IF >> 8,
            );
        }
    }
}
