//! Priorities of threads.

/// How urgent a thread is. A CPU always runs the most urgent of the threads that are ready on it, and those that are equally
/// urgent in turn; one that is less urgent waits, however long.
///
/// One that becomes ready interrupts a CPU that runs a less urgent one. If it does so in the moment in which that CPU changes threads,
/// that may be at the next tick or the one after it.
///
/// ```no_run
/// use kernel::thread::{Builder, Priority, SpawnError};
///
/// # fn example() -> Result<(), SpawnError> {
/// let urgent = Priority::new(5).unwrap_or(Priority::HIGHEST);
/// Builder::new().priority(urgent).spawn_detached(|| kernel::println!("before all that are less urgent"))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// How many there are.
    pub const LEVELS: u8 = 8;
    /// The least urgent.
    pub const LOWEST: Self = Self(0);
    /// What a thread gets that asks for none.
    pub const NORMAL: Self = Self(3);
    /// The most urgent.
    pub const HIGHEST: Self = Self(Self::LEVELS - 1);

    /// The priority of this level, 0 (the lowest) to 7; `None` if there is none such.
    #[must_use]
    pub const fn new(level: u8) -> Option<Self> {
        if level < Self::LEVELS { Some(Self(level)) } else { None }
    }

    /// Its level.
    #[must_use]
    pub const fn level(self) -> u8 {
        self.0
    }

    /// Of a level that was kept.
    pub(super) const fn of_level(level: u8) -> Self {
        Self(level % Self::LEVELS)
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::NORMAL
    }
}
