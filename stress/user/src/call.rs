//! System calls, one function each.

use wire::syscall::{self, Error};

/// Any system call: the number, three arguments, and the answer.
///
/// # Safety
/// `UNMAP` may take away memory that the program uses.
#[cfg(target_os = "none")]
pub unsafe fn raw(number: u64, arguments: [u64; 3]) -> i64 {
    let answer;
    // SAFETY: the kernel keeps all registers but these, and touches no memory that it was not told to.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number.cast_signed() => answer,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    answer
}

/// On a host there is no such kernel.
///
/// # Safety
/// None is needed.
#[cfg(not(target_os = "none"))]
pub unsafe fn raw(_: u64, _: [u64; 3]) -> i64 {
    Error::NoSuchCall.answer()
}

fn checked(number: u64, arguments: [u64; 3]) -> Result<u64, Error> {
    // SAFETY: the callers below name no memory that is in use.
    syscall::result(unsafe { raw(number, arguments) })
}

/// Ends the thread.
pub fn exit(code: i32) -> ! {
    loop {
        let _ = checked(syscall::EXIT, [code as u64, 0, 0]);
    }
}

/// Gives way to other threads.
pub fn yield_now() {
    let _ = checked(syscall::YIELD, [0; 3]);
}

/// Waits for so many nanoseconds.
///
/// # Errors
/// [`Error::BadArgument`] if that is too long.
pub fn sleep(nanoseconds: u64) -> Result<(), Error> {
    checked(syscall::SLEEP, [nanoseconds, 0, 0]).map(|_| ())
}

/// Prints text; what is too long is cut off.
pub fn print(text: &str) {
    let length = (text.len() as u64).min(syscall::MOST_PRINTED);
    let _ = checked(syscall::PRINT, [text.as_ptr() as u64, length, 0]);
}

/// Maps fresh pages of zeros, at an address, or where there is room if that is 0.
///
/// # Errors
/// What the kernel says.
pub fn map(address: u64, pages: u64) -> Result<u64, Error> {
    checked(syscall::MAP, [address, pages, syscall::WRITABLE])
}

/// Unmaps pages that were mapped by [`map`].
///
/// # Safety
/// Nobody uses them.
///
/// # Errors
/// What the kernel says.
pub unsafe fn unmap(address: u64, pages: u64) -> Result<(), Error> {
    checked(syscall::UNMAP, [address, pages, 0]).map(|_| ())
}

/// The number of the thread that calls.
#[must_use]
pub fn thread() -> u64 {
    checked(syscall::THREAD, [0; 3]).unwrap_or(0)
}

/// Tells the boot image two words; its answer.
///
/// # Errors
/// What it says.
pub fn image(what: u64, word: u64) -> Result<u64, Error> {
    checked(syscall::IMAGE, [what, word, 0])
}
