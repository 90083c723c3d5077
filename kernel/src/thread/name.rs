//! Names of threads: 24 bytes of them are kept, without a lock, so that they can be read anywhere and at any time.

use core::sync::atomic::{AtomicU64, Ordering};
use wire::debug::NAME;

const WORDS: usize = NAME / 8;

/// A name, cut to what is kept of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    words: [u64; WORDS],
    length: u64,
}

impl Name {
    /// Of the whole characters of `name` as many as are kept.
    pub(super) const fn new(name: &str) -> Self {
        let bytes = name.as_bytes();
        let mut length = if bytes.len() < NAME { bytes.len() } else { NAME };
        while !name.is_char_boundary(length) {
            length -= 1;
        }
        let (mut words, mut at) = ([0; WORDS], 0);
        while at < length {
            words[at / 8] |= (bytes[at] as u64) << (8 * (at % 8));
            at += 1;
        }
        Self { words, length: length as u64 }
    }

    fn bytes(&self) -> [u8; NAME] {
        let mut bytes = [0; NAME];
        for (to, word) in bytes.chunks_exact_mut(8).zip(self.words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Runs `f` on its text.
    pub(super) fn with<R>(&self, f: impl FnOnce(&str) -> R) -> R {
        let bytes = self.bytes();
        f(core::str::from_utf8(&bytes[..(self.length as usize).min(NAME)]).unwrap_or("?"))
    }

    /// Its first bytes, as [`wire::trace::Event::Name`] has them.
    pub(super) const fn for_trace(&self) -> (u32, u64) {
        (self.words[0] as u32, self.words[0] >> 32 | self.words[1] << 32)
    }
}

/// Where a thread's name is. Who reads it while it is changed may get parts of both.
#[derive(Debug)]
#[repr(C)]
pub(super) struct NameCell {
    words: [AtomicU64; WORDS],
    length: AtomicU64,
}

impl NameCell {
    /// For readers outside: where the bytes are in it, and where their number.
    pub(super) const OFFSETS: (u64, u64) =
        (core::mem::offset_of!(Self, words) as u64, core::mem::offset_of!(Self, length) as u64);

    pub(super) const fn new() -> Self {
        Self { words: [const { AtomicU64::new(0) }; WORDS], length: AtomicU64::new(0) }
    }

    #[inline]
    pub(super) fn set(&self, name: &Name) {
        for (to, word) in self.words.iter().zip(name.words) {
            to.store(word, Ordering::Relaxed);
        }
        self.length.store(name.length, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Name {
        Name {
            words: core::array::from_fn(|at| self.words[at].load(Ordering::Relaxed)),
            length: self.length.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_as_far_as_it_fits() {
        for (name, kept) in [("", ""), ("idle", "idle"), ("12345678901234567890123456", "123456789012345678901234")] {
            let cell = NameCell::new();
            cell.set(&Name::new(name));
            cell.get().with(|text| assert_eq!(text, kept));
        }
        Name::new("1234567890123456789012é").with(|text| assert_eq!(text, "1234567890123456789012é"));
        Name::new("12345678901234567890123é").with(|text| assert_eq!(text, "12345678901234567890123"));
    }

    #[test]
    fn a_trace_gets_the_same_bytes_as_from_the_text() {
        for name in ["a", "staggered", "a-longer-name-than-12"] {
            assert_eq!(Name::new(name).for_trace(), wire::trace::event::name_words(name));
        }
    }
}
