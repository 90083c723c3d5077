//! A thread's name: up to 24 bytes, by value in reports, and in the thread's object in words that are read without a lock,
//! by fault handlers among others.

use core::fmt;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use wire::debug::NAME;

const WORDS: usize = NAME / 8;

/// The name of a thread, as much of it as is kept: [`NAME`] bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    bytes: [u8; NAME],
    length: u8,
}

impl Name {
    /// `name`, cut to what is kept.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let length = (0..=name.len().min(NAME)).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
        let mut bytes = [0; NAME];
        bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
        Self { bytes, length: length as u8 }
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.length.into()]).unwrap_or("?")
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
pub(super) struct NameCell {
    /// The bytes, in the order that they have in memory: readers outside take them so.
    words: [AtomicU64; WORDS],
    length: AtomicUsize,
}

impl NameCell {
    pub(super) const fn new() -> Self {
        Self { words: [const { AtomicU64::new(0) }; WORDS], length: AtomicUsize::new(0) }
    }

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
        Name { bytes, length: self.length.load(Ordering::Relaxed).min(NAME) as u8 }
    }

    /// Offsets of the bytes and of their number, from `base` on.
    pub(super) fn offsets_from(&self, base: u64) -> (u64, u64) {
        (self.words.as_ptr() as u64 - base, self.length.as_ptr() as u64 - base)
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
}
