//! The first serial port, for the one line that a failed boot prints.

use core::fmt::{self, Write};
use x86_64::instructions::port::Port;

/// Base port of COM1, and the offset of its line status register (National Semiconductor PC16550D).
const COM1: u16 = 0x3f8;
const LINE_STATUS: u16 = 5;
/// The bit of it that says that another byte may be written.
const ROOM: u8 = 1 << 5;
/// A transmitter that has no room after so many looks never will.
const PATIENCE: u32 = 1_000_000;

struct Com1;

impl Write for Com1 {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            for _ in 0..PATIENCE {
                // SAFETY: reading the line status has no effect on memory.
                if unsafe { Port::<u8>::new(COM1 + LINE_STATUS).read() } & ROOM != 0 {
                    break;
                }
                core::hint::spin_loop();
            }
            // SAFETY: writing a byte to the port has no effect on memory.
            unsafe { Port::new(COM1).write(byte) }
        }
        Ok(())
    }
}

/// Prints a line under the loader's name.
pub(super) fn line(text: fmt::Arguments<'_>) {
    let _ = write!(Com1, "palisade-loader: {text}\r\n"); // a port does not fail
}
