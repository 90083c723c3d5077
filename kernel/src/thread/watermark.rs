//! Watermarks: how much of a stack was ever used.
//!
//! With `watermark=on` stacks are handed out as zeros, and the lowest word that is none is looked for, from the low end. Off by
//! default: clearing costs 512 stores a page at each spawn, and looking a read for each word that was never used, some ten
//! instructions. Words that were written as zeros are not seen: a frame of which only zeros were written does not count, unless
//! something below it does. Without it there is a lower bound, from the stack pointer.

use super::{Handle, Name, Thread, shield, table};
use crate::cpu;
use crate::mem::{Fill, probe};
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

static KEPT: AtomicBool = AtomicBool::new(false);

/// How much of a stack was ever used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watermark {
    /// So many bytes.
    Bytes(u64),
    /// At least so many bytes, by the stack pointer: watermarks are not kept (`watermark=on`).
    AtLeast(u64),
}

impl fmt::Display for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{bytes}"),
            Self::AtLeast(bytes) => write!(f, "at least {bytes}"),
        }
    }
}

/// Why another thread's watermark is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoWatermark {
    /// Watermarks are not kept (`watermark=on`).
    NotKept,
    /// The thread has left its stack for good.
    NoStack,
}

impl fmt::Display for NoWatermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotKept => "watermarks are not kept",
            Self::NoStack => "the thread has left its stack",
        })
    }
}

impl core::error::Error for NoWatermark {}

/// A part of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of it.
    PerCent(u8),
}

impl Threshold {
    /// Its bytes, of a stack of so many, rounded up.
    const fn of(self, stack: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::PerCent(hundredths) => (stack * hundredths as u64).div_ceil(100),
        }
    }
}

/// Sets whether they are kept, before there is any stack.
pub(crate) fn init(kept: bool) {
    KEPT.store(kept, Ordering::Relaxed);
}

/// What a fresh stack is to hold.
pub(crate) fn fill() -> Fill {
    if KEPT.load(Ordering::Relaxed) { Fill::Zeros } else { Fill::AsIs }
}

/// How many bytes of a stack, from its end down to the lowest word that is not zero, were ever used, if all that was not is
/// zeros. The stack may go away meanwhile; what is gone counts as unused. Takes no lock; one read for each unused word.
pub(crate) fn used(start: u64, end: u64) -> u64 {
    let lowest = (start..end).step_by(8).find(|at| probe::read(*at).is_some_and(|word| word != 0));
    lowest.map_or(0, |at| end - at)
}

/// The watermark of a stack of these bounds whose stack pointer is, or was, `rsp`. Takes no lock.
pub(crate) fn of_stack((start, end): (u64, u64), rsp: u64) -> Watermark {
    let by_rsp = end - rsp.clamp(start, end);
    if KEPT.load(Ordering::Relaxed) {
        Watermark::Bytes(used(start, end).max(by_rsp))
    } else {
        Watermark::AtLeast(by_rsp)
    }
}

/// How much of its stack the calling thread has ever used.
#[must_use]
pub fn watermark() -> Watermark {
    let bounds = super::stack_bounds();
    of_stack(bounds, shield::stack_pointer())
}

/// Runs `f` on each thread in use: number, name, and how much of its stack it has ever used.
pub fn for_each_watermark(mut f: impl FnMut(u32, Name, Result<Watermark, NoWatermark>)) {
    table::for_each_object(|thread| f(thread.number(), thread.name(), of_thread(thread)));
}

impl Handle {
    /// How much of its stack the thread has ever used.
    ///
    /// # Errors
    /// [`NoWatermark`] if it has left its stack, or watermarks are not kept.
    pub fn watermark(&self) -> Result<Watermark, NoWatermark> {
        let watermark = of_thread(self.object())?;
        if self.is_gone() { Err(NoWatermark::NoStack) } else { Ok(watermark) }
    }

    /// Whether the thread has never used more of its stack than this.
    ///
    /// # Errors
    /// [`NoWatermark`] if it has left its stack, or watermarks are not kept.
    pub fn is_within(&self, threshold: Threshold) -> Result<bool, NoWatermark> {
        let (start, end) = self.object().stack_bounds();
        let (Watermark::Bytes(used) | Watermark::AtLeast(used)) = self.watermark()?;
        // A thread has one stack all its life: what has a watermark had these bounds.
        Ok(used <= threshold.of(end - start))
    }
}

/// The thread may run, or end, meanwhile.
fn of_thread(thread: &Thread) -> Result<Watermark, NoWatermark> {
    let bounds = thread.stack_bounds();
    if bounds.1 == 0 {
        return Err(NoWatermark::NoStack);
    }
    if !KEPT.load(Ordering::Relaxed) {
        return Err(NoWatermark::NotKept);
    }
    if core::ptr::eq(thread, cpu::current()) {
        return Ok(watermark());
    }
    let used = used(bounds.0, bounds.1);
    // A stack is left before it is unmapped, and before another thread gets it: what is still the thread's was all the time.
    if thread.stack_bounds() == bounds { Ok(Watermark::Bytes(used)) } else { Err(NoWatermark::NoStack) }
}

#[cfg(test)]
mod tests {
    use super::Threshold::{Bytes, PerCent};

    #[test]
    fn a_threshold_in_hundredths_is_of_the_whole_stack() {
        assert_eq!([Bytes(5).of(4096), PerCent(0).of(4096), PerCent(100).of(4096)], [5, 0, 4096]);
        assert_eq!([PerCent(50).of(8192), PerCent(1).of(4096), PerCent(75).of(16384)], [4096, 41, 12288]);
    }
}
