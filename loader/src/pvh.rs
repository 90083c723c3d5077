//! What the virtual machine says at the PVH entry: where memory is, where the kernel file is, what the command line is.
//!
//! The structures are Xen's (`struct hvm_start_info` and its kin in `xen/include/public/arch-x86/hvm/start_info.h`).

use crate::Physical;
use crate::field::{u32_at, u64_at};
use crate::memory_map::Kind;
use core::fmt;
use core::ops::Range;

/// The first word of the start information.
const MAGIC: u32 = 0x336e_c578;
/// Sizes of the structures: start information of version 1, module, memory map entry.
const START_INFO_SIZE: u64 = 56;
const MODULE_SIZE: u64 = 32;
const ENTRY_SIZE: u64 = 24;
/// More map entries than this are taken for nonsense.
const MOST_ENTRIES: u32 = 1024;

/// Most files that the virtual machine can hand over, the kernel among them. QEMU hands over one.
pub const MOST_MODULES: usize = 16;

/// Longest command line, of the kernel or of a module, with the 0 at its end.
pub const LONGEST_TEXT: u64 = 16 << 10;

/// The start information.
#[derive(Clone, Copy, Debug)]
pub struct StartInfo {
    modules: u64,
    module_count: u32,
    command_line: u64,
    rsdp: u64,
    map: u64,
    map_count: u32,
}

/// A file that the virtual machine put into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module {
    /// Physical address of its first byte.
    pub address: u64,
    /// Its length in bytes.
    pub size: u64,
    /// Physical address of its command line; 0 if it has none.
    pub text: u64,
}

impl Module {
    /// Physical addresses of its bytes.
    #[must_use]
    pub const fn range(&self) -> Range<u64> {
        self.address..self.address.saturating_add(self.size)
    }
}

/// A command line, and where the virtual machine put it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<'m> {
    /// Physical address; 0 if there is none.
    pub address: u64,
    /// The text, without the 0 at its end.
    pub bytes: &'m [u8],
}

impl Text<'_> {
    /// Physical addresses of the text and the 0 at its end; empty if there is none.
    #[must_use]
    pub const fn range(&self) -> Range<u64> {
        self.address..if self.address == 0 { 0 } else { self.address + self.bytes.len() as u64 + 1 }
    }
}

/// Why the start information is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It, or a list that it points to, cannot be read at this address.
    Unreadable(u64),
    /// It starts with this word instead of the magic one.
    Magic(u32),
    /// It has no memory map: version 0, or an empty one.
    NoMap,
    /// More modules than [`MOST_MODULES`].
    TooManyModules(u32),
    /// More map entries than can be true.
    TooManyEntries(u32),
    /// The command line at this address is longer than [`LONGEST_TEXT`], or cannot be read.
    CommandLine(u64),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(address) => write!(f, "the start information at {address:#x} cannot be read"),
            Self::Magic(word) => write!(
                f,
                "the start information begins with {word:#x}, not {MAGIC:#x} (QEMU lets a command line of 4 KiB overwrite it)"
            ),
            Self::NoMap => f.write_str("the virtual machine gives no memory map"),
            Self::TooManyModules(count) => write!(f, "{count} files are given, more than {MOST_MODULES}"),
            Self::TooManyEntries(count) => {
                write!(f, "the virtual machine's memory map has {count} entries, more than {MOST_ENTRIES}")
            }
            Self::CommandLine(address) => {
                write!(f, "the command line at {address:#x} has no end within {LONGEST_TEXT} bytes")
            }
        }
    }
}

impl StartInfo {
    /// Reads the start information at a physical address.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(memory: &impl Physical, address: u64) -> Result<Self, Error> {
        let head = memory.bytes(address, 8).ok_or(Error::Unreadable(address))?;
        match (u32_at(head, 0), u32_at(head, 4)) {
            (Some(MAGIC), Some(1..)) => {}
            (Some(MAGIC), _) => return Err(Error::NoMap),
            (word, _) => return Err(Error::Magic(word.unwrap_or(0))),
        }
        let info = memory.bytes(address, START_INFO_SIZE).ok_or(Error::Unreadable(address))?;
        let number = |at| u32_at(info, at).ok_or(Error::Unreadable(address));
        let word = |at| u64_at(info, at).ok_or(Error::Unreadable(address));
        let start = Self {
            module_count: number(12)?,
            modules: word(16)?,
            command_line: word(24)?,
            rsdp: word(32)?,
            map: word(40)?,
            map_count: number(48)?,
        };
        match (start.module_count, start.map_count) {
            (_, 0) => Err(Error::NoMap),
            (count, _) if count as usize > MOST_MODULES => Err(Error::TooManyModules(count)),
            (_, count) if count > MOST_ENTRIES => Err(Error::TooManyEntries(count)),
            _ => start.check_lists(memory).map(|()| start),
        }
    }

    fn check_lists(&self, memory: &impl Physical) -> Result<(), Error> {
        let lists = [(self.modules, self.module_count, MODULE_SIZE), (self.map, self.map_count, ENTRY_SIZE)];
        for (address, count, size) in lists.into_iter().filter(|(_, count, _)| *count > 0) {
            memory.bytes(address, u64::from(count) * size).ok_or(Error::Unreadable(address))?;
        }
        Ok(())
    }

    /// The firmware's memory map: `(address, length, kind)`.
    pub fn map<'m, M: Physical>(&self, memory: &'m M) -> impl Iterator<Item = (u64, u64, Kind)> + use<'m, M> {
        items(memory, self.map, self.map_count, ENTRY_SIZE)
            .filter_map(|entry| Some((u64_at(entry, 0)?, u64_at(entry, 8)?, Kind::of_firmware(u32_at(entry, 16)?))))
    }

    /// The modules; the first is the kernel file.
    pub fn modules<'m, M: Physical>(&self, memory: &'m M) -> impl Iterator<Item = Module> + use<'m, M> {
        items(memory, self.modules, self.module_count, MODULE_SIZE).filter_map(|item| {
            Some(Module { address: u64_at(item, 0)?, size: u64_at(item, 8)?, text: u64_at(item, 16)? })
        })
    }

    /// Physical addresses of the list of modules.
    #[must_use]
    pub fn module_list(&self) -> Range<u64> {
        self.modules..self.modules.saturating_add(u64::from(self.module_count) * MODULE_SIZE)
    }

    /// The kernel's command line. Empty if there is none.
    ///
    /// # Errors
    /// [`Error::CommandLine`].
    pub fn command_line<'m>(&self, memory: &'m impl Physical) -> Result<Text<'m>, Error> {
        text(memory, self.command_line)
    }

    /// Physical address of ACPI's root pointer, if the machine has one.
    #[must_use]
    pub fn rsdp(&self) -> Option<u64> {
        (self.rsdp != 0).then_some(self.rsdp)
    }
}

impl Module {
    /// The module's command line. Empty if there is none.
    ///
    /// # Errors
    /// [`Error::CommandLine`].
    pub fn text<'m>(&self, memory: &'m impl Physical) -> Result<Text<'m>, Error> {
        text(memory, self.text)
    }
}

fn text(memory: &impl Physical, address: u64) -> Result<Text<'_>, Error> {
    match address {
        0 => Ok(Text { address, bytes: &[] }),
        _ => Ok(Text { address, bytes: memory.text(address, LONGEST_TEXT).ok_or(Error::CommandLine(address))? }),
    }
}

fn items<M: Physical>(memory: &M, address: u64, count: u32, size: u64) -> impl Iterator<Item = &[u8]> + use<'_, M> {
    (0..u64::from(count)).filter_map(move |index| memory.bytes(address.checked_add(index * size)?, size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::put_u64;
    use crate::physical::tests::Fake;

    /// Start information at 0x1000 with two map entries and one module.
    fn sample() -> Fake {
        let mut bytes = vec![0; 0x200];
        put_u64(&mut bytes, 0, 1 << 32 | u64::from(MAGIC));
        put_u64(&mut bytes, 8, 1 << 32);
        for (at, value) in [(16, 0x1080), (24, 0x1100), (32, 0xf5000), (40, 0x10c0), (48, 2)] {
            put_u64(&mut bytes, at, value);
        }
        for (at, value) in [(0x80, 0x20_0000), (0x88, 0x1234), (0x90, 0x1110)] {
            put_u64(&mut bytes, at, value);
        }
        for (at, value) in [(0xc0, 0), (0xc8, 0x9fc00), (0xd0, 1), (0xd8, 0xf0000), (0xe0, 0x10000), (0xe8, 99)] {
            put_u64(&mut bytes, at, value);
        }
        bytes[0x100..0x109].copy_from_slice(b"run=test\0");
        bytes[0x110..0x112].copy_from_slice(b"m\0");
        Fake(0x1000, bytes)
    }

    #[test]
    fn everything_is_read_from_where_it_is() {
        let memory = sample();
        let start = StartInfo::read(&memory, 0x1000).unwrap();
        let text = start.command_line(&memory).unwrap();
        assert_eq!((text.bytes, text.range()), (&b"run=test"[..], 0x1100..0x1109));
        assert_eq!(start.rsdp(), Some(0xf5000));
        assert!(start.map(&memory).eq([(0, 0x9fc00, Kind::Usable), (0xf0000, 0x10000, Kind::Reserved)]));
        let modules: Vec<_> = start.modules(&memory).collect();
        assert_eq!(modules, [Module { address: 0x20_0000, size: 0x1234, text: 0x1110 }]);
        assert_eq!(modules[0].text(&memory).unwrap().bytes, b"m");
        assert_eq!((modules[0].range(), start.module_list()), (0x20_0000..0x20_1234, 0x1080..0x10a0));
    }

    #[test]
    fn useless_start_information_is_named() {
        let broken = |at: usize, value: u64| {
            let mut memory = sample();
            put_u64(&mut memory.1, at, value);
            StartInfo::read(&memory, 0x1000).map(|start| start.command_line(&memory).map(|_| ())).err()
        };
        assert_eq!(broken(0, 7), Some(Error::Magic(7)));
        assert_eq!(broken(0, u64::from(MAGIC)), Some(Error::NoMap), "version 0");
        assert_eq!(broken(48, 0), Some(Error::NoMap));
        assert_eq!(broken(48, 5000), Some(Error::TooManyEntries(5000)));
        assert_eq!(broken(8, 17 << 32), Some(Error::TooManyModules(17)));
        assert_eq!(broken(16, 0x5000), Some(Error::Unreadable(0x5000)), "modules");
        assert_eq!(broken(40, 0x5000), Some(Error::Unreadable(0x5000)), "map");
        assert_eq!(StartInfo::read(&sample(), 0x5000).unwrap_err(), Error::Unreadable(0x5000));
        let mut memory = sample();
        memory.1[0x100..].fill(b'x');
        let start = StartInfo::read(&memory, 0x1000).unwrap();
        assert_eq!(start.command_line(&memory), Err(Error::CommandLine(0x1100)));
    }

    #[test]
    fn no_command_line_is_an_empty_one() {
        let mut memory = sample();
        put_u64(&mut memory.1, 24, 0);
        let start = StartInfo::read(&memory, 0x1000).unwrap();
        let text = start.command_line(&memory).unwrap();
        assert_eq!((text.bytes, text.range()), (&b""[..], 0..0));
    }
}
