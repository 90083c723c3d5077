//! Several files in the one that QEMU hands over: a cpio archive of the format "newc", which Linux takes for its initial
//! file systems too. The first regular file is the kernel, the others are its modules. `cpio -o -H newc` makes one.
//!
//! A file's entry is a header of 13 numbers of eight hexadecimal digits behind six of magic, its name with a 0 at the end,
//! and its bytes, each padded to a multiple of 4. The last entry's name is `TRAILER!!!`. Source: `buffer-format.rst` in
//! Linux's documentation.

use crate::MOST_FILES;
use core::fmt;
use core::ops::Range;

/// How an archive begins, and each header in it.
const MAGIC: &[u8; 6] = b"070701";
/// Bytes of a header.
const HEADER: usize = 110;
/// Places of a header's numbers.
const MODE: usize = 1;
const FILE_SIZE: usize = 6;
const NAME_SIZE: usize = 11;
/// The part of a mode that tells what a file is, and its value for regular files.
const KIND: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const TRAILER: &[u8] = b"TRAILER!!!";
/// Longest name, with the 0 at its end.
const LONGEST_NAME: usize = 256;

/// A regular file in an archive: where its name and its bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Place of its name.
    pub name: Range<usize>,
    /// Place of its bytes.
    pub bytes: Range<usize>,
}

/// The files of an archive.
#[derive(Clone, Debug)]
pub struct Archive {
    entries: [Entry; MOST_FILES],
    used: usize,
}

/// Why an archive cannot be used. Places are offsets of headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no header where one has to be.
    NoHeader(usize),
    /// A number of the header is none.
    Number(usize),
    /// A name is empty, too long, or has no 0 at its end and nowhere else.
    Name(usize),
    /// A file reaches past the archive's end; it is this one, the first being 0.
    PastEnd(usize),
    /// More files than [`MOST_FILES`].
    TooManyFiles,
    /// No regular file, so no kernel.
    NoFile,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHeader(at) => write!(f, "truncated or malformed: no header at {at:#x}"),
            Self::Number(at) => write!(f, "malformed: a number of the header at {at:#x} is none"),
            Self::Name(at) => write!(f, "malformed: the name behind the header at {at:#x} is none"),
            Self::PastEnd(file) => write!(f, "truncated: the file {file} reaches past its end"),
            Self::TooManyFiles => write!(f, "more than {MOST_FILES} files"),
            Self::NoFile => f.write_str("no regular file is in it, so no kernel"),
        }
    }
}

impl Archive {
    /// Whether this is one, by its first bytes.
    #[must_use]
    pub fn is_one(file: &[u8]) -> bool {
        file.starts_with(MAGIC)
    }

    /// Finds the files.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(archive: &[u8]) -> Result<Self, Error> {
        let mut found = Self { entries: [const { Entry { name: 0..0, bytes: 0..0 } }; MOST_FILES], used: 0 };
        let mut at = 0;
        loop {
            let header = archive.get(at..).and_then(|rest| rest.get(..HEADER)).filter(|header| Self::is_one(header));
            let header = header.ok_or(Error::NoHeader(at))?;
            let number = |place| number(header, place).ok_or(Error::Number(at));
            let name = entry_name(archive, at, number(NAME_SIZE)? as usize).ok_or(Error::Name(at))?;
            if &archive[name.clone()] == TRAILER {
                break;
            }
            let start = (name.end + 1).next_multiple_of(4);
            let end = start + number(FILE_SIZE)? as usize;
            if end > archive.len() {
                return Err(Error::PastEnd(found.used));
            }
            if number(MODE)? & KIND == REGULAR {
                *found.entries.get_mut(found.used).ok_or(Error::TooManyFiles)? = Entry { name, bytes: start..end };
                found.used += 1;
            }
            at = end.next_multiple_of(4);
        }
        if found.used == 0 { Err(Error::NoFile) } else { Ok(found) }
    }

    /// The files, as they lie; at least one.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries[..self.used]
    }
}

/// The number at `place` of a header.
fn number(header: &[u8], place: usize) -> Option<u32> {
    let digits = header.get(MAGIC.len() + place * 8..)?.first_chunk::<8>()?;
    digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
}

/// The place of the name, without its 0, behind the header at `at`.
fn entry_name(archive: &[u8], at: usize, size: usize) -> Option<Range<usize>> {
    let start = at + HEADER;
    let length = size.checked_sub(1).filter(|length| (1..LONGEST_NAME).contains(length))?;
    let name = archive.get(start..start + size)?;
    (name.iter().position(|byte| *byte == 0) == Some(length)).then_some(start..start + length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(name: &str, mode: u32, bytes: &[u8]) -> Vec<u8> {
        let mut numbers = [0; 13];
        (numbers[MODE], numbers[FILE_SIZE], numbers[NAME_SIZE]) = (mode, bytes.len() as u32, name.len() as u32 + 1);
        let mut entry = MAGIC.to_vec();
        numbers.iter().for_each(|number| entry.extend(format!("{number:08X}").bytes()));
        for part in [[name.as_bytes(), &[0]].concat().as_slice(), bytes] {
            entry.extend(part);
            entry.resize(entry.len().next_multiple_of(4), 0);
        }
        entry
    }

    fn sample() -> Vec<u8> {
        let files =
            [("kernel", 0o100_755, b"the kernel".as_slice()), ("boot", 0o040_755, b""), ("boot/a", 0o100_644, b"abcd")];
        let entries = files.map(|(name, mode, bytes)| entry(name, mode, bytes)).concat();
        [entries, entry("TRAILER!!!", 0, b""), vec![0; 300]].concat()
    }

    fn files(archive: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let found = Archive::parse(archive)?;
        let text = |range: &Range<usize>| String::from_utf8_lossy(&archive[range.clone()]).into_owned();
        Ok(found.entries().iter().map(|entry| (text(&entry.name), archive[entry.bytes.clone()].to_vec())).collect())
    }

    #[test]
    fn regular_files_are_found_in_order() {
        let expected = [("kernel".to_owned(), b"the kernel".to_vec()), ("boot/a".to_owned(), b"abcd".to_vec())];
        assert_eq!(files(&sample()).unwrap(), expected);
        assert!(Archive::is_one(&sample()));
        assert!(!Archive::is_one(b"\x7fELF"));
    }

    #[test]
    fn broken_archives_are_named() {
        let broken = |edit: fn(&mut Vec<u8>)| {
            let mut archive = sample();
            edit(&mut archive);
            files(&archive).unwrap_err()
        };
        assert_eq!(broken(|a| a.truncate(50)), Error::NoHeader(0));
        assert_eq!(broken(|a| a.truncate(115)), Error::Name(0), "inside the name");
        assert_eq!(broken(|a| a.truncate(125)), Error::PastEnd(0), "inside the first file");
        assert_eq!(broken(|a| a.truncate(132)), Error::NoHeader(132), "without the rest");
        assert_eq!(broken(|a| a[14] = b'x'), Error::Number(0));
        assert_eq!(broken(|a| a[54] = b'F'), Error::PastEnd(0), "a file of nearly 4 GiB");
        assert_eq!(broken(|a| a[101] = b'0'), Error::Name(0), "no name");
        assert_eq!(broken(|a| a[113] = 0), Error::Name(0), "a 0 inside the name");
        assert_eq!(broken(|a| *a = entry("TRAILER!!!", 0, b"")), Error::NoFile);
        assert_eq!(broken(|a| *a = entry("a", 0o100_644, b"b").repeat(MOST_FILES + 1)), Error::TooManyFiles);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fall(mut archive: Vec<u8>, edits in prop::collection::vec((0..500_usize, any::<u8>()), 0..8)) {
            let _ = Archive::parse(&archive);
            archive = sample();
            let length = archive.len();
            for (at, byte) in edits {
                archive[at % length] = byte;
            }
            for entry in Archive::parse(&archive).iter().flat_map(|found| found.entries()) {
                prop_assert!(archive.get(entry.bytes.clone()).is_some() && archive.get(entry.name.clone()).is_some());
            }
        }
    }
}
