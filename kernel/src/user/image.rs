//! A program's ELF file: a static executable, one segment for each set of access rights.
//!
//! The crate `elf` reads the tables; here is what must be so before anything is mapped. Whoever wrote the file is not trusted.
//! Follows the System V ABI (`gabi`, chapters 4 and 5) and its AMD64 supplement.

use super::memory::PROGRAM;
use crate::mem::{Access, PAGE_SIZE};
use core::fmt;
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::segment::ProgramHeader;
use elf::{ElfBytes, ParseError, abi};

/// Most segments with memory.
const MOST_SEGMENTS: usize = 8;
/// Most pages of all of them.
const MOST_PAGES: u64 = 1024;

/// What a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment<'f> {
    /// Address of its first page.
    pub(super) address: u64,
    pub(super) pages: u64,
    /// What its memory begins with; the rest is zeros.
    pub(super) bytes: &'f [u8],
    pub(super) access: Access,
}

/// A program that can be mapped.
#[derive(Debug)]
pub(super) struct Image<'f> {
    pub(super) entry: u64,
    segments: [Option<Segment<'f>>; MOST_SEGMENTS],
}

/// Why a file is no program that can be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// It does not begin as ELF files do.
    NotElf,
    /// It is not of 64 bits and little-endian.
    Class,
    /// It is for this machine, not for 62, x86-64.
    Machine(u16),
    /// It is of this type, not of type 2, a static executable.
    Type(u16),
    /// A header or a table of it is broken.
    Malformed,
    /// It wants a dynamic linker.
    Dynamic,
    /// It has no segment with memory.
    NoSegments,
    /// It has more segments than this kernel maps.
    TooManySegments,
    /// The segment at this address does not begin with a page.
    Unaligned(u64),
    /// The segment at this address is not where programs may be.
    OutOfRange(u64),
    /// The segment at this address is not behind the one before it.
    Overlap(u64),
    /// The segment at this address has more bytes in the file than in memory, or than the file has.
    FileSize(u64),
    /// All segments together have more pages than a program may have.
    TooLarge(u64),
    /// The segment at this address could be written and executed.
    WriteExecute(u64),
    /// The segment at this address could not be read.
    NotReadable(u64),
    /// It begins at this address, which is in no segment that can be executed.
    Entry(u64),
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf => f.write_str("not an ELF file"),
            Self::Class => f.write_str("not an ELF file of 64 bits, little-endian"),
            Self::Machine(machine) => write!(f, "not for x86-64 (its machine is {machine}, not 62)"),
            Self::Type(number) => write!(f, "not a static executable (its type is {number}, not 2)"),
            Self::Malformed => f.write_str("truncated or malformed"),
            Self::Dynamic => f.write_str("it wants a dynamic linker"),
            Self::NoSegments => f.write_str("no segment with memory"),
            Self::TooManySegments => write!(f, "more than {MOST_SEGMENTS} segments"),
            Self::Unaligned(address) => write!(f, "the segment at {address:#x} does not begin with a page"),
            Self::OutOfRange(address) => write!(f, "the segment at {address:#x} is not where programs may be"),
            Self::Overlap(address) => write!(f, "the segment at {address:#x} is not behind the one before it"),
            Self::FileSize(address) => {
                write!(f, "the segment at {address:#x} has more bytes in the file than there are")
            }
            Self::TooLarge(pages) => write!(f, "{pages} pages, more than {MOST_PAGES}"),
            Self::WriteExecute(address) => write!(f, "the segment at {address:#x} could be written and executed"),
            Self::NotReadable(address) => write!(f, "the segment at {address:#x} could not be read"),
            Self::Entry(address) => write!(f, "it begins at {address:#x}, in no segment that can be executed"),
        }
    }
}

impl core::error::Error for ImageError {}

impl From<ParseError> for ImageError {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::BadMagic(_) => Self::NotElf,
            ParseError::UnsupportedElfClass(_) | ParseError::UnsupportedElfEndianness(_) => Self::Class,
            _ => Self::Malformed,
        }
    }
}

impl<'f> Image<'f> {
    /// Checks a file.
    ///
    /// # Errors
    /// The first reason not to map it.
    pub(super) fn parse(file: &'f [u8]) -> Result<Self, ImageError> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file)?;
        let header = elf.ehdr;
        match (header.class, header.e_machine, header.e_type) {
            (Class::ELF32, ..) => return Err(ImageError::Class),
            (_, machine, _) if machine != abi::EM_X86_64 => return Err(ImageError::Machine(machine)),
            (.., kind) if kind != abi::ET_EXEC => return Err(ImageError::Type(kind)),
            _ => {}
        }
        let mut image = Self { entry: header.e_entry, segments: [None; MOST_SEGMENTS] };
        let (mut used, mut end, mut pages) = (0, PROGRAM.start, 0);
        for header in elf.segments().ok_or(ImageError::NoSegments)? {
            match header.p_type {
                abi::PT_INTERP | abi::PT_DYNAMIC => return Err(ImageError::Dynamic),
                abi::PT_LOAD if header.p_memsz > 0 => {}
                _ => continue,
            }
            let segment = segment(file, &header)?;
            if segment.address < end {
                return Err(ImageError::Overlap(segment.address));
            }
            end = segment.end();
            pages += segment.pages; // each less than the window has
            *image.segments.get_mut(used).ok_or(ImageError::TooManySegments)? = Some(segment);
            used += 1;
        }
        let executes = |segment: &Segment<'_>| segment.access == Access::UserReadExecute;
        match used {
            0 => Err(ImageError::NoSegments),
            _ if pages > MOST_PAGES => Err(ImageError::TooLarge(pages)),
            _ if image.segments().any(|at| executes(at) && (at.address..at.end()).contains(&image.entry)) => Ok(image),
            _ => Err(ImageError::Entry(image.entry)),
        }
    }

    /// Its segments, by rising address.
    pub(super) fn segments(&self) -> impl Iterator<Item = &Segment<'f>> {
        self.segments.iter().flatten()
    }
}

impl Segment<'_> {
    const fn end(&self) -> u64 {
        self.address + self.pages * PAGE_SIZE
    }
}

fn segment<'f>(file: &'f [u8], header: &ProgramHeader) -> Result<Segment<'f>, ImageError> {
    let address = header.p_vaddr;
    let end = address.checked_add(header.p_memsz).filter(|end| *end <= PROGRAM.end && address >= PROGRAM.start);
    let end = end.ok_or(ImageError::OutOfRange(address))?;
    if !address.is_multiple_of(PAGE_SIZE) {
        return Err(ImageError::Unaligned(address));
    }
    let range = usize::try_from(header.p_offset).ok().zip(usize::try_from(header.p_filesz).ok());
    let bytes = range.and_then(|(start, length)| file.get(start..start.checked_add(length)?));
    let bytes = bytes.filter(|bytes| bytes.len() as u64 <= header.p_memsz).ok_or(ImageError::FileSize(address))?;
    let has = |flag| header.p_flags & flag != 0;
    let access = match (has(abi::PF_R), has(abi::PF_W), has(abi::PF_X)) {
        (_, true, true) => return Err(ImageError::WriteExecute(address)),
        (false, ..) => return Err(ImageError::NotReadable(address)),
        (true, true, false) => Access::UserReadWrite,
        (true, false, true) => Access::UserReadExecute,
        (true, false, false) => Access::UserRead,
    };
    Ok(Segment { address, pages: (end - address).div_ceil(PAGE_SIZE), bytes, access })
}

#[cfg(test)]
mod tests;
