//! The real-time clock, read through its two ports.

use loader::rtc::{self, Registers};
use x86_64::instructions::port::Port;

/// The port that selects a register, and the one that reads it.
const SELECT: u16 = 0x70;
const DATA: u16 = 0x71;
/// Numbers of the registers; the century is where ACPI tables of PCs say it is.
const SECOND: u8 = 0;
const MINUTE: u8 = 2;
const HOUR: u8 = 4;
const DAY: u8 = 7;
const MONTH: u8 = 8;
const YEAR: u8 = 9;
const STATUS_A: u8 = 10;
const STATUS_B: u8 = 11;
const CENTURY: u8 = 50;
/// The bit of status A that says that the others change just now, which takes the clock 2 ms at most.
const UPDATING: u8 = 1 << 7;
/// More reads than fit into an update.
const PATIENCE: u32 = 100_000;
/// What a port reads that has no device.
const ABSENT: u8 = 0xff;

/// Seconds since the start of 1970; `None` if there is no clock, or none that works.
pub(super) fn unix_time() -> Option<i64> {
    if register(STATUS_B) == ABSENT {
        return None;
    }
    // Two equal readings: no update lies between them.
    let mut last = registers()?;
    for _ in 0..4 {
        let next = registers()?;
        if next == last {
            return rtc::unix_time(&next);
        }
        last = next;
    }
    None
}

fn registers() -> Option<Registers> {
    (0..PATIENCE).find(|_| {
        core::hint::spin_loop();
        register(STATUS_A) & UPDATING == 0
    })?;
    Some(Registers {
        second: register(SECOND),
        minute: register(MINUTE),
        hour: register(HOUR),
        day: register(DAY),
        month: register(MONTH),
        year: register(YEAR),
        century: register(CENTURY),
        format: register(STATUS_B),
    })
}

fn register(number: u8) -> u8 {
    // SAFETY: selecting and reading a register of the clock has no effect on memory.
    unsafe {
        Port::new(SELECT).write(number);
        Port::new(DATA).read()
    }
}
