//! Exit codes: what the guest writes to QEMU's `isa-debug-exit` device, and what the host makes of QEMU's status.
//!
//! The device (`-device isa-debug-exit,iobase=0xf4,iosize=4`) ends QEMU with status `(value << 1) | 1`. QEMU itself
//! uses 0 (also for a triple fault under `-no-reboot`, so **0 is never a pass**) and 1 (it could not start). Any other
//! status, or death by a signal, is a crash.

/// I/O port of the `isa-debug-exit` device.
pub const PORT: u16 = 0xf4;

/// Value the guest writes when every promise held.
pub const PASS: u32 = 0x10;
/// Value the guest writes when a promise broke (a failed check, a panic).
pub const FAIL: u32 = 0x11;
/// Value the guest writes when it could not run what it was asked to (a bad command line, too little memory).
pub const UNUSABLE: u32 = 0x12;

/// How a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The guest said that every promise held.
    Pass,
    /// The guest said that a promise broke.
    Fail,
    /// The guest said that it could not run what it was asked to.
    Unusable,
    /// QEMU ended without a verdict; the status it ended with (`None`: by a signal).
    Crash(Option<i32>),
}

/// QEMU's exit status for a `value` written to the device.
#[must_use]
pub const fn status_of(value: u32) -> i32 {
    ((value << 1) | 1) as i32
}

/// What QEMU's exit status says of the guest; `None` stands for death by a signal.
#[must_use]
pub const fn ending(status: Option<i32>) -> Ending {
    match status {
        Some(s) if s == status_of(PASS) => Ending::Pass,
        Some(s) if s == status_of(FAIL) => Ending::Fail,
        Some(s) if s == status_of(UNUSABLE) => Ending::Unusable,
        other => Ending::Crash(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_and_one_are_never_a_pass() {
        assert_eq!(ending(Some(0)), Ending::Crash(Some(0)));
        assert_eq!(ending(Some(1)), Ending::Crash(Some(1)));
        assert_eq!(ending(None), Ending::Crash(None));
    }

    #[test]
    fn each_value_comes_back_as_itself() {
        assert_eq!(ending(Some(33)), Ending::Pass);
        assert_eq!(ending(Some(35)), Ending::Fail);
        assert_eq!(ending(Some(37)), Ending::Unusable);
    }
}
