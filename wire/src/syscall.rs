//! System calls: the numbers that user programs and the kernel agree on. `docs/SYSCALLS.md` says what each does.
//!
//! The number goes into `rax`, arguments into `rdi`, `rsi` and `rdx`; the answer comes in `rax`. Answers below zero are errors.

/// Ends the thread with an exit code.
pub const EXIT: u64 = 0;
/// Gives way to other threads.
pub const YIELD: u64 = 1;
/// Waits for a time, in nanoseconds.
pub const SLEEP: u64 = 2;
/// Prints text.
pub const PRINT: u64 = 3;
/// Maps fresh memory.
pub const MAP: u64 = 4;
/// Unmaps what [`MAP`] mapped.
pub const UNMAP: u64 = 5;
/// The number of the thread that calls.
pub const THREAD: u64 = 6;
/// Calls what the boot image has set for it.
pub const IMAGE: u64 = 7;

/// One more than the highest number.
pub const COUNT: u64 = 8;

/// Flag of [`MAP`]: the memory can be written too.
pub const WRITABLE: u64 = 1;

/// Most bytes of one [`PRINT`].
pub const MOST_PRINTED: u64 = 256;
/// Longest [`SLEEP`], in nanoseconds.
pub const LONGEST_SLEEP: u64 = 10_000_000_000;
/// Most pages of one [`MAP`] or [`UNMAP`].
pub const MOST_PAGES: u64 = 256;

/// Why a system call did nothing. The answer is the negative of the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum Error {
    /// No system call has this number.
    NoSuchCall = 1,
    /// An address is not the program's, or not the start of a page where it has to be.
    BadAddress = 2,
    /// A length, a time or a flag is out of its range.
    BadArgument = 3,
    /// There is no memory.
    OutOfMemory = 4,
    /// The process has as much as it may have.
    OverLimit = 5,
    /// Something is mapped there.
    InUse = 6,
    /// Nothing is mapped there.
    NotMapped = 7,
}

impl Error {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::NoSuchCall,
        Self::BadAddress,
        Self::BadArgument,
        Self::OutOfMemory,
        Self::OverLimit,
        Self::InUse,
        Self::NotMapped,
    ];

    /// The answer that means it.
    #[must_use]
    pub const fn answer(self) -> i64 {
        -(self as i64)
    }
}

/// What an answer means.
///
/// # Errors
/// The error, if it is one; an answer below zero that is none of them counts as [`Error::NoSuchCall`].
pub fn result(answer: i64) -> Result<u64, Error> {
    match u64::try_from(answer) {
        Ok(value) => Ok(value),
        Err(_) => Err(Error::ALL.into_iter().find(|error| error.answer() == answer).unwrap_or(Error::NoSuchCall)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_back_as_what_they_were() {
        for error in Error::ALL {
            assert_eq!(result(error.answer()), Err(error));
        }
        assert_eq!(result(0), Ok(0));
        assert_eq!(result(i64::MAX), Ok(i64::MAX as u64));
        assert_eq!(result(i64::MIN), Err(Error::NoSuchCall));
    }
}
