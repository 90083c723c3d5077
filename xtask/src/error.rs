//! Errors: one clear line each, and the exit code that goes with it.

use std::fmt;

/// What a command ends with when it does not succeed.
#[derive(Debug)]
pub enum Error {
    /// It could not run: bad options, a missing program, an unusable file. Exit code 2.
    CannotRun(String),
    /// A promise broke. Exit code 1; everything was said already.
    Broken,
    /// The user ended it. Exit code 130, as shells say of a program that SIGINT ended.
    Interrupted,
}

/// The result of a command.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The process's exit code.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Self::CannotRun(_) => 2,
            Self::Broken => 1,
            Self::Interrupted => 130,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CannotRun(why) => f.write_str(why),
            Self::Broken => f.write_str("a promise broke"),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for Error {}

/// Makes any failure a [`Error::CannotRun`] that says what was attempted.
pub trait Context<T> {
    /// Adds `what` was attempted.
    ///
    /// # Errors
    /// The failure, as [`Error::CannotRun`].
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error::CannotRun(format!("{what}: {error}")))
    }
}
