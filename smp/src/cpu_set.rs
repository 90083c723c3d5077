//! CPUs by number, and sets of them in one machine word.

use crate::primitive::{AtomicU64, Ordering, constructor};
use core::fmt;

/// A CPU's number: 0 for the one that booted, then in the order in which the boot loader lists them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuId(u8);

impl CpuId {
    /// The CPU with this number, below [`crate::MAX_CPUS`].
    ///
    /// # Panics
    /// If the number is too large.
    #[must_use]
    pub const fn new(number: usize) -> Self {
        assert!(number < crate::MAX_CPUS, "CPU number out of range");
        Self(number as u8)
    }

    /// The number, for indexing.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for CpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CPU {}", self.0)
    }
}

impl fmt::Display for CpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A set of CPUs.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuSet(u64);

impl CpuSet {
    /// No CPU.
    pub const EMPTY: Self = Self(0);
    /// Every CPU there could be.
    pub const ALL: Self = Self(u64::MAX);

    /// The set with these bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The set as bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Just this CPU.
    #[must_use]
    pub const fn only(cpu: CpuId) -> Self {
        Self(1 << cpu.0)
    }

    /// CPUs 0 to `count` - 1.
    #[must_use]
    pub const fn first(count: usize) -> Self {
        if count >= 64 { Self::ALL } else { Self((1 << count) - 1) }
    }

    /// This set without `cpu`.
    #[must_use]
    pub const fn without(self, cpu: CpuId) -> Self {
        Self(self.0 & !(1 << cpu.0))
    }

    /// This set and `cpu`.
    #[must_use]
    pub const fn with(self, cpu: CpuId) -> Self {
        Self(self.0 | 1 << cpu.0)
    }

    /// The CPUs in both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// This set without the CPUs of `other`.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether `cpu` is in the set.
    #[must_use]
    pub const fn contains(self, cpu: CpuId) -> bool {
        self.0 >> cpu.0 & 1 == 1
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many there are.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The lowest CPU of the set.
    #[must_use]
    pub const fn lowest(self) -> Option<CpuId> {
        if self.0 == 0 { None } else { Some(CpuId(self.0.trailing_zeros() as u8)) }
    }
}

impl Iterator for CpuSet {
    type Item = CpuId;

    /// Takes the lowest CPU out of the set.
    fn next(&mut self) -> Option<CpuId> {
        let cpu = self.lowest()?;
        self.0 &= self.0 - 1;
        Some(cpu)
    }
}

impl FromIterator<CpuId> for CpuSet {
    fn from_iter<I: IntoIterator<Item = CpuId>>(cpus: I) -> Self {
        cpus.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Debug for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.map(|c| c.0)).finish()
    }
}

/// A set of CPUs that several CPUs change.
#[derive(Debug, Default)]
pub struct AtomicCpuSet(AtomicU64);

impl AtomicCpuSet {
    constructor! {
        /// The empty set.
        #[must_use]
        pub const fn new() -> Self {
            Self(AtomicU64::new(0))
        }
    }

    /// The set as it is now.
    #[must_use]
    pub fn load(&self, order: Ordering) -> CpuSet {
        CpuSet(self.0.load(order))
    }

    /// Puts `cpu` in; the set as it was before.
    pub fn insert(&self, cpu: CpuId, order: Ordering) -> CpuSet {
        CpuSet(self.0.fetch_or(1 << cpu.0, order))
    }

    /// Takes `cpu` out; the set as it was before.
    pub fn remove(&self, cpu: CpuId, order: Ordering) -> CpuSet {
        CpuSet(self.0.fetch_and(!(1 << cpu.0), order))
    }

    /// Replaces the set; the set as it was before.
    pub fn swap(&self, set: CpuSet, order: Ordering) -> CpuSet {
        CpuSet(self.0.swap(set.0, order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_set_is_what_was_put_in(bits in any::<u64>()) {
            let set = CpuSet::from_bits(bits);
            prop_assert_eq!(set.collect::<CpuSet>(), set);
            prop_assert_eq!(set.count(), set.len());
            for cpu in set {
                prop_assert!(set.contains(cpu) && !set.without(cpu).contains(cpu));
            }
        }
    }

    #[test]
    fn the_first_sixty_four_are_all() {
        assert_eq!(CpuSet::first(64), CpuSet::ALL);
        assert_eq!(CpuSet::first(0), CpuSet::EMPTY);
        assert_eq!(CpuSet::first(3).bits(), 0b111);
    }
}
