//! Programs: files that came with the kernel as boot modules.

use super::image::{Image, ImageError};
use crate::boot;
use core::fmt;

/// A program that can be run.
///
/// ```no_run
/// use kernel::user::{Process, Program};
///
/// # fn example() -> Result<(), Box<dyn core::error::Error>> {
/// let process = Process::load(&Program::named("hello")?)?;
/// let threads = [process.builder().spawn()?, process.builder().stack_pages(16).arguments([1, 2]).spawn()?];
/// for thread in threads {
///     kernel::println!("exit code {:?}, or how it died", thread.join());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Program {
    name: &'static str,
    image: Image<'static>,
}

/// Why there is no such program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramError {
    /// No boot module came with the kernel at all.
    NoModules,
    /// No boot module has this name.
    NotFound,
    /// The boot module of this name cannot be run.
    Image(ImageError),
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoModules => f.write_str("the image has no modules: no user programs came with the kernel"),
            Self::NotFound => f.write_str("no module has this name"),
            Self::Image(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ProgramError {}

impl Program {
    /// The program of this name: the last part of its module's path.
    ///
    /// # Errors
    /// [`ProgramError`] says why there is none.
    pub fn named(name: &str) -> Result<Self, ProgramError> {
        let Some((name, file)) = boot::modules().map(|(path, file)| (last(path), file)).find(|(of, _)| *of == name)
        else {
            let any = boot::modules().next().is_some();
            return Err(if any { ProgramError::NotFound } else { ProgramError::NoModules });
        };
        Image::parse(file).map(|image| Self { name, image }).map_err(ProgramError::Image)
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    pub(super) const fn image(&self) -> &Image<'static> {
        &self.image
    }
}

/// Names of the modules that came with the kernel.
pub fn programs() -> impl Iterator<Item = &'static str> {
    boot::modules().map(|(path, _)| last(path))
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
