//! In which order locks were seen to be taken, and whether two such orders close a circle.
//!
//! The idea is Linux's lockdep (`Documentation/locking/lockdep-design.rst`): what is ordered is not locks but their
//! classes, here their names; and an order is an error the first time that its opposite was *seen*, in whatever thread,
//! on whatever CPU and however long ago, though the unlucky moment in which the two meet never came.
//!
//! ```text
//!   taken while a is held: b              before[b] = {a}        edges[a][b] = where each of the two was taken
//!   taken while b is held: c              before[c] = {b}
//!   taken while c is held: a       (1)    before[a] = {c}        (2) from c backwards: b, a. A circle.
//! ```
//! A table takes no lock and waits for nobody: it is used while locks are taken, and an NMI may find it in any state.
//! Whoever sees an order first writes it down (1), then looks for a way back (2). Both are sequentially consistent: of
//! two CPUs that see opposite orders at the same moment, one at least finds the other's.

use super::site::{Place, Site};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

/// Classes that can be told apart, and one that is none: a set of them is a word.
pub(super) const CLASSES: usize = 64;

/// A class: 1 to 63. 0 is a lock whose class nobody has asked for yet.
pub(crate) type Class = u8;

/// The orders seen up to now.
pub(super) struct Order {
    names: [Name; CLASSES],
    /// For each class, those that were held when one of it was taken.
    before: [AtomicU64; CLASSES],
    edges: [[Edge; CLASSES]; CLASSES],
}

/// Where an order was first seen. If two CPUs see it first, one's places or the other's are kept.
struct Edge {
    outer: Site,
    inner: Site,
}

impl Order {
    pub(super) const fn new() -> Self {
        Self {
            names: [const { Name::new() }; CLASSES],
            before: [const { AtomicU64::new(0) }; CLASSES],
            edges: [const { [const { Edge { outer: Site::new(), inner: Site::new() } }; CLASSES] }; CLASSES],
        }
    }

    /// The class with this name; `None` if there are too many names.
    pub(super) fn class_of(&self, name: &'static str) -> Option<Class> {
        (1..CLASSES).find(|class| self.names[*class].is_or_becomes(name)).map(|class| class as Class)
    }

    /// Whether `inner` was seen before with all of the set `held` in hand.
    #[inline(always)]
    pub(super) fn knows(&self, held: u64, inner: Class) -> bool {
        // Relaxed: an order that another CPU has just seen is noted once more, and that is all.
        let before = self.before[usize::from(inner) % CLASSES].load(Ordering::Relaxed);
        before & held == held
    }

    /// Notes that `inner` is taken, at the second place, while `outer` is held, taken at the first.
    ///
    /// # Errors
    /// The circle that this closes.
    pub(super) fn note(&self, outer: (Class, Place), inner: (Class, Place)) -> Result<(), Cycle<'_>> {
        let (from, to) = (usize::from(outer.0), usize::from(inner.0));
        if self.before[to].load(Ordering::Relaxed) >> from & 1 == 1 {
            return Ok(());
        }
        for (site, place) in [(&self.edges[from][to].outer, outer.1), (&self.edges[from][to].inner, inner.1)] {
            place.0.into_iter().for_each(|place| site.set(place));
        }
        // (1) The places are there before the bit says so.
        self.before[to].fetch_or(1 << from, Ordering::SeqCst);
        self.way(to, from).map_or(Ok(()), Err)
    }

    /// (2) Whether there are orders that lead from `first` to `last`: backwards from `last`, each class once.
    fn way(&self, first: usize, last: usize) -> Option<Cycle<'_>> {
        let mut next = [0; CLASSES];
        let (mut seen, mut open) = (1u64 << last, 1u64 << last);
        while open != 0 {
            let class = open.trailing_zeros() as usize;
            open &= open - 1;
            let mut new = self.before[class].load(Ordering::SeqCst) & !seen;
            seen |= new;
            open |= new;
            while new != 0 {
                next[new.trailing_zeros() as usize] = class as Class;
                new &= new - 1;
            }
        }
        (seen >> first & 1 == 1).then_some(Cycle { order: self, next, first, last })
    }
}

/// Orders that cannot all be kept: from `first`, by `next`, to `last`, and from there to `first` again.
pub(super) struct Cycle<'o> {
    order: &'o Order,
    next: [Class; CLASSES],
    first: usize,
    last: usize,
}

impl fmt::Debug for Cycle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Cycle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let edge = |f: &mut fmt::Formatter<'_>, from: usize, to: usize| {
            let Edge { outer, inner } = &self.order.edges[from][to];
            let (before, then) = (self.order.names[from].get(), self.order.names[to].get());
            write!(f, "'{before}' (taken at {}), then '{then}' (taken at {})", outer.get(), inner.get())
        };
        edge(f, self.last, self.first)?;
        f.write_str("; but seen before:")?;
        let mut at = self.first;
        while at != self.last {
            let to = usize::from(self.next[at]);
            f.write_str(if at == self.first { " " } else { "; " })?;
            edge(f, at, to)?;
            at = to;
        }
        Ok(())
    }
}

/// A cell for a name that is set once. Pointer and length are in one word, so that one compare-and-swap sets both and
/// nobody ever waits for the second half: addresses have 48 bits that say anything, and names are short.
struct Name(AtomicU64);

impl Name {
    const LENGTH_BITS: u32 = 16;

    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Whether this is `name`, now that it may have become it.
    fn is_or_becomes(&self, name: &'static str) -> bool {
        let length = name.len().min((1 << Self::LENGTH_BITS) - 1);
        let word = (name.as_ptr().expose_provenance() as u64) << Self::LENGTH_BITS | length as u64;
        // Relaxed: what it points to was there before the first instruction.
        let there = match self.0.load(Ordering::Relaxed) {
            0 => self.0.compare_exchange(0, word, Ordering::Relaxed, Ordering::Relaxed).map_or_else(|w| w, |_| word),
            there => there,
        };
        there == word || self.get() == name
    }

    fn get(&self) -> &'static str {
        let word = self.0.load(Ordering::Relaxed);
        if word == 0 {
            return "";
        }
        // Bit 47 is all the bits above it.
        let start = word.cast_signed() >> Self::LENGTH_BITS;
        let start = core::ptr::with_exposed_provenance(start.cast_unsigned() as usize);
        // SAFETY: pointer and length of a `&'static str`, whose provenance was exposed; one too long to be told whole
        // may be cut inside a character, hence the check below.
        let bytes = unsafe { core::slice::from_raw_parts(start, (word & 0xffff) as usize) };
        core::str::from_utf8(bytes).unwrap_or("?")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::panic::Location;

    #[track_caller]
    fn here() -> Place {
        Place(Some(Location::caller()))
    }

    fn classes<const N: usize>(order: &Order, names: [&'static str; N]) -> [Class; N] {
        names.map(|name| order.class_of(name).unwrap())
    }

    #[test]
    fn a_name_is_a_class_wherever_its_letters_are() {
        let order = Order::new();
        let twice: &'static str = String::from("frames").leak();
        assert_eq!(classes(&order, ["heap", "frames", "heap", twice]), [1, 2, 1, 2]);
        assert_eq!((order.names[2].get(), order.names[3].get()), ("frames", ""));
    }

    #[test]
    fn too_many_names_are_noticed_and_those_known_stay() {
        let order = Order::new();
        let name = |n: usize| -> &'static str { format!("lock {n}").leak() };
        assert!((1..CLASSES).all(|n| order.class_of(name(n)) == Some(n as Class)));
        assert_eq!(order.class_of("one more"), None);
        assert_eq!(order.class_of("lock 63"), Some(63));
    }

    #[test]
    fn an_order_is_known_once_it_was_seen() {
        let order = Order::new();
        let [a, b] = classes(&order, ["a", "b"]);
        assert!(order.knows(0, b) && !order.knows(1 << a, b));
        order.note((a, here()), (b, here())).unwrap();
        assert!(order.knows(1 << a, b) && !order.knows(1 << b, a));
        order.note((a, here()), (b, here())).unwrap();
    }

    #[test]
    fn the_opposite_order_is_told_with_all_four_places() {
        let order = Order::new();
        let [a, b] = classes(&order, ["a", "b"]);
        let (line, places) = (line!(), [here(), here(), here(), here()]);
        order.note((a, places[0]), (b, places[1])).unwrap();
        let told = order.note((b, places[2]), (a, places[3])).unwrap_err().to_string();
        let at = format!("(taken at {}:{line})", file!());
        assert_eq!(told, format!("'b' {at}, then 'a' {at}; but seen before: 'a' {at}, then 'b' {at}"));
    }

    #[test]
    fn a_circle_is_found_over_any_number_of_classes() {
        let order = Order::new();
        let classes: Vec<Class> = (1..CLASSES).map(|n| order.class_of(format!("{n}").leak()).unwrap()).collect();
        // Not in a row: the way is not the order of the numbers.
        let ring: Vec<Class> = (0..63).map(|n| classes[n * 5 % 63]).collect();
        for pair in ring.windows(2) {
            order.note((pair[0], here()), (pair[1], here())).unwrap();
        }
        // The same way again, and a short cut, close nothing.
        order.note((ring[0], here()), (ring[40], here())).unwrap();
        let told = order.note((ring[62], here()), (ring[0], here())).unwrap_err().to_string();
        // The short way: 0 to 40, then one by one.
        assert_eq!(told.matches(", then ").count(), 1 + 1 + 22, "{told}");
    }

    /// Many times, since it is a race: each pair of classes in some tables, the two threads in step.
    #[test]
    fn of_two_cpus_that_see_opposite_orders_at_once_one_says_so() {
        use core::sync::atomic::{AtomicBool, AtomicUsize};
        const PAIRS: usize = CLASSES / 2 - 1;
        const TABLES: usize = 100;
        let tables: Vec<Order> = (0..TABLES).map(|_| Order::new()).collect();
        let arrived = AtomicUsize::new(0);
        let found: Vec<AtomicBool> = (0..PAIRS * TABLES).map(|_| AtomicBool::new(false)).collect();
        let see = |opposite: bool| {
            for (round, found) in found.iter().enumerate() {
                let (table, pair) = (&tables[round / PAIRS], (round % PAIRS) as Class * 2);
                let (a, b) = if opposite { (pair + 2, pair + 1) } else { (pair + 1, pair + 2) };
                arrived.fetch_add(1, Ordering::SeqCst);
                while arrived.load(Ordering::SeqCst) < 2 * (round + 1) {
                    std::thread::yield_now();
                }
                if table.note((a, here()), (b, here())).is_err() {
                    found.store(true, Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| see(true));
            see(false);
        });
        assert!(found.iter().all(|found| found.load(Ordering::Relaxed)));
    }
}
