//! Circles of threads that wait for each other's ends.

use super::{Thread, table};
use core::ptr;

/// Whether `first` waits for an end, that thread for another's, and so on up to `me`. Each says whom it waits for before it
/// looks (sequentially consistent, as the looking is): of several that close a circle one at least sees all of it.
#[inline(always)]
pub(super) fn leads_to(first: &'static Thread, me: &'static Thread) -> bool {
    first.waits_for().is_some() && is_circle(first, me)
}

/// Objects are used again: a walk may go from a thread that waited for another's to one that has that object now. Two walks that
/// meet the same threads are no such mixture, if none of them waits with a limit: each was the object's all the while, and waited.
#[inline(never)]
fn is_circle(first: &'static Thread, me: &'static Thread) -> bool {
    walk(first, me).is_some_and(|once| walk(first, me) == Some(once))
}

/// The way to `me`, if there is one: how many threads, and a sum of their numbers in this order.
fn walk(first: &'static Thread, me: &'static Thread) -> Option<(usize, u64)> {
    let (mut at, mut sum) = (first, 0u64);
    // More threads than there are is a circle of others, who find it themselves.
    for steps in 0..table::live() {
        if ptr::eq(at, me) {
            return Some((steps, sum));
        }
        sum = sum.wrapping_mul(31).wrapping_add(at.number().into());
        at = at.waits_for()?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicBool, Ordering};

    /// One thread joins another's object, time and again, and then another thread, which joins `me`, has that object: at no moment
    /// is there a circle.
    #[test]
    fn an_object_that_is_used_again_closes_no_circle() {
        static OBJECTS: [Thread; 3] = [const { Thread::new(table::Home::Owner) }; 3];
        static OVER: AtomicBool = AtomicBool::new(false);
        let [me, second, third] = &OBJECTS;
        OBJECTS.iter().for_each(table::prepare);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..3_000_000 {
                    second.set_waits_for(Some(third));
                    second.set_waits_for(None);
                    third.set_number(third.number().wrapping_add(1));
                    third.set_waits_for(Some(me));
                    third.set_waits_for(None);
                    third.set_number(third.number().wrapping_add(1));
                }
                OVER.store(true, Ordering::Relaxed);
            });
            let mut told = 0;
            while !OVER.load(Ordering::Relaxed) {
                told += u32::from(leads_to(second, me));
            }
            assert_eq!(told, 0);
        });
        second.set_waits_for(Some(third));
        assert!(!leads_to(second, me));
        third.set_waits_for(Some(me));
        assert!(leads_to(second, me));
    }
}
