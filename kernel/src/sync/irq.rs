//! Masking interrupts, counted for each CPU (xv6's `push_off`): guards may end in any order, and interrupts come back
//! with the last one if they were on before the first.

use crate::cpu;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;

#[cfg(not(target_os = "none"))]
use host as interrupts;
#[cfg(target_os = "none")]
use x86_64::instructions::interrupts;

/// On a host, where the pure parts are tested, there are no interrupts to mask.
#[cfg(not(target_os = "none"))]
mod host {
    pub(super) fn are_enabled() -> bool {
        true
    }
    pub(super) fn disable() {}
    pub(super) fn enable() {}
}

/// Interrupts are off on this CPU as long as this lives; so the thread stays on this CPU too.
#[must_use = "interrupts come back on when the guard is dropped"]
pub(crate) struct IrqsOff(PhantomData<*mut ()>);

impl IrqsOff {
    /// Masks interrupts.
    #[inline(always)]
    pub(crate) fn new() -> Self {
        let were_on = interrupts::are_enabled();
        interrupts::disable();
        let cpu = cpu::this_racy();
        let depth = cpu.irq_off_depth.get();
        if depth == 0 {
            cpu.irqs_were_on.set(were_on);
        }
        cpu.irq_off_depth.set(depth.wrapping_add(1)); // not so deep that it wraps: the stack would end before
        Self(PhantomData)
    }

    /// The guard for code that an interrupt gate masked interrupts for: the hardware takes them back when the handler
    /// returns, so there is nothing to count and nothing to undo.
    pub(crate) fn by_hardware() -> ManuallyDrop<Self> {
        debug_assert!(!interrupts::are_enabled());
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
        let cpu = cpu::this_racy();
        let depth = cpu.irq_off_depth.get().wrapping_sub(1);
        cpu.irq_off_depth.set(depth);
        if depth == 0 && cpu.irqs_were_on.get() {
            interrupts::enable();
        }
    }
}
