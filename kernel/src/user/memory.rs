//! A process's memory: what lies where, how much it may have, its threads' stacks, and copies from it.
//!
//! ```text
//!   0x0000_0000_0001_0000  the program            (`image`)
//!   0x0000_0001_0000_0000  what it maps           512 MiB of addresses
//!   0x0000_0002_0000_0000  its threads' stacks    1 MiB of addresses for each: … guard | stack | guard
//! ```
//! Each window is small, so that the page tables of a process are few whatever it maps: at most about 270.

use crate::mem::{Access, AddressSpace, PAGE_SIZE, SpaceError, probe};
use crate::sync::SpinLock;
use crate::thread::Shield;
use alloc::sync::Arc;
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use wire::record::Guard;
use wire::syscall::{Error, MOST_PAGES, WRITABLE};

/// Where programs may be linked to.
pub(super) const PROGRAM: Range<u64> = 0x1_0000..0x4000_0000;
const MAPS: Range<u64> = 0x1_0000_0000..0x1_2000_0000;
const STACKS: u64 = 0x2_0000_0000;
/// Addresses for one stack with its guards.
const STACK_SPAN: u64 = 1 << 20;
/// User memory is below this: the last page of the lower half stays unmapped, as a SYSCALL at its end would come back to an
/// address that is none.
const END: u64 = (1 << 47) - PAGE_SIZE;

/// Pages that a process may have mapped at a time, besides its program and its stacks.
const MOST_MAPPED: u64 = 1024;
/// Ranges that are tried for a `map` that leaves the choice to the kernel.
const TRIES: u32 = 32;

/// Whether user code may be there.
pub(crate) const fn is_code(address: u64) -> bool {
    address < END
}

/// The memory of a process.
pub(super) struct Memory {
    space: Arc<AddressSpace>,
    /// Pages that it has mapped, or is just mapping.
    mapped: AtomicU64,
    /// Where the next choice of an address begins, as an offset.
    next: SpinLock<u64>,
    /// Stacks in use, a bit each.
    stacks: AtomicU64,
}

/// A user thread's stack.
#[derive(Debug)]
pub(super) struct UserStack {
    number: u32,
    pages: u64,
    guard_pages: u64,
}

/// Why there is no user stack. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StackError {
    /// Too many pages, or none.
    Size(u64),
    /// As many threads as there can be.
    TooMany,
    /// It could not be mapped.
    Space(SpaceError),
}

impl UserStack {
    /// First byte past it.
    pub(super) const fn end(&self) -> u64 {
        STACKS + (self.number as u64 + 1) * STACK_SPAN - self.guard_pages * PAGE_SIZE
    }

    const fn start(&self) -> u64 {
        self.end() - self.pages * PAGE_SIZE
    }

    /// The guard that this address is in, and how many bytes past the edge.
    pub(super) const fn guard_at(&self, address: u64) -> Option<(Guard, u64)> {
        let guard = self.guard_pages * PAGE_SIZE;
        if address < self.start() && self.start() - address <= guard {
            Some((Guard::Front, self.start() - address))
        } else if address >= self.end() && address - self.end() < guard {
            Some((Guard::Rear, address - self.end() + 1))
        } else {
            None
        }
    }
}

impl Memory {
    pub(super) fn new(space: Arc<AddressSpace>) -> Self {
        Self { space, mapped: AtomicU64::new(0), next: SpinLock::new("user addresses", 0), stacks: AtomicU64::new(0) }
    }

    pub(super) const fn space(&self) -> &Arc<AddressSpace> {
        &self.space
    }

    /// Pages that it has mapped.
    pub(super) fn mapped(&self) -> u64 {
        self.mapped.load(Ordering::Relaxed)
    }

    /// Maps a stack of `pages` pages between guards.
    ///
    /// # Errors
    /// [`StackError`]; nothing has changed then.
    pub(super) fn take_stack(&self, pages: u64, guard_pages: u64) -> Result<UserStack, StackError> {
        let _shield = Shield::new();
        let most = STACK_SPAN / PAGE_SIZE;
        let total = guard_pages.checked_mul(2).and_then(|guards| guards.checked_add(pages));
        if pages == 0 || guard_pages == 0 || total.is_none_or(|total| total > most) {
            return Err(StackError::Size(pages));
        }
        let taken = self.stacks.try_update(Ordering::AcqRel, Ordering::Relaxed, |taken| {
            (taken != u64::MAX).then_some(taken | taken.wrapping_add(1)) // the lowest that is free
        });
        let number = taken.map_err(|_| StackError::TooMany)?.trailing_ones();
        let stack = UserStack { number, pages, guard_pages };
        match self.space.map(stack.start(), pages, 0, Access::UserReadWrite) {
            Ok(()) => Ok(stack),
            Err(error) => {
                self.stacks.fetch_and(!(1 << number), Ordering::AcqRel);
                Err(StackError::Space(error))
            }
        }
    }

    /// Unmaps a stack whose thread has left user code for good.
    pub(super) fn give_back(&self, stack: &UserStack) {
        let _shield = Shield::new();
        let gone = self.space.unmap(stack.start(), stack.pages);
        assert!(gone.is_ok(), "a user stack is mapped until it is given back: {gone:?}");
        self.stacks.fetch_and(!(1 << stack.number), Ordering::AcqRel);
    }

    /// The system call `map`.
    pub(super) fn map(&self, address: u64, pages: u64, flags: u64) -> Result<u64, Error> {
        if pages == 0 || pages > MOST_PAGES || flags & !WRITABLE != 0 {
            return Err(Error::BadArgument);
        }
        let access = if flags & WRITABLE != 0 { Access::UserReadWrite } else { Access::UserRead };
        let _shield = Shield::new();
        self.charge(pages)?;
        let at = match address {
            0 => self.map_anywhere(pages, access),
            _ => may_map(address, pages)
                .and_then(|()| self.space.map(address, pages, 0, access).map(|()| address).map_err(told)),
        };
        if at.is_err() {
            self.uncharge(pages);
        }
        at
    }

    fn map_anywhere(&self, pages: u64, access: Access) -> Result<u64, Error> {
        let bytes = pages * PAGE_SIZE;
        for _ in 0..TRIES {
            let offset = {
                let mut next = self.next.lock();
                let offset = if *next + bytes > MAPS.end - MAPS.start { 0 } else { *next };
                *next = offset + bytes;
                offset
            };
            match self.space.map(MAPS.start + offset, pages, 0, access) {
                Ok(()) => return Ok(MAPS.start + offset),
                Err(SpaceError::InUse(_)) => {}
                Err(error) => return Err(told(error)),
            }
        }
        Err(Error::InUse)
    }

    /// The system call `unmap`.
    pub(super) fn unmap(&self, address: u64, pages: u64) -> Result<u64, Error> {
        if pages == 0 || pages > MOST_PAGES {
            return Err(Error::BadArgument);
        }
        may_map(address, pages)?;
        let _shield = Shield::new();
        self.space.unmap(address, pages).map_err(told)?;
        self.uncharge(pages);
        Ok(0)
    }

    fn charge(&self, pages: u64) -> Result<(), Error> {
        let charged = self.mapped.try_update(Ordering::Relaxed, Ordering::Relaxed, |mapped| {
            (mapped + pages <= MOST_MAPPED).then_some(mapped + pages)
        });
        charged.map(|_| ()).map_err(|_| Error::OverLimit)
    }

    fn uncharge(&self, pages: u64) {
        self.mapped.fetch_sub(pages, Ordering::Relaxed);
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("space", &self.space).field("mapped", &self.mapped).finish_non_exhaustive()
    }
}

/// Whether programs may map and unmap these pages.
fn may_map(address: u64, pages: u64) -> Result<(), Error> {
    let end = pages.checked_mul(PAGE_SIZE).and_then(|bytes| address.checked_add(bytes));
    match end {
        Some(end) if address.is_multiple_of(PAGE_SIZE) && address >= MAPS.start && end <= MAPS.end => Ok(()),
        _ => Err(Error::BadAddress),
    }
}

const fn told(error: SpaceError) -> Error {
    match error {
        SpaceError::OutOfFrames | SpaceError::OutOfHeap | SpaceError::TooMany => Error::OutOfMemory,
        SpaceError::InUse(_) => Error::InUse,
        SpaceError::NotMapped(_) => Error::NotMapped,
        SpaceError::Zero => Error::BadArgument,
        SpaceError::Unaligned(_) | SpaceError::OutOfRange(_) => Error::BadAddress,
    }
}

/// Copies from the memory of the process whose thread calls.
///
/// # Errors
/// [`Error::BadAddress`] if part of it is not the program's to read.
pub(super) fn copy_in(to: &mut [u8], from: u64) -> Result<(), Error> {
    let end = from.checked_add(to.len() as u64);
    if from < PAGE_SIZE || end.is_none_or(|end| end > END) {
        return Err(Error::BadAddress);
    }
    // SAFETY: in the lower half, by the check.
    if unsafe { probe::copy_from_user(to, from) } { Ok(()) } else { Err(Error::BadAddress) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_stack_lies_between_its_guards() {
        let stack = UserStack { number: 3, pages: 4, guard_pages: 2 };
        let span = STACKS + 3 * STACK_SPAN..STACKS + 4 * STACK_SPAN;
        assert_eq!(stack.end(), span.end - 2 * PAGE_SIZE);
        assert_eq!(stack.start(), stack.end() - 4 * PAGE_SIZE);
        assert_eq!(stack.guard_at(stack.start()), None);
        assert_eq!(stack.guard_at(stack.end() - 1), None);
        assert_eq!(stack.guard_at(stack.start() - 1), Some((Guard::Front, 1)));
        assert_eq!(stack.guard_at(stack.start() - 2 * PAGE_SIZE), Some((Guard::Front, 2 * PAGE_SIZE)));
        assert_eq!(stack.guard_at(stack.start() - 2 * PAGE_SIZE - 1), None);
        assert_eq!(stack.guard_at(stack.end()), Some((Guard::Rear, 1)));
        assert_eq!(stack.guard_at(span.end - 1), Some((Guard::Rear, 2 * PAGE_SIZE)));
        assert_eq!(stack.guard_at(span.end), None);
    }

    proptest! {
        #[test]
        fn what_may_be_mapped_is_whole_pages_of_the_window(address: u64, pages: u64) {
            for address in [address, address & !(PAGE_SIZE - 1), MAPS.start + (address & 0x1fff_f000)] {
                if may_map(address, pages).is_ok() {
                    prop_assert!(address.is_multiple_of(PAGE_SIZE) && address >= MAPS.start);
                    prop_assert!(pages <= (MAPS.end - address) / PAGE_SIZE);
                }
            }
        }
    }
}
