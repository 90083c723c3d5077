//! The rings: one a CPU, of as many entries as the command line says, in one piece of memory that is set aside at boot,
//! so that a reader outside finds all of it by one table.

use crate::cpu::cell::Own;
use crate::mem::PAGE_SIZE;
use crate::mem::paging::hhdm;
use core::arch::asm;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering, compiler_fence, fence};
use wire::cmdline::Trace;
use wire::trace::entry::{BYTES, HEAD_STRIDE, WORDS};
use wire::trace::{Entry, Rings};

/// Events a ring holds unless the command line says otherwise: 128 KiB a CPU, and in guest RAM behind a file, where the
/// host comes by a few hundred times a second, 4 MiB.
const ENTRIES: u64 = 4096;
const ENTRIES_RAM: u64 = 1 << 17;

/// The table for readers outside; all zeros until the rings are there.
#[cfg_attr(target_os = "none", unsafe(no_mangle))]
static PALISADE_TRACE: [AtomicU64; Rings::WORDS] = [const { AtomicU64::new(0) }; Rings::WORDS];

/// A CPU's ring.
#[derive(Debug)]
pub(crate) struct Ring {
    /// Entries that were ever begun. Only this CPU writes it.
    head: AtomicPtr<AtomicU64>,
    entries: AtomicPtr<[AtomicU64; WORDS]>,
    mask: AtomicU64,
    /// From this number of entries on, whoever writes one has to see what is to be done besides: the ring has to be
    /// relieved before more come, or an interrupt was put off. `u64::MAX` for nothing.
    due: AtomicU64,
    /// The next entry to be sent. Belongs to whoever has the line.
    sent: AtomicU64,
    /// The head after the latest tick that was recorded, and ticks since then that were not.
    pub(super) after_tick: Own<u64>,
    pub(super) quiet_ticks: Own<u32>,
    /// An interrupt wanted the CPU while an event was written.
    pub(super) put_off: Own<bool>,
    /// A panic's NMI wanted to stop the CPU while an event was written.
    pub(super) stop: Own<bool>,
    lossless: Own<bool>,
}

// Offsets for `write`.
pub(super) const HEAD: usize = offset_of!(Ring, head);
pub(super) const ENTRIES_AT: usize = offset_of!(Ring, entries);
pub(super) const MASK: usize = offset_of!(Ring, mask);
pub(super) const DUE: usize = offset_of!(Ring, due);

/// What became of an entry that was looked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It is this.
    Entry(Entry),
    /// It is not written yet.
    NotYet,
    /// Later ones have taken its place.
    Overwritten,
}

impl Ring {
    pub(crate) const fn new() -> Self {
        Self {
            head: AtomicPtr::new(ptr::null_mut()),
            entries: AtomicPtr::new(ptr::null_mut()),
            mask: AtomicU64::new(0),
            due: AtomicU64::new(u64::MAX),
            sent: AtomicU64::new(0),
            after_tick: Own::<u64>::new(u64::MAX),
            quiet_ticks: Own::<u32>::new(0),
            put_off: Own::<bool>::new(false),
            stop: Own::<bool>::new(false),
            lossless: Own::<bool>::new(false),
        }
    }

    fn head_cell(&self) -> Option<&AtomicU64> {
        // SAFETY: null, or set by `attach` to a cell that is there for ever.
        unsafe { self.head.load(Ordering::Relaxed).as_ref() }
    }

    /// Entries that were ever begun.
    pub(crate) fn head(&self) -> u64 {
        self.head_cell().map_or(0, |head| head.load(Ordering::Acquire))
    }

    /// Takes the next place; on the ring's CPU, which has a ring. One instruction, so an interrupt or an NMI that comes
    /// takes another one; no lock, since no other CPU takes any.
    #[inline(always)]
    pub(super) fn take(&self) -> u64 {
        let mut index = 1u64;
        // SAFETY: recording is on only when every CPU has its ring. The compiler takes it for a write to any memory.
        unsafe { asm!("xadd [{}], {}", in(reg) self.head.load(Ordering::Relaxed), inout(reg) index, options(nostack)) };
        index
    }

    /// Fills the place with the number `index`.
    #[inline(always)]
    pub(super) fn fill(&self, index: u64, entry: &Entry) {
        let [time, head, who, b] = entry.words(index);
        // SAFETY: as above; the place is inside the ring by the mask.
        let place =
            unsafe { &*self.entries.load(Ordering::Relaxed).add((index & self.mask.load(Ordering::Relaxed)) as usize) };
        place[0].store(time, Ordering::Relaxed);
        place[2].store(who, Ordering::Relaxed);
        place[3].store(b, Ordering::Relaxed);
        // Release: pairs with the acquire in `find`; who sees the stamp sees the rest.
        place[1].store(head, Ordering::Release);
    }

    /// The entry with the number `index`, which was begun.
    pub(super) fn find(&self, index: u64) -> Found {
        // SAFETY: as in `fill`; an entry that was begun has a ring.
        let place =
            unsafe { &*self.entries.load(Ordering::Relaxed).add((index & self.mask.load(Ordering::Relaxed)) as usize) };
        let head = place[1].load(Ordering::Acquire);
        let words = [&place[0], &place[2], &place[3]].map(|word| word.load(Ordering::Relaxed));
        let entry = Entry::from_words([words[0], head, words[1], words[2]], index);
        // A writer takes its place in the head before it writes there: if the head has not come round, nothing that was
        // read above is of a later entry. The fence keeps the readings before this one.
        fence(Ordering::Acquire);
        if self.head() > index + self.capacity() {
            return Found::Overwritten;
        }
        entry.map_or(Found::NotYet, Found::Entry)
    }

    /// Whether every place that was taken is filled, of the latest ones: what interrupts the filling of one takes only
    /// so many more.
    pub(super) fn is_settled(&self) -> bool {
        const NESTED: u64 = 256;
        let head = self.head();
        let all = head.saturating_sub(NESTED.min(self.capacity()))..head;
        all.into_iter().all(|index| self.find(index) != Found::NotYet)
    }

    /// Entries that the ring holds.
    pub(super) fn capacity(&self) -> u64 {
        self.mask.load(Ordering::Relaxed) + 1
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(super) fn set_sent(&self, index: u64) {
        self.sent.store(index, Ordering::Relaxed);
        // What the ring's CPU was told to do besides is left to it.
        let due = self.next_due();
        let _ = self.due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| (now != 0).then_some(due));
    }

    /// Has whoever writes an event look whether something has to be done besides.
    pub(super) fn make_due(&self) {
        self.due.store(0, Ordering::Relaxed);
    }

    /// That is done now; on the ring's CPU.
    pub(super) fn renew_due(&self) {
        self.due.store(self.next_due(), Ordering::Relaxed);
    }

    fn next_due(&self) -> u64 {
        if self.lossless.get() { self.sent() + self.capacity() / 4 * 3 } else { u64::MAX }
    }

    /// Whether the ring has to be relieved.
    #[inline(always)]
    pub(super) fn is_due(&self, index: u64) -> bool {
        index >= self.due.load(Ordering::Relaxed)
    }
}

/// Bytes of memory that the rings of so many CPUs take.
pub(crate) fn bytes(trace: Trace, entries: u32, cpus: usize) -> u64 {
    match trace {
        Trace::Off => 0,
        _ => heads_bytes(cpus) + cpus as u64 * entries_of(trace, entries) * BYTES as u64,
    }
}

fn heads_bytes(cpus: usize) -> u64 {
    (cpus as u64 * HEAD_STRIDE).next_multiple_of(PAGE_SIZE)
}

fn entries_of(trace: Trace, asked: u32) -> u64 {
    match asked {
        0 if trace == Trace::Ram => ENTRIES_RAM,
        0 => ENTRIES,
        asked => asked.into(),
    }
}

/// Makes the rings of `cpus` CPUs out of the memory at `physical`, which has [`bytes`] bytes, all zero. Each CPU attaches
/// to its own by [`attach`].
pub(crate) fn init(trace: Trace, entries: u32, cpus: usize, physical: u64) {
    if trace == Trace::Off {
        return;
    }
    let entries = entries_of(trace, entries);
    let rings_physical = physical + heads_bytes(cpus);
    let table = Rings {
        magic: Rings::MAGIC,
        version: wire::VERSION.into(),
        tsc_hz: crate::time::tsc_hz(),
        cpus: cpus as u64,
        entries,
        heads: hhdm(physical),
        rings: hhdm(rings_physical),
        heads_physical: physical,
        rings_physical,
    };
    for (cell, word) in PALISADE_TRACE.iter().zip(words(&table)).rev() {
        cell.store(word, Ordering::Release); // the magic last
    }
}

const fn words(table: &Rings) -> [u64; Rings::WORDS] {
    let Rings { magic, version, tsc_hz, cpus, entries, heads, rings, heads_physical, rings_physical } = *table;
    [magic, version, tsc_hz, cpus, entries, heads, rings, heads_physical, rings_physical]
}

/// The table, if the rings are there.
pub(crate) fn table() -> Option<[u64; Rings::WORDS]> {
    let words = core::array::from_fn(|at| PALISADE_TRACE[at].load(Ordering::Acquire));
    Rings::from_words(words).map(|_| words)
}

/// Whether the rings are there.
pub(super) fn is_there() -> bool {
    table().is_some()
}

/// Gives the CPU with the number `cpu` its ring.
pub(crate) fn attach(ring: &Ring, cpu: usize, lossless: bool) {
    let Some(table) = table().and_then(Rings::from_words) else { return };
    assert!((cpu as u64) < table.cpus, "there is no ring for {cpu}");
    ring.mask.store(table.entries - 1, Ordering::Relaxed);
    ring.entries.store((table.rings + cpu as u64 * table.entries * BYTES as u64) as *mut _, Ordering::Relaxed);
    ring.head.store((table.heads + cpu as u64 * HEAD_STRIDE) as *mut _, Ordering::Relaxed);
    ring.lossless.set(lossless);
    ring.renew_due();
    compiler_fence(Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::trace::Event;

    fn ring(entries: u64) -> Ring {
        let ring = Ring::new();
        let places: Vec<[AtomicU64; WORDS]> = (0..entries).map(|_| Default::default()).collect();
        ring.entries.store(Box::leak(places.into_boxed_slice()).as_mut_ptr(), Ordering::Relaxed);
        ring.head.store(Box::leak(Box::new(AtomicU64::new(0))), Ordering::Relaxed);
        ring.mask.store(entries - 1, Ordering::Relaxed);
        ring
    }

    const fn entry(value: u64) -> Entry {
        Entry { time: value, thread: 1, event: Event::Mark { mark: 2, value } }
    }

    #[test]
    fn entries_are_found_until_they_are_overwritten() {
        let ring = ring(64);
        for value in 0..100 {
            let index = ring.take();
            assert_eq!(index, value);
            ring.fill(index, &entry(value));
        }
        assert_eq!(ring.find(35), Found::Overwritten);
        for index in 36..100 {
            assert_eq!(ring.find(index), Found::Entry(entry(index)));
        }
    }

    #[test]
    fn a_place_that_is_taken_and_not_filled_is_not_an_entry() {
        let ring = ring(64);
        assert_eq!((ring.take(), ring.take()), (0, 1));
        ring.fill(1, &entry(1));
        assert_eq!((ring.find(0), ring.find(1)), (Found::NotYet, Found::Entry(entry(1))));
        assert!(!ring.is_settled());
        ring.fill(0, &entry(0));
        assert!(ring.is_settled());
    }

    #[test]
    fn a_reader_beside_a_writer_never_takes_a_mixture_for_an_entry() {
        let ring = ring(64);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for value in 0..200_000 {
                    let index = ring.take();
                    ring.fill(index, &entry(value));
                }
            });
            let mut at = 0;
            while at < 199_000 {
                if at >= ring.head() {
                    std::hint::spin_loop();
                    continue;
                }
                match ring.find(at) {
                    Found::Entry(found) => {
                        assert_eq!(found, entry(at));
                        at += 1;
                    }
                    Found::NotYet => std::hint::spin_loop(),
                    Found::Overwritten => at = ring.head().saturating_sub(32),
                }
            }
        });
    }
}
