//! Where threads begin: the first frame on their stacks, and what it goes to.

use super::Shield;
use super::end::How;
use super::{Thread, exit};
use crate::cpu;
use crate::cpu::descriptors::{KERNEL_CODE, KERNEL_DATA};
use crate::cpu::entry::{Frame, RFLAGS_FIXED, RFLAGS_IF};
use crate::mem::slots::SlotId;
use crate::mem::space;
use crate::sync::irq::IrqsOff;
use core::sync::atomic::Ordering;

/// Gives an idle thread its stack.
pub(super) fn prepare_idle(thread: &'static Thread, stack: SlotId, entry: extern "C" fn() -> !) {
    stack.set_owner(thread);
    thread.stack.set_slot(stack);
    thread.slot_bits.store(stack.into_bits(), Ordering::Relaxed);
    set_frame(thread, entry, 0);
}

/// Puts a frame on the thread's stack from which `entry` begins, so far below the top. Registers that are not named begin as whatever
/// lay there, as the rest of the stack does; the frame pointer is the end of all backtraces.
#[inline(always)]
pub(super) fn set_frame(thread: &'static Thread, entry: extern "C" fn() -> !, offset: u64) {
    let top = thread.stack_bounds().1.wrapping_sub(offset);
    let frame = top.wrapping_sub(16 + size_of::<Frame>() as u64) as *mut Frame;
    // SAFETY: inside the stack, which is mapped, and on which nothing runs.
    unsafe {
        (&raw mut (*frame).rip).write(entry as *const () as u64);
        (&raw mut (*frame).cs).write(KERNEL_CODE.into());
        (&raw mut (*frame).rflags).write(RFLAGS_IF | RFLAGS_FIXED);
        (&raw mut (*frame).rsp).write(top.wrapping_sub(8)); // as if called
        (&raw mut (*frame).ss).write(KERNEL_DATA.into());
        (&raw mut (*frame).rbp).write(0);
        (top.wrapping_sub(8) as *mut u64).write(0);
    }
    thread.frame.store(frame, Ordering::Relaxed);
}

/// The first code of a thread, on its own stack: runs its function, and ends it.
pub(super) extern "C" fn begin() -> ! {
    let thread = cpu::current();
    // SAFETY: set before the thread was READY, and the thread's own while it lives.
    unsafe { thread.body.run() };
    // SAFETY: as above.
    if unsafe { (*thread.held.get()).is_some() } {
        leave_space(thread);
    }
    exit::end(How::Returned)
}

/// The thread may be the last that holds its address space: it lets that go here, where it may do what threads do, and not
/// whoever reaps the stack. An abort that came between would lose it.
fn leave_space(thread: &'static Thread) {
    {
        let _irqs = IrqsOff::new();
        thread.set_space(None);
        thread.set_user(core::ptr::null());
        space::enter(None);
    }
    let _shield = Shield::new();
    // SAFETY: the thread's own while it lives.
    drop(unsafe { (*thread.held.get()).take() });
}
