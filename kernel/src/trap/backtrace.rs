//! Backtraces: walks of the frame-pointer chain, read word by word so that a broken chain ends the walk and nothing
//! else. Addresses only; the host puts names to them.
//!
//! A word is read only if the page tables have it. A read that faulted would be answered all the same, but in an NMI's handler
//! the fault's return would let in the next NMI, over the frame of this one.

use crate::cpu::entry::{self, Frame};
use crate::mem::{paging, probe};
use crate::user;
use core::fmt;

/// Return addresses that are kept.
pub(crate) const DEPTH: usize = 16;

/// Where the code was, innermost first.
#[derive(Clone, Copy)]
pub(crate) struct Backtrace {
    addresses: [u64; DEPTH],
    count: usize,
}

impl Backtrace {
    pub(crate) const EMPTY: Self = Self { addresses: [0; DEPTH], count: 0 };

    /// From interrupted code.
    pub(crate) fn of_frame(frame: &Frame) -> Self {
        let mut trace = Self::EMPTY;
        trace.push(frame.rip);
        // A user's frame pointer is not followed: it may name anything, and a fault on the way would let the next NMI in
        // while this one is served.
        if !frame.is_user() && !entry::is_entry(frame.rip) && !user::is_entry(frame.rip) {
            trace.walk(frame.rbp);
        }
        trace
    }

    /// From the function whose frame pointer this is.
    pub(crate) fn of_caller(rbp: u64) -> Self {
        let mut trace = Self::EMPTY;
        trace.walk(rbp);
        trace
    }

    pub(crate) fn addresses(&self) -> &[u64] {
        &self.addresses[..self.count]
    }

    fn push(&mut self, address: u64) {
        if address != 0 && self.count < DEPTH {
            self.addresses[self.count] = address;
            self.count += 1;
        }
    }

    fn walk(&mut self, mut rbp: u64) {
        // The chain goes up, in the upper half; anything else is not one.
        while rbp.cast_signed() < 0 && rbp.is_multiple_of(8) && self.count < DEPTH {
            let (Some(next), Some(back)) = (word(rbp), word(rbp.wrapping_add(8))) else { return };
            self.push(back);
            if next <= rbp {
                return;
            }
            rbp = next;
        }
    }
}

fn word(address: u64) -> Option<u64> {
    if paging::may_be_mapped(address) { probe::read(address) } else { None }
}

impl fmt::Display for Backtrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.addresses().iter().try_for_each(|address| write!(f, " {address:#x}"))
    }
}
