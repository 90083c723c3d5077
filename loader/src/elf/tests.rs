//! Which files are loaded and which are refused, from a small file that is well-formed but for what a test breaks.

use super::*;
use crate::field::put_u64;
use proptest::prelude::*;

/// `(kind, flags, offset, address, file size, memory size)` of a program header.
type Header = (u32, u32, u64, u64, u64, u64);

const TEXT: Header = (1, 5, 0x200, KERNEL_FLOOR, 0x100, 0x100);
const DATA: Header = (1, 6, 0x300, KERNEL_FLOOR + 0x1000, 0x80, 0x2345);

fn file(headers: &[Header]) -> Vec<u8> {
    let mut file = vec![0; 0x400];
    file[..4].copy_from_slice(b"\x7fELF");
    (file[4], file[5], file[6], file[16], file[18], file[20]) = (2, 1, 1, 2, 62, 1);
    put_u64(&mut file, 24, KERNEL_FLOOR + 0x10);
    put_u64(&mut file, 32, 64);
    (file[52], file[54], file[56]) = (64, 56, u8::try_from(headers.len()).unwrap());
    for (header, (kind, flags, offset, address, file_size, memory_size)) in file[64..].chunks_exact_mut(56).zip(headers)
    {
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[4..8].copy_from_slice(&flags.to_le_bytes());
        for (at, value) in
            [(8, offset), (16, address), (24, address), (32, file_size), (40, memory_size), (48, &0x1000)]
        {
            put_u64(header, at, *value);
        }
    }
    file
}

/// A kernel of four pages: one to execute, three to write.
pub(crate) fn sample() -> Elf {
    Elf::parse(&file(&[TEXT, DATA])).unwrap()
}

fn error(file: &[u8]) -> Error {
    Elf::parse(file).unwrap_err()
}

#[test]
fn a_sound_kernel_is_read_whole() {
    // In the file's order, not the addresses'; a note and an empty segment are no matter.
    let elf = Elf::parse(&file(&[(4, 4, 0, 0, 8, 8), DATA, TEXT, (1, 6, 0, 0, 0, 0)])).unwrap();
    assert_eq!(elf.entry, KERNEL_FLOOR + 0x10);
    assert_eq!(elf.segments().len(), 2);
    let [text, data] = elf.segments() else { unreachable!() };
    assert_eq!((text.offset, text.file_size, text.writable, text.executable), (0x200, 0x100, false, true));
    assert_eq!((data.file_size, data.memory_size, data.writable, data.executable), (0x80, 0x2345, true, false));
    assert_eq!(elf.span(), KERNEL_FLOOR..KERNEL_FLOOR + 0x4000);
    assert!(elf.executes(KERNEL_FLOOR) && elf.executes(KERNEL_FLOOR + 0xff));
    assert!(!elf.executes(KERNEL_FLOOR + 0x100) && !elf.executes(KERNEL_FLOOR + 0x1000) && !elf.executes(0));
}

#[test]
fn what_is_no_x86_64_executable_is_named() {
    let with = |at: usize, value: u8| {
        let mut file = file(&[TEXT]);
        file[at] = value;
        error(&file)
    };
    assert_eq!(error(b"#!/bin/sh\n"), Error::NotElf(*b"#!/b"));
    assert_eq!(error(b""), Error::TooShort(0));
    assert_eq!(error(&file(&[TEXT])[..63]), Error::TooShort(63));
    assert_eq!(with(4, 1), Error::Class(1));
    assert_eq!(with(5, 2), Error::Encoding(2));
    assert_eq!(with(18, 183), Error::Machine(183));
    assert_eq!(with(16, 3), Error::Relocatable);
    assert_eq!(with(16, 1), Error::Type(1));
    assert_eq!(with(54, 32), Error::ProgramHeaders);
    assert_eq!(with(39, 0xff), Error::ProgramHeaders);
}

#[test]
fn segments_that_cannot_be_loaded_are_named() {
    assert_eq!(error(&file(&[])), Error::NoSegments);
    assert_eq!(error(&file(&[(4, 4, 0, 0, 8, 8)])), Error::NoSegments);
    assert_eq!(error(&file(&[TEXT, (1, 4, 0x3f0, KERNEL_FLOOR + 0x9000, 0x11, 0x11)])), Error::PastFile(1));
    assert_eq!(error(&file(&[(1, 4, u64::MAX, KERNEL_FLOOR, 2, 2)])), Error::PastFile(0));
    assert_eq!(error(&file(&[(1, 4, 0, KERNEL_FLOOR, 9, 8)])), Error::FileLarger(0));
    assert_eq!(error(&file(&[(1, 5, 0, 0x10_0000, 8, 8)])), Error::Address(0, 0x10_0000));
    assert_eq!(error(&file(&[(1, 5, 0, KERNEL_FLOOR, 8, u64::MAX)])), Error::Address(0, KERNEL_FLOOR));
    assert_eq!(error(&file(&[(1, 5, 0, u64::MAX - 7, 8, 8)])), Error::Address(0, u64::MAX - 7));
    assert_eq!(error(&file(&[TEXT, (1, 5, 0, KERNEL_FLOOR + 0xff, 8, 8)])), Error::Overlap(KERNEL_FLOOR + 0xff));
    assert_eq!(error(&file(&[TEXT, (1, 6, 0, KERNEL_FLOOR + 0x800, 8, 8)])), Error::SharedPage(KERNEL_FLOOR));
    assert!(Elf::parse(&file(&[TEXT, (1, 5, 0, KERNEL_FLOOR + 0x800, 8, 8)])).is_ok(), "same rights may share a page");
}

#[test]
fn a_file_that_has_lost_its_end_is_refused_even_if_its_segments_are_whole() {
    let mut file = file(&[TEXT]);
    put_u64(&mut file, 40, 0x380);
    (file[58], file[60]) = (64, 2);
    assert!(Elf::parse(&file).is_ok());
    assert_eq!(error(&file[..0x3ff]), Error::SectionHeaders);
    put_u64(&mut file, 40, u64::MAX);
    assert_eq!(error(&file), Error::SectionHeaders);
    (file[58], file[60]) = (64, 0);
    assert!(Elf::parse(&file).is_ok(), "stripped of them");
}

#[test]
fn the_alignment_of_large_segments_is_honoured_up_to_a_large_page() {
    let align = |value: u64| {
        let mut file = file(&[TEXT]);
        put_u64(&mut file, 64 + 48, value);
        Elf::parse(&file).unwrap().align
    };
    assert_eq!(
        [0, 1, 3, 0x1000, 0x20_0000, 1 << 40].map(align),
        [0x1000, 0x1000, 0x1000, 0x1000, 0x20_0000, 0x20_0000]
    );
}

#[test]
fn the_image_is_the_files_bytes_and_zeros() {
    let mut file = file(&[TEXT, DATA]);
    file[0x200..0x300].fill(1);
    file[0x300..0x380].fill(2);
    let elf = Elf::parse(&file).unwrap();
    let mut image = vec![0xee; 0x4000];
    elf.load(&file, &mut image);
    let expected = |at| match at {
        0..0x100 => 1,
        0x1000..0x1080 => 2,
        _ => 0,
    };
    assert!(image.iter().enumerate().all(|(at, byte)| *byte == expected(at)));
    assert!(elf.loaded().eq([0..0x100, 0x1000..0x1080]));
}

proptest! {
    #[test]
    fn no_file_is_loaded_from_outside_itself(damage in prop::collection::vec((0..0x100_usize, any::<u8>()), 0..6), length in 0..0x401_usize) {
        let mut file = file(&[TEXT, DATA]);
        for (at, value) in damage {
            file[at] = value;
        }
        file.truncate(length);
        if let Ok(elf) = Elf::parse(&file) {
            for segment in elf.segments() {
                prop_assert!(segment.offset + segment.file_size <= file.len() as u64);
                prop_assert!(segment.file_size <= segment.memory_size);
                prop_assert!(segment.address >= KERNEL_FLOOR && segment.address.checked_add(segment.memory_size).is_some());
                prop_assert!(elf.span().start <= segment.pages().start && segment.pages().end <= elf.span().end);
            }
            prop_assert!(elf.segments().windows(2).all(|p| p[0].address + p[0].memory_size <= p[1].address));
        }
    }
}
