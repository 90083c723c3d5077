//! Every way in which a boot can fail, as the one line that the user sees.

use crate::{archive, elf, memory_map, pvh, request};
use core::fmt;

/// Why there is no boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The virtual machine's start information.
    Start(pvh::Error),
    /// No kernel file is given.
    NoKernel,
    /// A file, at this address and of this length, is not in memory that can be read.
    Unreadable(u64, u64),
    /// The archive that the kernel file is in.
    Archive(archive::Error),
    /// The kernel file.
    Kernel(elf::Error),
    /// The kernel's entry point, this address, is not in a segment that it may execute.
    Entry(u64),
    /// What the kernel requests.
    Requests(request::Error),
    /// There is no memory for this.
    Memory(&'static str, memory_map::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => write!(f, "{error}"),
            Self::NoKernel => f.write_str("no kernel file is given: `-initrd kernel.elf` is missing"),
            Self::Unreadable(address, length) => {
                write!(f, "the file of {length} bytes at {address:#x} is not in memory below 4 GiB")
            }
            Self::Archive(error) => write!(f, "archive: {error}"),
            Self::Kernel(error) => write!(f, "kernel file: {error}"),
            Self::Entry(address) => write!(f, "kernel file: its entry point {address:#x} is in no executable segment"),
            Self::Requests(error) => write!(f, "kernel: {error}"),
            Self::Memory(what, error) => write!(f, "no memory for {what}: {error}"),
        }
    }
}

impl From<pvh::Error> for Error {
    fn from(error: pvh::Error) -> Self {
        Self::Start(error)
    }
}

impl From<archive::Error> for Error {
    fn from(error: archive::Error) -> Self {
        Self::Archive(error)
    }
}

impl From<elf::Error> for Error {
    fn from(error: elf::Error) -> Self {
        Self::Kernel(error)
    }
}

impl From<request::Error> for Error {
    fn from(error: request::Error) -> Self {
        Self::Requests(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_is_one_clear_line() {
        let lines = [
            (Error::NoKernel, "no kernel file is given: `-initrd kernel.elf` is missing"),
            (
                Error::Kernel(elf::Error::NotElf(*b"\x1f\x8b\x08\0")),
                "kernel file: not an ELF file (the first bytes are 1f 8b 08 00)",
            ),
            (
                Error::Kernel(elf::Error::Address(1, 0x10_0000)),
                "kernel file: program header 1 is at 0x100000; a kernel must lie within the highest 2 GiB",
            ),
            (Error::Archive(archive::Error::PastEnd(7)), "archive: truncated: the file 7 reaches past its end"),
            (
                Error::Memory("the kernel", memory_map::Error::OutOfMemory(3 << 20)),
                "no memory for the kernel: no 3072 KiB of consecutive free memory",
            ),
            (
                Error::Requests(request::Error::PagingMode(1, 1)),
                "kernel: it demands paging modes 1 to 1, and this loader sets up mode 0 only (four levels)",
            ),
        ];
        for (error, line) in lines {
            assert_eq!(error.to_string(), line);
        }
    }
}
