//! The hand-over of dead stacks: a thread that ends itself cannot unmap the stack it stands on, so it leaves it here,
//! and the next one that ends (or an idle CPU) takes all that were left.
//!
//! ```text
//!            (1) leave: OffStack<S>                  (2) take_all
//!   stack ───────────────────────────▶ pending ───────────────────────▶ the reaper's ──▶ unmapped, shot down, freed
//!   its CPU has left it                under the lock                   by value, the lock released
//! ```
//! * A stack gets in only as an [`OffStack`], which is made in the switch epilogue alone (invariant I2).
//! * It comes out by value: no stack is reaped twice.
//! * Whoever takes has released the lock before it waits for anybody (invariant I3).
//! * There is room for one stack a CPU, and that is enough: before a CPU leaves a stack it took all that were pending
//!   and was not preempted since, so of all that are pending it left at most one.

use crate::MayWait;
use crate::bug::{self, Bug};
use crate::primitive::{AtomicUsize, Ordering, constructor};

/// A lock that masks interrupts where that matters. The kernel's spinlock on hardware, any mutex on the host.
pub trait Lock<T> {
    /// Wraps `value`.
    fn new(value: T) -> Self;
    /// Runs `f` with the lock held.
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R;

    /// Runs `f` with the lock held, to which the permission to wait is lent meanwhile.
    fn lend<R>(&self, _permit: &mut MayWait, f: impl FnOnce(&mut T) -> R) -> R {
        self.with(f)
    }
}

impl<T> Lock<T> for spin::Mutex<T> {
    fn new(value: T) -> Self {
        Self::new(value)
    }

    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.lock())
    }
}

/// Proof that no CPU stands on the stack `S`.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a stack that is not left for reaping leaks"]
pub struct OffStack<S>(S);

impl<S> OffStack<S> {
    /// States that the CPU that ran on `stack` has left it, for good. To be called by the switch epilogue only: the
    /// code that runs on the CPU's own stack right after the switch.
    pub const fn from_epilogue(stack: S) -> Self {
        Self(stack)
    }

    /// The stack.
    pub fn into_inner(self) -> S {
        self.0
    }
}

/// There was no room: more CPUs leave stacks than the reaper was made for.
#[derive(Debug)]
pub struct Full<S>(pub OffStack<S>);

/// Stacks that wait to be reaped; room for `N`.
#[derive(Debug)]
pub struct Reaper<L, const N: usize> {
    pending: L,
    /// How many are pending, to look without the lock.
    count: AtomicUsize,
}

/// The stacks under the lock.
#[derive(Debug)]
pub struct Pending<S, const N: usize> {
    stacks: [Option<S>; N],
    count: usize,
}

impl<S, const N: usize> Pending<S, N> {
    /// None.
    #[must_use]
    pub const fn none() -> Self {
        Self { stacks: [const { None }; N], count: 0 }
    }

    /// Where the stacks and their number are in memory, for readers outside.
    #[must_use]
    pub const fn places(&self) -> (*const Option<S>, *const usize) {
        (self.stacks.as_ptr(), &raw const self.count)
    }
}

impl<L, const N: usize> Reaper<L, N> {
    constructor! {
        /// A reaper with nothing pending; `pending` wraps [`Pending::none`].
        pub const fn new(pending: L) -> Self {
            Self { pending, count: AtomicUsize::new(0) }
        }
    }

    /// (1) Leaves a stack.
    ///
    /// # Errors
    /// [`Full`] gives the stack back if there is no room, which the module's text rules out.
    pub fn leave<S>(&self, stack: OffStack<S>) -> Result<(), Full<S>>
    where
        L: Lock<Pending<S, N>>,
    {
        self.pending.with(|pending| {
            if pending.count == N {
                return Err(Full(stack));
            }
            if bug::armed(Bug::LostPending) && pending.count == 1 {
                pending.stacks[0] = Some(stack.into_inner());
                return Ok(());
            }
            pending.stacks[pending.count] = Some(stack.into_inner());
            pending.count += 1;
            self.count.store(pending.count, Ordering::Relaxed);
            Ok(())
        })
    }

    /// Runs `f` on what is pending, with the lock held.
    pub fn with_pending<S, R>(&self, f: impl FnOnce(&Pending<S, N>) -> R) -> R
    where
        L: Lock<Pending<S, N>>,
    {
        self.pending.with(|pending| f(pending))
    }

    /// How many are pending, at a glance: no order is promised, for deciding whether to take.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// (2) Takes all that are pending, and gives each to `f`, with the lock held: `f` puts it where it is the caller's alone.
    #[inline(always)]
    pub fn take_all<S>(&self, permit: &mut MayWait, f: impl FnMut(S))
    where
        L: Lock<Pending<S, N>>,
    {
        self.pending.lend(permit, |pending| self.empty(pending, f));
    }

    #[inline(always)]
    fn empty<S>(&self, pending: &mut Pending<S, N>, mut f: impl FnMut(S)) {
        while let Some(last) = pending.count.checked_sub(1) {
            pending.count = last;
            if let Some(stack) = pending.stacks.get_mut(last).and_then(Option::take) {
                f(stack);
            }
        }
        self.count.store(0, Ordering::Relaxed);
    }

    /// As [`take_all`](Self::take_all), and runs `then` before it gives the lock up. Only the seeded bug `shootdown-under-lock` wants
    /// this.
    #[cfg(feature = "seeded-bugs")]
    pub fn take_all_under_lock<S>(&self, f: impl FnMut(S), then: impl FnOnce())
    where
        L: Lock<Pending<S, N>>,
    {
        self.pending.with(|pending| {
            self.empty(pending, f);
            then();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    type Simple<const N: usize> = Reaper<spin::Mutex<Pending<u32, N>>, N>;

    fn reaper<const N: usize>() -> Simple<N> {
        Reaper::new(spin::Mutex::new(Pending::none()))
    }

    fn take_all<const N: usize>(reaper: &Simple<N>) -> Vec<u32> {
        let mut taken = Vec::new();
        reaper.take_all(&mut MayWait::checked(), |stack| taken.push(stack));
        taken
    }

    #[test]
    fn what_is_left_is_taken_once() {
        let reaper = reaper::<4>();
        for stack in 0..4 {
            reaper.leave(OffStack::from_epilogue(stack)).unwrap();
        }
        assert_eq!(reaper.count(), 4);
        assert_eq!(take_all(&reaper), [3, 2, 1, 0]);
        assert_eq!((reaper.count(), take_all(&reaper).len()), (0, 0));
    }

    #[test]
    fn a_full_reaper_gives_the_stack_back() {
        let reaper = reaper::<1>();
        reaper.leave(OffStack::from_epilogue(7)).unwrap();
        assert_eq!(reaper.leave(OffStack::from_epilogue(8)).unwrap_err().0, OffStack::from_epilogue(8));
        assert_eq!(take_all(&reaper), [7]);
    }

    #[test]
    fn many_cpus_that_take_before_they_leave_never_fill_it_and_lose_nothing() {
        const CPUS: usize = 8;
        const EACH: u32 = 20_000;
        let reaper = reaper::<CPUS>();
        let seen = Mutex::new(vec![0u8; CPUS * EACH as usize]);
        let note = |batch: Vec<u32>| {
            let mut seen = seen.lock().unwrap();
            batch.iter().for_each(|stack| seen[*stack as usize] += 1);
        };
        std::thread::scope(|scope| {
            for cpu in 0..CPUS as u32 {
                let (reaper, note) = (&reaper, &note);
                scope.spawn(move || {
                    for stack in 0..EACH {
                        note(take_all(reaper));
                        reaper.leave(OffStack::from_epilogue(cpu * EACH + stack)).unwrap();
                    }
                });
            }
        });
        note(take_all(&reaper));
        assert!(seen.lock().unwrap().iter().all(|times| *times == 1));
    }
}
