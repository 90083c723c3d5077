//! The memory that answers are written to, and the layout of the structures in them: words of 64 bits, all of it.

use crate::field::put_u64;

/// Memory for answers: filled from its start, seen by the kernel at a virtual address.
#[derive(Debug)]
pub struct Arena<'a> {
    bytes: &'a mut [u8],
    address: u64,
    used: usize,
}

impl<'a> Arena<'a> {
    /// An empty arena that the kernel sees at this virtual address, a multiple of 8.
    #[must_use]
    pub const fn new(bytes: &'a mut [u8], address: u64) -> Self {
        Self { bytes, address, used: 0 }
    }

    /// Writes words and returns their address.
    ///
    /// # Panics
    /// The arena is full.
    pub fn words(&mut self, words: &[u64]) -> u64 {
        self.list(words.iter().copied()).0
    }

    /// Writes as many words as there are and returns their address and number.
    ///
    /// # Panics
    /// The arena is full.
    pub fn list(&mut self, words: impl Iterator<Item = u64>) -> (u64, u64) {
        let start = self.used;
        for word in words {
            put_u64(self.bytes, self.used, word);
            self.used += 8;
        }
        (self.address + start as u64, (self.used - start) as u64 / 8)
    }

    /// Writes a text with a 0 at its end and returns its address.
    ///
    /// # Panics
    /// The arena is full.
    pub fn text(&mut self, text: &[u8]) -> u64 {
        let start = self.used;
        let end = start + text.len();
        self.bytes[start..end].copy_from_slice(text);
        self.bytes[end] = 0;
        self.used = (end + 1).next_multiple_of(8);
        self.address + start as u64
    }
}

/// A file's structure: `limine_file`. The kernel is told nothing of the medium, for there is none.
#[must_use]
pub const fn file(address: u64, size: u64, path: u64, text: u64) -> [u64; 14] {
    let mut words = [0; 14];
    (words[1], words[2], words[3], words[4]) = (address, size, path, text);
    words
}

/// Words of a CPU's structure, `limine_mp_info`: its identities, a word for the loader's use, the address to go to, a
/// word for the kernel's use.
pub const PROCESSOR_WORDS: usize = 4;

/// A CPU's structure before it is started. The loader's word is 1 until the CPU is parked.
#[must_use]
pub const fn processor(uid: u32, apic_id: u32) -> [u64; PROCESSOR_WORDS] {
    [uid as u64 | (apic_id as u64) << 32, 1, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::u64_at;

    #[test]
    fn what_is_written_is_found_at_its_address() {
        let mut bytes = [0xee; 64];
        let mut arena = Arena::new(&mut bytes, 0x1000);
        assert_eq!(arena.text(b"abc"), 0x1000);
        assert_eq!(arena.words(&[7, 8]), 0x1008);
        assert_eq!(arena.text(b"eightchr"), 0x1018);
        assert_eq!(arena.list([1, 2, 3].into_iter()), (0x1028, 3));
        assert_eq!(&bytes[..4], b"abc\0");
        assert_eq!([8, 16, 0x28, 0x30, 0x38].map(|at| u64_at(&bytes, at)), [7, 8, 1, 2, 3].map(Some));
        assert_eq!(bytes[0x20], 0);
    }

    #[test]
    fn structures_have_the_protocols_layout() {
        // struct limine_file: revision, address, size, path, cmdline, eight 32-bit numbers less two, three UUIDs.
        assert_eq!(size_of_val(&file(1, 2, 3, 4)), 5 * 8 + 6 * 4 + 3 * 16);
        assert_eq!(file(1, 2, 3, 4)[..6], [0, 1, 2, 3, 4, 0]);
        // struct limine_mp_info: processor_id, lapic_id, reserved, goto_address, extra_argument.
        assert_eq!(processor(5, 0x106), [0x106_0000_0005, 1, 0, 0]);
    }
}
