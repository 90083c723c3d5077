//! Thread objects that their owner keeps: one thread after the other has the object.

use super::builder::SpawnError;
use super::table::{self, Home};
use super::{Thread, sleep, stack, state};
use core::fmt;
use core::sync::atomic::Ordering;

/// An object for one thread at a time, in a static: [`Builder::object`](super::Builder::object) starts a thread in it.
///
/// It can be used again as soon as its thread was joined. What its last thread left behind is cleaned up first: a stack that
/// waits to be reaped is reaped, and an end that was asked for is waited for, if nobody else has a handle to join it by.
///
/// ```no_run
/// use kernel::thread::{Builder, Object, SpawnError};
///
/// static WORKER: Object = Object::new();
///
/// # fn example() -> Result<(), SpawnError> {
/// let first = Builder::new().object(&WORKER).spawn(|| ())?;
/// assert_eq!(Builder::new().object(&WORKER).spawn(|| ()).err(), Some(SpawnError::ObjectInUse));
/// let _ = first.join();
/// Builder::new().object(&WORKER).spawn_detached(|| ())?; // at once
/// # Ok(())
/// # }
/// ```
pub struct Object(Thread);

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Default for Object {
    fn default() -> Self {
        Self::new()
    }
}

impl Object {
    /// An object that no thread has.
    #[must_use]
    pub const fn new() -> Self {
        Self(Thread::new(Home::Owner))
    }

    /// Whether no thread has it, nor what one left behind.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == state::FREE
    }

    /// Takes it for a new thread; cleans up first what waits for nothing else.
    pub(super) fn claim(&'static self) -> Result<&'static Thread, SpawnError> {
        let thread = &self.0;
        let mut turns = 0u32;
        loop {
            // Acquire: pairs with `give_back`; what the thread before did comes before. Nobody takes a DEAD one for anything.
            if thread.state.compare_exchange(state::FREE, state::DEAD, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                table::prepare(thread);
                return Ok(thread);
            }
            let dying = thread.abort_pending() || thread.join.is_done();
            if !dying || thread.is_joinable.load(Ordering::Acquire) {
                return Err(SpawnError::ObjectInUse);
            }
            if thread.join.is_done() {
                // Its stack waits to be reaped, or somebody is at it; what it was to run waits to be dropped.
                stack::free_what_waits();
                table::bury();
            }
            // Several may wait so, and by the time that one has looked it is another thread that has the object: so none of them
            // is noted as the one who joins.
            sleep::give_way_to_all(turns);
            turns = turns.wrapping_add(1);
        }
    }
}
