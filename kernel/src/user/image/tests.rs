//! Program files made byte by byte, right ones and wrong ones.

use super::*;
use proptest::prelude::*;

const BASE: u64 = 0x40_0000;
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;

/// A program header: kind, flags, offset, address, bytes in the file, bytes in memory.
type Header = (u32, u32, u64, u64, u64, u64);

const TEXT: Header = (1, 5, 0x1000, BASE, 0x20, 0x20);
const CONSTANTS: Header = (1, 4, 0x1020, BASE + 0x1000, 0x10, 0x10);
const DATA: Header = (1, 6, 0x1030, BASE + 0x2000, 8, 0x1001);
/// A stack's, which says nothing to this kernel.
const STACK: Header = (0x6474_e551, 6, 0, 0, 0, 0);

fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

fn file(headers: &[Header]) -> Vec<u8> {
    let mut file = vec![0; 0x1040];
    put(&mut file, 0, b"\x7fELF\x02\x01\x01");
    put(&mut file, 16, &[2, 0, 62, 0, 1]);
    put(&mut file, 24, &(BASE + 4).to_le_bytes());
    put(&mut file, 32, &(HEADER as u64).to_le_bytes());
    put(&mut file, 52, &[HEADER as u8, 0, PROGRAM_HEADER as u8, 0, headers.len() as u8]);
    for (at, (kind, flags, offset, address, file_size, memory_size)) in headers.iter().enumerate() {
        let at = HEADER + at * PROGRAM_HEADER;
        put(&mut file, at, &kind.to_le_bytes());
        put(&mut file, at + 4, &flags.to_le_bytes());
        for (place, value) in [(8, offset), (16, address), (24, address), (32, file_size), (40, memory_size)] {
            put(&mut file, at + place, &value.to_le_bytes());
        }
        put(&mut file, at + 48, &0x1000_u64.to_le_bytes());
    }
    put(&mut file, 0x1000, &[0xaa; 0x40]);
    file
}

fn error(headers: &[Header]) -> Option<ImageError> {
    Image::parse(&file(headers)).err()
}

#[test]
fn a_program_is_found_as_it_is_linked() {
    let bytes = file(&[TEXT, STACK, CONSTANTS, DATA]);
    let image = Image::parse(&bytes).unwrap();
    assert_eq!(image.entry, BASE + 4);
    let found: Vec<_> = image.segments().map(|at| (at.address, at.pages, at.bytes.len(), at.access)).collect();
    assert_eq!(
        found,
        [
            (BASE, 1, 0x20, Access::UserReadExecute),
            (BASE + 0x1000, 1, 0x10, Access::UserRead),
            (BASE + 0x2000, 2, 8, Access::UserReadWrite),
        ]
    );
}

#[test]
fn what_is_no_program_is_named() {
    let edited = |at: usize, byte: u8| {
        let mut bytes = file(&[TEXT]);
        bytes[at] = byte;
        Image::parse(&bytes).err()
    };
    assert_eq!(edited(0, 0), Some(ImageError::NotElf));
    let class = edited(4, 1);
    assert!(matches!(class, Some(ImageError::Class | ImageError::Malformed)), "32 bits: {class:?}");
    assert_eq!(edited(5, 2), Some(ImageError::Class));
    assert_eq!(edited(16, 3), Some(ImageError::Type(3)));
    assert_eq!(edited(18, 40), Some(ImageError::Machine(40)));
    assert_eq!(edited(24, 0x30), None, "another place in the same segment's page");
    assert_eq!(edited(25, 0x10), Some(ImageError::Entry(BASE + 0x1004)));
    assert_eq!(edited(54, 55), Some(ImageError::Malformed));
    assert_eq!(Image::parse(&[]).err(), Some(ImageError::Malformed));
    assert_eq!(Image::parse(&file(&[TEXT])[..100]).err(), Some(ImageError::Malformed));
}

#[test]
fn segments_that_cannot_be_mapped_are_named() {
    let with = |edit: fn(&mut Header)| {
        let mut data = DATA;
        edit(&mut data);
        error(&[TEXT, CONSTANTS, data])
    };
    assert_eq!(error(&[]), Some(ImageError::NoSegments));
    assert_eq!(error(&[STACK]), Some(ImageError::NoSegments));
    assert_eq!(error(&[TEXT, (3, 4, 0, 0, 0, 0)]), Some(ImageError::Dynamic));
    assert_eq!(error(&[TEXT, (2, 4, 0, 0, 0, 0)]), Some(ImageError::Dynamic));
    assert_eq!(with(|data| data.1 = 7), Some(ImageError::WriteExecute(DATA.3)));
    assert_eq!(with(|data| data.1 = 2), Some(ImageError::NotReadable(DATA.3)));
    assert_eq!(with(|data| data.3 += 8), Some(ImageError::Unaligned(DATA.3 + 8)));
    assert_eq!(with(|data| data.3 = BASE), Some(ImageError::Overlap(BASE)));
    assert_eq!(with(|data| data.3 = 0), Some(ImageError::OutOfRange(0)));
    assert_eq!(with(|data| data.3 = PROGRAM.end), Some(ImageError::OutOfRange(PROGRAM.end)));
    assert_eq!(with(|data| data.3 = 0xffff_ffff_8000_0000), Some(ImageError::OutOfRange(0xffff_ffff_8000_0000)));
    assert_eq!(with(|data| data.5 = u64::MAX), Some(ImageError::OutOfRange(DATA.3)));
    assert_eq!(with(|data| data.4 = 0x1002), Some(ImageError::FileSize(DATA.3)));
    assert_eq!(with(|data| data.2 = u64::MAX), Some(ImageError::FileSize(DATA.3)));
    assert_eq!(with(|data| data.2 = 0x1040), Some(ImageError::FileSize(DATA.3)));
    assert_eq!(with(|data| data.5 = MOST_PAGES * PAGE_SIZE), Some(ImageError::TooLarge(MOST_PAGES + 2)));
    let many: Vec<_> = (0..9).map(|at| (1, 5, 0x1000, BASE + at * PAGE_SIZE, 8, 8)).collect();
    assert_eq!(error(&many), Some(ImageError::TooManySegments));
}

/// Whatever is accepted can be mapped: whole pages where programs may be, in order, within the limits, never W+X.
fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(image) = Image::parse(bytes) else { return Ok(()) };
    let (mut end, mut pages) = (PROGRAM.start, 0);
    for segment in image.segments() {
        prop_assert!(segment.address.is_multiple_of(PAGE_SIZE) && segment.address >= end);
        prop_assert!(segment.bytes.len() as u64 <= segment.pages * PAGE_SIZE);
        end = segment.end();
        pages += segment.pages;
    }
    prop_assert!(end <= PROGRAM.end && pages <= MOST_PAGES);
    Ok(())
}

proptest! {
    #[test]
    fn no_bytes_make_it_fall(bytes: Vec<u8>) {
        check(&bytes)?;
    }

    #[test]
    fn no_change_of_a_program_makes_it_fall(edits in prop::collection::vec((0..300_usize, any::<u8>()), 1..6)) {
        let mut bytes = file(&[TEXT, STACK, CONSTANTS, DATA]);
        for (at, byte) in edits {
            bytes[at] = byte;
        }
        check(&bytes)?;
    }

    #[test]
    fn no_segment_makes_it_fall(flags in 0..8_u32, offset: u64, address: u64, sizes: (u64, u64), small: bool) {
        let shift = if small { 40 } else { 0 };
        let segment = (1, flags, offset >> (shift + 8), address >> (shift / 2) & !0xfff, sizes.0 >> (shift + 10), sizes.1 >> shift);
        check(&file(&[TEXT, segment]))?;
        check(&file(&[segment, TEXT]))?;
    }
}
