//! Thread-locals: words of which every thread has its own, 0 at first.
//!
//! The words lie in the thread object, with the number of the thread that they were set by. In a thread of another number they
//! count as zeros, so that an object's next thread finds none of them, and a spawn does nothing for it. (A number comes again after
//! 2^32 threads.)

use crate::cpu;
use crate::cpu::cell::Own;
use crate::sync::SpinLock;
use core::fmt;
use core::sync::atomic::{AtomicU8, Ordering};

/// How many there can be.
const MOST: usize = 4;

/// A word of each thread's own.
///
/// ```no_run
/// use kernel::thread::{Local, TooManyLocals};
///
/// static DEPTH: Local = Local::new();
///
/// # fn example() -> Result<(), TooManyLocals> {
/// DEPTH.set(DEPTH.get() + 1)?;
/// # Ok(())
/// # }
/// ```
///
/// A handler has those of the thread that it interrupted, to look at.
#[derive(Debug)]
pub struct Local {
    /// Its place in [`Words`] plus one, 0 before it is first set.
    place: AtomicU8,
}

/// No more than four of them can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyLocals;

impl fmt::Display for TooManyLocals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there are {MOST} thread-locals already")
    }
}

impl core::error::Error for TooManyLocals {}

/// Places that are taken.
static TAKEN: SpinLock<u8> = SpinLock::new("locals", 0);

impl Default for Local {
    fn default() -> Self {
        Self::new()
    }
}

impl Local {
    /// One that is 0 in every thread. It is meant to be a static: a place that it took is not given back.
    #[must_use]
    pub const fn new() -> Self {
        Self { place: AtomicU8::new(0) }
    }

    /// The calling thread's.
    #[must_use]
    pub fn get(&self) -> u64 {
        let thread = cpu::current();
        match self.place.load(Ordering::Relaxed) {
            0 => 0,
            _ if thread.locals.of.get() != thread.number() => 0,
            place => thread.locals.words[usize::from(place) - 1].get(),
        }
    }

    /// Sets the calling thread's.
    ///
    /// # Errors
    /// [`TooManyLocals`] if there is no place for one more.
    pub fn set(&self, word: u64) -> Result<(), TooManyLocals> {
        let place = self.place()?;
        let (locals, number) = (&cpu::current().locals, cpu::current().number());
        if locals.of.get() != number {
            locals.words.iter().for_each(|word| word.set(0));
            locals.of.set(number);
        }
        locals.words[place].set(word);
        Ok(())
    }

    fn place(&self) -> Result<usize, TooManyLocals> {
        let found = self.place.load(Ordering::Relaxed);
        if found != 0 {
            return Ok(usize::from(found) - 1);
        }
        // Of several who come first at once, one takes a place.
        let mut taken = TAKEN.lock();
        let found = self.place.load(Ordering::Relaxed);
        if found != 0 {
            return Ok(usize::from(found) - 1);
        }
        if usize::from(*taken) == MOST {
            return Err(TooManyLocals);
        }
        *taken += 1;
        self.place.store(*taken, Ordering::Relaxed);
        Ok(usize::from(*taken) - 1)
    }
}

/// A thread's words.
pub(super) struct Words {
    /// The number of the thread that set them.
    of: Own<u32>,
    words: [Own<u64>; MOST],
}

impl Words {
    pub(super) const fn none() -> Self {
        Self { of: Own::<u32>::new(0), words: [const { Own::<u64>::new(0) }; MOST] }
    }
}
