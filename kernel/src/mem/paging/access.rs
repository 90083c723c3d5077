//! What a mapping allows, and how a page-table entry says it.

use x86_64::structures::paging::PageTableFlags as Flags;

/// What a mapping allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    ReadWrite,
    /// Reading and executing.
    ReadExecute,
    /// Reading, by user code too. The kernel itself reads it only where it says so (SMAP).
    UserRead,
    /// Reading and writing, by user code too.
    UserReadWrite,
    /// Reading and executing, by user code alone: the kernel executes nothing of it (SMEP).
    UserReadExecute,
}

impl Access {
    pub(super) const fn flags(self) -> Flags {
        match self {
            Self::Read => Flags::PRESENT.union(Flags::NO_EXECUTE),
            Self::ReadWrite => Flags::PRESENT.union(Flags::WRITABLE).union(Flags::NO_EXECUTE),
            Self::ReadExecute => Flags::PRESENT,
            Self::UserRead => Self::Read.flags().union(Flags::USER_ACCESSIBLE),
            Self::UserReadWrite => Self::ReadWrite.flags().union(Flags::USER_ACCESSIBLE),
            Self::UserReadExecute => Self::ReadExecute.flags().union(Flags::USER_ACCESSIBLE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_writable_and_executable() {
        let kernels = [Access::Read, Access::ReadWrite, Access::ReadExecute];
        for access in kernels.into_iter().chain([Access::UserRead, Access::UserReadWrite, Access::UserReadExecute]) {
            let flags = access.flags();
            assert_eq!(flags.contains(Flags::USER_ACCESSIBLE), !kernels.contains(&access), "{access:?}");
            assert!(flags.contains(Flags::NO_EXECUTE) || !flags.contains(Flags::WRITABLE), "{access:?}");
            assert!(!flags.contains(Flags::GLOBAL));
        }
    }
}
