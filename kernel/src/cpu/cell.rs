//! A cell that one CPU owns inside a struct that all CPUs can see.

use core::sync::atomic::{AtomicU64, Ordering};

/// A small value that belongs to one CPU (and its interrupt handlers). Underneath it is a relaxed atomic, so a stray
/// read from elsewhere sees an old or a new value, never a torn one.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct Own<T> {
    bits: AtomicU64,
    kind: core::marker::PhantomData<T>,
}

/// What fits an [`Own`].
pub(crate) trait Bits: Copy {
    fn into_bits(self) -> u64;
    fn from_bits(bits: u64) -> Self;
}

macro_rules! bits {
    ($($t:ty),+) => {$(
        impl Bits for $t {
            fn into_bits(self) -> u64 { self as u64 }
            fn from_bits(bits: u64) -> Self { bits as $t }
        }
    )+};
}
bits!(u32, i32, u64);

impl Bits for bool {
    fn into_bits(self) -> u64 {
        self.into()
    }
    fn from_bits(bits: u64) -> Self {
        bits != 0
    }
}

impl<T> Own<T> {
    /// `bits` is the value's; for all types here 0 is 0, false, none.
    pub(crate) const fn new_bits(bits: u64) -> Self {
        Self { bits: AtomicU64::new(bits), kind: core::marker::PhantomData }
    }
}

macro_rules! constructors {
    ($($t:ty),+) => {$(
        impl Own<$t> {
            pub(crate) const fn new(value: $t) -> Self { Self::new_bits(value as u64) }
        }
    )+};
}
constructors!(u32, i32, u64, bool);

impl<T: Bits> Own<T> {
    pub(crate) fn get(&self) -> T {
        T::from_bits(self.bits.load(Ordering::Relaxed))
    }

    pub(crate) fn set(&self, value: T) {
        self.bits.store(value.into_bits(), Ordering::Relaxed);
    }
}

impl Own<u64> {
    pub(crate) fn add(&self, more: u64) {
        self.set(self.get().wrapping_add(more));
    }

    /// As [`add`](Self::add), where a handler on the same CPU may come between.
    pub(crate) fn add_shared(&self, more: u64) {
        self.bits.fetch_add(more, Ordering::Relaxed);
    }
}
