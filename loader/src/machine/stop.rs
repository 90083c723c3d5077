//! The end of a boot that fails: one line, and the end of the virtual machine.

use super::serial;
use core::fmt;
use core::panic::PanicInfo;
use loader::ending::{FAIL, PORT, UNUSABLE};
use x86_64::instructions::{hlt, interrupts, port::Port};

/// What the loader was given cannot be booted.
pub(super) fn unusable(reason: fmt::Arguments<'_>) -> ! {
    end(reason, UNUSABLE)
}

/// The loader, or the kernel before it could say so itself, did what it must not.
pub(super) fn failed(reason: fmt::Arguments<'_>) -> ! {
    end(reason, FAIL)
}

fn end(reason: fmt::Arguments<'_>, value: u32) -> ! {
    serial::line(reason);
    // SAFETY: the device ends the machine; without it, the write goes nowhere.
    unsafe { Port::new(PORT).write(value) }
    loop {
        interrupts::disable();
        hlt();
    }
}

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    match info.location() {
        Some(place) => failed(format_args!("bug at {}:{}: {}", place.file(), place.line(), info.message())),
        None => failed(format_args!("bug: {}", info.message())),
    }
}
