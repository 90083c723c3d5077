//! Guards that keep the thread that runs from being preempted, or from being ended.

use super::{How, Thread, exit, switch};
use crate::cpu;
use crate::cpu::apic::vector;
use core::arch::asm;
use core::marker::PhantomData;

/// The thread stays on its CPU, and nothing else runs there but interrupt handlers.
#[must_use = "preemption comes back when the guard is dropped"]
#[derive(Debug)]
pub struct PreemptOff(PhantomData<*mut ()>);

impl PreemptOff {
    /// Turns preemption off.
    #[inline]
    pub fn new() -> Self {
        let thread = cpu::current();
        thread.preempt_off.set(thread.preempt_off.get().wrapping_add(1));
        // The compiler must not move what follows before it.
        core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
        Self(PhantomData)
    }
}

impl Default for PreemptOff {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for PreemptOff {
    #[inline(always)]
    fn drop(&mut self) {
        core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
        let thread = cpu::current();
        let depth = thread.preempt_off.get().wrapping_sub(1);
        thread.preempt_off.set(depth);
        if depth == 0 && cpu::should_give_way() {
            give_way_if_possible();
        }
    }
}

#[cold]
fn give_way_if_possible() {
    if !cpu::in_interrupt() && cpu::masked_depth() == 0 {
        switch::yield_now();
    }
}

/// Stack, in bytes, that a kernel function may need, with the interrupts that come meanwhile. Whoever calls one with
/// less left has overflowed: it is told so before the function owns anything. Measured: the deepest, a reap on exit,
/// takes about 1,100.
pub(crate) const HEADROOM: u64 = 1536;

/// An abort is held off as long as this lives; it takes effect when the last one is dropped.
#[must_use = "aborts come through when the guard is dropped"]
#[derive(Debug)]
pub struct Shield(PhantomData<*mut ()>);

impl Shield {
    /// Holds aborts off.
    ///
    /// A thread with less than the kernel's headroom left on its stack is ended as overflowed.
    #[inline]
    pub fn new() -> Self {
        let thread = cpu::current();
        let shields = thread.shields.get();
        if shields == 0 {
            // Boot code and reports run on stacks that are not the thread's: far away, above or below.
            let left = stack_pointer().wrapping_sub(thread.stack_bounds().0);
            if left.wrapping_add(2 * HEADROOM) < 3 * HEADROOM {
                too_little_left(thread);
            }
        }
        thread.shields.set(shields.wrapping_add(1));
        core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
        Self(PhantomData)
    }
}

/// A thread calls a kernel function with less left of its stack than that may need.
#[cold]
fn too_little_left(thread: &Thread) {
    if thread.stack.is_there() && !cpu::in_interrupt() {
        // SAFETY: the handler ends this thread, which owns nothing of the kernel's yet.
        unsafe { asm!("int {}", const vector::OVERFLOW_ON_CALL) }
    }
}

impl Default for Shield {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Shield {
    #[inline(always)]
    fn drop(&mut self) {
        core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
        let thread = cpu::current();
        let depth = thread.shields.get().wrapping_sub(1);
        thread.shields.set(depth);
        if depth == 0 && thread.abort_pending() {
            end_if_possible(thread);
        }
    }
}

#[cold]
fn end_if_possible(thread: &Thread) {
    if !cpu::in_interrupt() && cpu::masked_depth() == 0 && thread.can_be_ended() {
        exit::end(How::Aborted);
    }
}

#[inline(always)]
pub(super) fn stack_pointer() -> u64 {
    let rsp: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack, preserves_flags)) };
    rsp
}
