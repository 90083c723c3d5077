//! The kernel file: an ELF64 executable for x86-64 that is linked to run in the highest 2 GiB.
//!
//! [`Elf::parse`] accepts a file only if loading it cannot go wrong: every loadable segment lies in the file and in the
//! higher half, none overlaps another, no page would need two sets of access rights. Follows the System V ABI
//! (`gabi`, chapters 4 and 5) and its AMD64 supplement.

use crate::field::{u16_at, u32_at, u64_at};
use crate::{KERNEL_FLOOR, PAGE_SIZE};
use core::fmt;
use core::ops::Range;

/// Most loadable segments. Linkers make about four.
const MAX_SEGMENTS: usize = 16;
/// Sizes of a file header and of a program header.
const HEADER_SIZE: usize = 64;
const PROGRAM_HEADER_SIZE: usize = 56;
/// Largest alignment that is honoured: a large page. The image's start in memory gets it.
const MAX_ALIGN: u64 = 2 << 20;

/// A loadable segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Offset in the file of the bytes to load.
    pub offset: u64,
    /// How many there are.
    pub file_size: u64,
    /// Virtual address they are loaded to.
    pub address: u64,
    /// Bytes of memory; those behind the file's are zero.
    pub memory_size: u64,
    /// Whether the kernel may write to it.
    pub writable: bool,
    /// Whether the kernel may execute it.
    pub executable: bool,
}

impl Segment {
    /// The pages that the segment is on: virtual addresses. The last page of the address space is never among them, for
    /// its end is no number of 64 bits: [`Elf::parse`] refuses such a segment.
    #[must_use]
    pub fn pages(&self) -> Range<u64> {
        page_floor(self.address)..(self.address + self.memory_size).next_multiple_of(PAGE_SIZE)
    }
}

/// A kernel file that can be loaded.
#[derive(Clone, Debug)]
pub struct Elf {
    /// Virtual address to enter at, by the file.
    pub entry: u64,
    /// Alignment of the image in physical memory.
    pub align: u64,
    segments: [Segment; MAX_SEGMENTS],
    used: usize,
}

/// Why a file is no kernel that can be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Shorter than a file header: this many bytes.
    TooShort(usize),
    /// Does not start as ELF files do, but with these bytes.
    NotElf([u8; 4]),
    /// Not of class 2, 64 bits.
    Class(u8),
    /// Not of data encoding 1, little-endian.
    Encoding(u8),
    /// Not for machine 62, x86-64.
    Machine(u16),
    /// Position-independent: type 3.
    Relocatable,
    /// Not of type 2, executable.
    Type(u16),
    /// The program headers are not within the file, or not of the ABI's size.
    ProgramHeaders,
    /// The section headers, which linkers put last, are not within the file.
    SectionHeaders,
    /// More loadable segments than the loader holds.
    TooManySegments,
    /// No loadable segment.
    NoSegments,
    /// This program header's bytes are not within the file.
    PastFile(usize),
    /// This program header has more bytes in the file than in memory.
    FileLarger(usize),
    /// This program header's address is below the highest 2 GiB, or it does not end before the last page.
    Address(usize, u64),
    /// Two segments overlap, at this address.
    Overlap(u64),
    /// Two segments with different access rights share the page at this address.
    SharedPage(u64),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort(length) => write!(f, "only {length} bytes long, less than an ELF header"),
            Self::NotElf([a, b, c, d]) => {
                write!(f, "not an ELF file (the first bytes are {a:02x} {b:02x} {c:02x} {d:02x})")
            }
            Self::Class(class) => write!(f, "not a 64-bit ELF file (its class is {class}, not 2)"),
            Self::Encoding(encoding) => write!(f, "not a little-endian ELF file (its encoding is {encoding}, not 1)"),
            Self::Machine(machine) => write!(f, "not for x86-64 (its machine is {machine}, not 62)"),
            Self::Relocatable => f.write_str(
                "position-independent (ET_DYN), which this loader does not relocate; link it with relocation-model=static",
            ),
            Self::Type(number) => write!(f, "not an executable (its type is {number}, not 2)"),
            Self::ProgramHeaders => f.write_str("truncated or malformed: the program headers are not within the file"),
            Self::SectionHeaders => f.write_str("truncated: the section headers are not within the file"),
            Self::TooManySegments => write!(f, "more than {MAX_SEGMENTS} loadable segments"),
            Self::NoSegments => f.write_str("no loadable segment (PT_LOAD)"),
            Self::PastFile(index) => write!(f, "truncated: program header {index} reaches past the end of the file"),
            Self::FileLarger(index) => write!(f, "program header {index} has more bytes in the file than in memory"),
            Self::Address(index, address) => {
                write!(f, "program header {index} is at {address:#x}; a kernel must lie within the highest 2 GiB")
            }
            Self::Overlap(address) => write!(f, "two segments overlap at {address:#x}"),
            Self::SharedPage(address) => {
                write!(f, "two segments with different access rights share the page at {address:#x}")
            }
        }
    }
}

impl Elf {
    /// Checks a file and finds its loadable segments.
    ///
    /// # Errors
    /// The first reason not to load it.
    pub fn parse(file: &[u8]) -> Result<Self, Error> {
        let entry = check_header(file)?;
        let headers = program_headers(file)?;
        let unused =
            Segment { offset: 0, file_size: 0, address: 0, memory_size: 0, writable: false, executable: false };
        let mut elf = Self { entry, align: PAGE_SIZE, segments: [unused; MAX_SEGMENTS], used: 0 };
        for (index, header) in headers.chunks_exact(PROGRAM_HEADER_SIZE).enumerate() {
            let Some((segment, align)) = loadable(index, header, file.len() as u64)? else { continue };
            *elf.segments.get_mut(elf.used).ok_or(Error::TooManySegments)? = segment;
            elf.used += 1;
            if align.is_power_of_two() {
                elf.align = elf.align.max(align.min(MAX_ALIGN));
            }
        }
        check_section_headers(file)?;
        elf.segments[..elf.used].sort_unstable_by_key(|segment| segment.address);
        elf.check_neighbours()?;
        Ok(elf)
    }

    /// The loadable segments, by rising address; at least one.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments[..self.used]
    }

    /// The pages that the image spans: virtual addresses.
    #[must_use]
    pub fn span(&self) -> Range<u64> {
        let pages = |index: usize| self.segments[index].pages();
        pages(0).start..pages(self.used - 1).end
    }

    /// Whether the kernel may execute what is at an address.
    #[must_use]
    pub fn executes(&self, address: u64) -> bool {
        self.segments().iter().any(|s| s.executable && (s.address..s.address + s.memory_size).contains(&address))
    }

    /// The parts of the image, as offsets in it, that are loaded from the file.
    pub fn loaded(&self) -> impl Iterator<Item = Range<usize>> {
        let base = self.span().start;
        self.segments().iter().map(move |segment| {
            let start = (segment.address - base) as usize;
            start..start + segment.file_size as usize
        })
    }

    /// Fills the image, which has the size of [`span`](Self::span), from the file that was parsed.
    ///
    /// # Panics
    /// The image or the file is another one.
    pub fn load(&self, file: &[u8], image: &mut [u8]) {
        let mut filled = 0;
        for (segment, part) in self.segments().iter().zip(self.loaded()) {
            image[filled..part.start].fill(0);
            filled = part.end;
            let start = segment.offset as usize;
            image[part.clone()].copy_from_slice(&file[start..start + part.len()]);
        }
        image[filled..].fill(0);
    }

    fn check_neighbours(&self) -> Result<(), Error> {
        if self.used == 0 {
            return Err(Error::NoSegments);
        }
        for pair in self.segments().windows(2) {
            let [low, high] = pair else { unreachable!() };
            if low.address + low.memory_size > high.address {
                return Err(Error::Overlap(high.address));
            }
            let rights = |segment: &Segment| (segment.writable, segment.executable);
            if low.pages().end > high.pages().start && rights(low) != rights(high) {
                return Err(Error::SharedPage(high.pages().start));
            }
        }
        Ok(())
    }
}

/// Checks all of the file header but its pointers, and returns the entry point.
fn check_header(file: &[u8]) -> Result<u64, Error> {
    if let Some(start) = file.first_chunk::<4>().filter(|start| *start != b"\x7fELF") {
        return Err(Error::NotElf(*start));
    }
    let header = file.first_chunk::<HEADER_SIZE>().ok_or(Error::TooShort(file.len()))?;
    match (header[4], header[5], u16_at(header, 18), u16_at(header, 16)) {
        (class, ..) if class != 2 => Err(Error::Class(class)),
        (_, encoding, ..) if encoding != 1 => Err(Error::Encoding(encoding)),
        (_, _, Some(machine), _) if machine != 62 => Err(Error::Machine(machine)),
        (_, _, _, Some(3)) => Err(Error::Relocatable),
        (_, _, _, Some(number)) if number != 2 => Err(Error::Type(number)),
        _ => u64_at(header, 24).ok_or(Error::TooShort(file.len())),
    }
}

/// The bytes of all program headers.
fn program_headers(file: &[u8]) -> Result<&[u8], Error> {
    let field = |at| u16_at(file, at).map(usize::from);
    let find = || {
        let start = usize::try_from(u64_at(file, 32)?).ok()?;
        let size = field(56)?.checked_mul(PROGRAM_HEADER_SIZE)?;
        file.get(start..start.checked_add(size)?)
    };
    match (field(56), field(54)) {
        (Some(0), _) => Err(Error::NoSegments),
        (_, Some(PROGRAM_HEADER_SIZE)) => find().ok_or(Error::ProgramHeaders),
        _ => Err(Error::ProgramHeaders),
    }
}

/// Nothing is read from the section headers; but a file that has lost them has lost its end.
fn check_section_headers(file: &[u8]) -> Result<(), Error> {
    let end = || {
        let size = u64::from(u16_at(file, 58)?) * u64::from(u16_at(file, 60)?);
        if size == 0 { Some(0) } else { u64_at(file, 40)?.checked_add(size) }
    };
    end().filter(|end| *end <= file.len() as u64).map(|_| ()).ok_or(Error::SectionHeaders)
}

/// The segment of a program header and its alignment, if it has something to load.
fn loadable(index: usize, header: &[u8], file_length: u64) -> Result<Option<(Segment, u64)>, Error> {
    let word = |at| u64_at(header, at).ok_or(Error::ProgramHeaders);
    let number = |at| u32_at(header, at).ok_or(Error::ProgramHeaders);
    let (kind, flags) = (number(0)?, number(4)?);
    let segment = Segment {
        offset: word(8)?,
        file_size: word(32)?,
        address: word(16)?,
        memory_size: word(40)?,
        writable: flags & 2 != 0,
        executable: flags & 1 != 0,
    };
    if kind != 1 || segment.memory_size == 0 {
        return Ok(None);
    }
    if segment.offset.checked_add(segment.file_size).is_none_or(|end| end > file_length) {
        return Err(Error::PastFile(index));
    }
    if segment.file_size > segment.memory_size {
        return Err(Error::FileLarger(index));
    }
    let end = segment.address.checked_add(segment.memory_size);
    if segment.address < KERNEL_FLOOR || end.is_none_or(|end| end > page_floor(u64::MAX)) {
        return Err(Error::Address(index, segment.address));
    }
    Ok(Some((segment, word(48)?)))
}

const fn page_floor(address: u64) -> u64 {
    address & !(PAGE_SIZE - 1)
}

#[cfg(test)]
pub(crate) mod tests;
