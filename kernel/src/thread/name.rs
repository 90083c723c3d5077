//! A thread's name: up to 24 bytes, by value in reports, and in the thread's object in words that are read without a lock,
//! by fault handlers among others.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use wire::debug::NAME;

const WORDS: usize = NAME / 8;

/// The name of a thread, as much of it as is kept: [`NAME`] bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name {
    bytes: [u8; NAME],
    length: u8,
}

impl Name {
    /// Of the whole characters of `name` as many as are kept.
    #[must_use]
    pub const fn new(name: &str) -> Self {
        let mut length = if name.len() < NAME { name.len() } else { NAME };
        while !name.is_char_boundary(length) {
            length -= 1;
        }
        let (mut bytes, mut at) = ([0; NAME], 0);
        while at < length {
            bytes[at] = name.as_bytes()[at];
            at += 1;
        }
        Self { bytes, length: length as u8 }
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.length.into()]).unwrap_or("?")
    }

    /// Its first bytes, as [`wire::trace::Event::Name`] has them.
    pub(super) fn for_trace(&self) -> (u32, u64) {
        let [a, b, c, d, rest @ ..] = self.bytes;
        let mut second = [0; 8];
        second.copy_from_slice(&rest[..8]);
        (u32::from_le_bytes([a, b, c, d]), u64::from_le_bytes(second))
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A name in a thread's object. Written by whoever makes a thread of the object, before anybody else knows the thread; who
/// reads it while that goes on may get a mixture of two names.
#[derive(Debug)]
#[repr(C)]
pub(super) struct NameCell {
    /// The bytes, in the order that they have in memory: readers outside take them so.
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
        for (word, bytes) in self.words.iter().zip(name.bytes.as_chunks().0) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        self.length.store(name.length.into(), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Name {
        let mut bytes = [0; NAME];
        for (to, word) in bytes.as_chunks_mut().0.iter_mut().zip(&self.words) {
            *to = word.load(Ordering::Relaxed).to_ne_bytes();
        }
        Name { bytes, length: self.length.load(Ordering::Relaxed).min(NAME as u64) as u8 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_back_cut_between_characters() {
        let cell = NameCell::new();
        for (given, kept) in [
            ("", ""),
            ("main", "main"),
            ("äöüäöüäöüäöüä", "äöüäöüäöüäöü"),
            ("x23456789012345678901234ü", "x23456789012345678901234"),
        ] {
            cell.set(&Name::new(given));
            assert_eq!(cell.get().as_str(), kept);
        }
    }

    #[test]
    fn a_trace_gets_the_same_bytes_as_from_the_text() {
        for name in ["a", "staggered", "a-longer-name-than-12"] {
            assert_eq!(Name::new(name).for_trace(), wire::trace::event::name_words(name));
        }
    }
}
