//! The first serial port: text for people. A call of [`print!`](crate::print) or [`println!`](crate::println) is
//! written as a whole: the lines of two CPUs do not mix.

use crate::cpu;
use crate::sync::SpinLock;
use crate::thread::Shield;
use bitflags::bitflags;
use core::fmt::{self, Write};
use x86_64::instructions::port::Port;

/// Bytes that the transmitter buffers (PC16550D, section 8.4).
const TRANSMIT_BUFFER: usize = 16;

bitflags! {
    /// The line status register's bits that matter here.
    #[derive(Clone, Copy)]
    struct LineStatus: u8 {
        /// The transmitter has room for a byte.
        const TRANSMITTER_EMPTY = 1 << 5;
    }
}

/// A 16550 UART (National Semiconductor PC16550D) at 115,200 baud, 8 data bits, no parity. Polled, since there is
/// nothing better to do with the wait.
pub(crate) struct Uart(u16);

impl Uart {
    /// The first serial port of a PC.
    pub(crate) const COM1: Self = Self(0x3f8);
    /// The second one.
    pub(crate) const COM2: Self = Self(0x2f8);

    pub(crate) fn init(&mut self) {
        for (offset, value) in [(1, 0x00), (3, 0x80), (0, 0x01), (1, 0x00), (3, 0x03), (2, 0xc7), (4, 0x0b)] {
            // SAFETY: the registers of a serial port that the kernel owns; at worst there is none.
            unsafe { Port::<u8>::new(self.0 + offset).write(value) }
        }
    }

    /// Writes a byte when the transmitter has room: one written earlier would be lost.
    pub(crate) fn write(&mut self, byte: u8) {
        // SAFETY: as above.
        unsafe {
            let status = || LineStatus::from_bits_retain(Port::<u8>::new(self.0 + 5).read());
            while !status().contains(LineStatus::TRANSMITTER_EMPTY) {
                core::hint::spin_loop();
            }
            Port::new(self.0).write(byte);
        }
    }

    /// Writes bytes as fast as the transmitter takes them: with room for one its whole buffer is empty.
    pub(crate) fn write_all(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(TRANSMIT_BUFFER) {
            self.write(piece[0]);
            for byte in &piece[1..] {
                // SAFETY: as above.
                unsafe { Port::new(self.0).write(*byte) }
            }
        }
    }
}

impl Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.write(b'\r');
            }
            self.write(byte);
        }
        Ok(())
    }
}

static SERIAL: SpinLock<Uart> = SpinLock::new("serial 1", Uart::COM1);

/// Sets the port up. Before the first line.
pub(crate) fn init() {
    SERIAL.lock().init();
}

/// Writes to the port; see [`print!`](crate::print).
#[doc(hidden)]
pub fn write(text: fmt::Arguments<'_>) {
    if cpu::on_threads_stack() {
        rehearse(text);
    }
    let _shield = Shield::new();
    let _ = SERIAL.lock().write_fmt(text); // a UART does not fail
}

/// Formats for nobody: what formatting needs of the stack is the caller's, and unknown. If it is more than there is, that
/// is found here, where nothing is held.
#[inline(never)]
fn rehearse(text: fmt::Arguments<'_>) {
    struct Nobody;
    impl Write for Nobody {
        fn write_str(&mut self, _: &str) -> fmt::Result {
            Ok(())
        }
    }
    // What the lock and the port take besides.
    let besides = core::hint::black_box([0u8; 512]);
    let _ = Nobody.write_fmt(text);
    core::hint::black_box(besides);
}

/// Writes to the port when the lock cannot be relied on.
///
/// # Safety
/// No other CPU runs any more.
pub(crate) unsafe fn write_in_panic(text: fmt::Arguments<'_>) {
    // SAFETY: by the caller's promise.
    let _ = unsafe { &mut *SERIAL.steal() }.write_fmt(text);
}

/// Writes text to the first serial port.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => { $crate::console::write(format_args!($($argument)*)) };
}

/// Writes a line to the first serial port.
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => { $crate::console::write(format_args!("{}\n", format_args!($($argument)*))) };
}
