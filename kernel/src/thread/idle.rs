//! What a CPU does when no thread is ready: reap what is pending, look for work, and halt until an interrupt.

use super::begin;
use super::switch::{IDLE, work_waits};
use super::{exit, switch, watermark};
use crate::cpu::{self, Cpu};
use crate::mem::paging::Access;
use crate::mem::slots::Kind;
use crate::mem::{MapError, StackKind, custody, guarded, tlb};
use crate::misdeed;
use crate::trace::{Event, emit};
use core::sync::atomic::{Ordering, fence};
use x86_64::instructions::interrupts;

/// Pages of an idle thread's stack.
const STACK_PAGES: u64 = 4;

/// Gives `cpu` its idle thread, on a guarded stack like any other.
///
/// # Errors
/// [`MapError`] if there is no memory for the stack.
pub(crate) fn prepare(cpu: &'static Cpu) -> Result<(), MapError> {
    let stack = guarded::map_fresh(STACK_PAGES, 1, watermark::fill(), Access::ReadWrite, Kind::Stack)?;
    stack.set_stack_kind(StackKind::Idle, cpu.id());
    cpu.idle.set_name("idle");
    super::register(&cpu.idle);
    cpu.idle.set_number(cpu.id().index() as u32 + 1);
    cpu.set_current(&cpu.idle); // by its number now
    // It cannot be ended.
    cpu.idle.shields.set(1);
    begin::prepare_idle(&cpu.idle, stack, run);
    Ok(())
}

extern "C" fn run() -> ! {
    let cpu = cpu::this_racy(); // idle threads do not move
    loop {
        misdeed::passes(StackKind::Idle);
        exit::reap();
        custody::collect();
        interrupts::disable();
        IDLE.insert(cpu.id(), Ordering::SeqCst);
        // Pairs with `make_ready`: first say so, then look.
        fence(Ordering::SeqCst);
        if work_waits(cpu.id()) || exit::pending_stacks() > 0 {
            IDLE.remove(cpu.id(), Ordering::SeqCst);
            interrupts::enable();
        } else {
            // One after the other without a gap: an interrupt that is pending ends the halt.
            emit(Event::Halt {});
            tlb::falls_asleep(cpu);
            interrupts::enable_and_hlt();
            tlb::wakes(cpu);
            IDLE.remove(cpu.id(), Ordering::SeqCst);
        }
        switch::yield_now();
    }
}
