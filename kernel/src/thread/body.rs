//! What a thread runs, and the place for its value: inside the thread object, if it fits, so that a spawn allocates nothing.
//!
//! ```text
//!   Waiting(f) ──(1) run: f is moved out──▶ Running ──(2) f returns──▶ Done(value) ──(3) join takes the value──▶ Running
//! ```
//! A thread that ends itself, or is ended, in (1) stays Running: what `f` owned was on its stack. One that never ran is
//! Waiting still, and a value that nobody took is Done: then there is something to drop, and [`Body::holds`] says so.

use crate::cpu::cell::Own;
use alloc::alloc::{alloc, dealloc};
use core::alloc::Layout;
use core::cell::UnsafeCell;
use core::mem::{MaybeUninit, needs_drop};
use core::ptr;

/// Bytes of a closure, or of its value, that need no allocation.
const INLINE: usize = 88;

#[repr(C, align(16))]
struct Storage(MaybeUninit<[u8; INLINE + 8]>);

/// What a thread runs. Whoever may touch it is said by the life of the thread: its spawner, then the thread itself, then its
/// joiner or the last user of its object.
pub(super) struct Body {
    storage: UnsafeCell<Storage>,
    operations: UnsafeCell<&'static Operations>,
    /// Something in it has to be dropped.
    holds: Own<bool>,
}

/// What can be done with a [`Task`] of types that only its spawner knew. Each takes the address of the storage.
struct Operations {
    /// (1), (2). Whether there is something to drop then.
    run: unsafe fn(*mut ()) -> bool,
    /// (3) Moves the value, if there is one, to an `Option` of its type.
    take: unsafe fn(*mut (), *mut ()),
    /// Drops whatever there is.
    drop: unsafe fn(*mut ()),
    /// There is something to drop whatever the state is: an allocation.
    allocated: bool,
}

/// No heap memory is left for what a thread is to run.
pub(super) struct OutOfMemory;

impl Body {
    pub(super) const fn none() -> Self {
        Self {
            storage: UnsafeCell::new(Storage(MaybeUninit::uninit())),
            operations: UnsafeCell::new(&NOTHING),
            holds: Own::<bool>::new(false),
        }
    }

    /// Whether something in it has to be dropped, by [`clear`](Self::clear).
    pub(super) fn holds(&self) -> bool {
        self.holds.get()
    }

    /// Puts `f` in.
    ///
    /// # Errors
    /// [`OutOfMemory`] if it is large, and there is no memory for it; `f` is dropped then.
    ///
    /// # Safety
    /// Nobody else uses it, and it holds nothing.
    pub(super) unsafe fn set<F: FnOnce() -> T + Send, T: Send>(&self, f: F) -> Result<(), OutOfMemory> {
        let storage = self.storage.get().cast::<()>();
        let fits = size_of::<Task<F, T>>() <= size_of::<Storage>() && align_of::<Task<F, T>>() <= align_of::<Storage>();
        // SAFETY: the storage is large enough and aligned for what is written, a task or the address of one.
        unsafe {
            if fits {
                storage.cast::<Task<F, T>>().write(Task::Waiting(f));
                *self.operations.get() = &Task::<F, T>::INLINE;
                self.holds.set(needs_drop::<F>());
            } else {
                let task = alloc(Layout::new::<Task<F, T>>()).cast::<Task<F, T>>();
                if task.is_null() {
                    return Err(OutOfMemory);
                }
                task.write(Task::Waiting(f));
                storage.cast::<*mut Task<F, T>>().write(task);
                *self.operations.get() = &Task::<F, T>::ALLOCATED;
                self.holds.set(true);
            }
        }
        Ok(())
    }

    /// (1), (2) Runs what was put in.
    ///
    /// # Safety
    /// Called by the thread, once.
    pub(super) unsafe fn run(&self) {
        // SAFETY: nobody else uses it now.
        let operations = unsafe { *self.operations.get() };
        self.holds.set(operations.allocated);
        // SAFETY: as above; the operations are of the type that is in the storage.
        let holds = unsafe { (operations.run)(self.storage.get().cast()) };
        self.holds.set(operations.allocated || holds);
    }

    /// (3) Takes the value, of the type that the function has returned.
    ///
    /// # Safety
    /// The thread has ended, and what was put in gives a `T`. Called by the joiner.
    pub(super) unsafe fn take<T>(&self) -> Option<T> {
        let mut value = None;
        // SAFETY: by the caller's promise.
        let operations = unsafe { *self.operations.get() };
        // SAFETY: as above.
        unsafe { (operations.take)(self.storage.get().cast(), (&raw mut value).cast()) };
        self.holds.set(operations.allocated);
        value
    }

    /// Drops what is in it. May run anything, so it is done by a thread.
    ///
    /// # Safety
    /// The object has no other user.
    pub(super) unsafe fn clear(&self) {
        if self.holds.get() {
            self.holds.set(false);
            // SAFETY: by the caller's promise; there is something to drop, and it is dropped once.
            unsafe { ((*self.operations.get()).drop)(self.storage.get().cast()) }
        }
    }
}

static NOTHING: Operations = Operations { run: |_| false, take: |_, _| (), drop: |_| (), allocated: false };

enum Task<F, T> {
    Waiting(F),
    Running,
    Done(T),
}

impl<F: FnOnce() -> T, T> Task<F, T> {
    const INLINE: Operations = Operations {
        // SAFETY: the storage holds a task.
        run: |storage| unsafe { Self::run(storage.cast()) },
        // SAFETY: as above, and `out` is an `Option<T>`.
        take: |storage, out| unsafe { Self::take(storage.cast(), out.cast()) },
        // SAFETY: as above; it is not used again.
        drop: |storage| unsafe { storage.cast::<Self>().drop_in_place() },
        allocated: false,
    };

    const ALLOCATED: Operations = Operations {
        // SAFETY: the storage holds the address of a task.
        run: |storage| unsafe { Self::run(*storage.cast()) },
        // SAFETY: as above, and `out` is an `Option<T>`.
        take: |storage, out| unsafe { Self::take(*storage.cast(), out.cast()) },
        // SAFETY: as above; it was allocated with this layout, and is not used again.
        drop: |storage| unsafe {
            let task = *storage.cast::<*mut Self>();
            task.drop_in_place();
            dealloc(task.cast(), Layout::new::<Self>());
        },
        allocated: true,
    };

    /// # Safety
    /// `task` is one that nobody else uses.
    unsafe fn run(task: *mut Self) -> bool {
        // SAFETY: by the caller's promise. Nothing borrows the task while `f` runs.
        unsafe {
            let Self::Waiting(f) = ptr::replace(task, Self::Running) else { return false };
            let value = f();
            task.write(Self::Done(value)); // over Running, which has nothing to drop
        }
        needs_drop::<T>()
    }

    /// # Safety
    /// `task` is one that nobody else uses; `out` can be written.
    unsafe fn take(task: *mut Self, out: *mut Option<T>) {
        // SAFETY: by the caller's promise.
        unsafe {
            if let Self::Done(value) = ptr::replace(task, Self::Running) {
                *out = Some(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_value_is_taken_once_and_nothing_is_left() {
        for size in [1, 1000] {
            let body = Body::none();
            let owned = Arc::new(());
            let (captured, bytes) = (owned.clone(), vec![7u8; size]);
            let large = [1u64; 40];
            // SAFETY: this test alone uses it, in the order of a thread's life.
            unsafe {
                assert!(body.set(move || (captured, bytes.len() as u64 + large[3])).is_ok());
                body.run();
                let (arc, sum) = body.take::<(Arc<()>, u64)>().unwrap();
                assert_eq!((Arc::strong_count(&arc), sum), (2, size as u64 + 1));
                drop(arc);
                assert!(body.take::<(Arc<()>, u64)>().is_none());
                body.clear();
            }
            assert_eq!((Arc::strong_count(&owned), body.holds()), (1, false));
        }
    }

    #[test]
    fn what_never_ran_and_what_nobody_took_is_dropped() {
        let owned = Arc::new(());
        for run in [false, true] {
            let body = Body::none();
            let captured = owned.clone();
            // SAFETY: as above.
            unsafe {
                assert!(body.set(move || captured).is_ok());
                assert!(body.holds());
                if run {
                    body.run();
                    assert!(body.holds());
                }
                body.clear();
            }
            assert_eq!(Arc::strong_count(&owned), 1);
        }
    }

    #[test]
    fn what_owns_nothing_holds_nothing() {
        let body = Body::none();
        // SAFETY: as above.
        unsafe {
            assert!(body.set(|| 5u64).is_ok());
            assert!(!body.holds());
            body.run();
            assert_eq!((body.holds(), body.take::<u64>()), (false, Some(5)));
        }
    }
}
