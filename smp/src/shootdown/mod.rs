//! Shootdown protocols: how all CPUs come to drop translations. One protocol a file.
//!
//! Whatever the protocol, the same holds when [`Protocol::request`] returns: each CPU that was reachable and awake when it
//! began has, after it began, dropped the translations (invariant I1 of ARCHITECTURE.md). A CPU that joins those
//! meanwhile drops all of its translations first thing (see [`crate::presence`]).

/// One line a protocol: its file, its type, its name.
macro_rules! protocols {
    ($($(#[$meta:meta])* $module:ident::$type:ident = $name:literal,)+) => {
        $(mod $module; pub use $module::$type;)+

        /// The names of all protocols.
        pub const NAMES: &[&str] = &[$($name),+];

        /// The protocol of this name, for CPUs 0 to `cpus` - 1, with generations that count up from `first`.
        #[must_use]
        pub fn by_name<M: Machine>(name: &str, cpus: usize, first: u32) -> Option<Box<dyn Protocol<M> + Send>> {
            match name {
                $($name => Some(Box::new($type::new(cpus, first))),)+
                _ => None,
            }
        }
    };
}

protocols! {
    scoreboard::Scoreboard = "scoreboard",
    counter::Counter = "counter",
    broadcast::Broadcast = "broadcast",
    batched::Batched = "batched",
    quiescent::Quiescent = "quiescent",
    invlpgb::Invlpgb = "invlpgb",
}

use crate::bug::{self, Bug};
use crate::primitive::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::space::{self, SpaceId};
use crate::{CpuId, CpuSet, Machine, PageRange, Ranges, Step};
use alloc::boxed::Box;

/// A shootdown protocol.
pub trait Protocol<M: Machine>: Sync {
    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// Has every CPU that may use them, this one included, drop its translations of `ranges`; returns when all have. How many
    /// interrupts were sent is in the answer, one for each CPU that was interrupted.
    ///
    /// The page-table entries are cleared. The caller holds no lock and cannot be preempted; with interrupts off it
    /// serves its own inbox while it waits.
    fn request(&self, machine: &M, ranges: &Ranges) -> Sent;

    /// The interrupt's handler: does what this CPU was asked to, and acknowledges. Harmless when nothing was asked.
    fn serve(&self, machine: &M);

    /// The calling CPU switches threads, or its timer ticks: a moment to do what others left for it. Interrupts are off.
    fn passes(&self, machine: &M) {
        let _ = machine;
    }

    /// Begins a request that nobody waits for: when [`settled`](Self::settled) says so of the ticket, every CPU has
    /// dropped its translations. `None` if the protocol knows only [`request`](Self::request).
    fn defer(&self, machine: &M, ranges: &Ranges) -> Option<Ticket> {
        let _ = (machine, ranges);
        None
    }

    /// Whether what was deferred is done. Looks, and does not wait.
    fn settled(&self, machine: &M, ticket: Ticket) -> bool {
        let _ = (machine, ticket);
        false
    }

    /// As [`request`](Self::request), for a caller that cannot wait for a tick: too much is deferred.
    fn hurry(&self, machine: &M, ranges: &Ranges) -> Sent {
        self.request(machine, ranges)
    }
}

/// A request that was deferred. Younger ones are larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What a request cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// CPUs that had to acknowledge.
    pub targets: usize,
    /// Interrupts that were sent; fewer than targets where one was on its way already.
    pub interrupts: usize,
}

/// A request's ranges where other CPUs read them. Only its owner writes it, and only while nobody may read.
#[derive(Debug)]
struct Notice {
    /// Number of ranges, or [`EVERYTHING`].
    count: AtomicU32,
    /// The space's number plus one, 0 for none, and its generation.
    space: AtomicU32,
    generation: AtomicU64,
    frees_tables: AtomicBool,
    starts: [AtomicU64; crate::ranges::MAX_RANGES],
    pages: [AtomicU32; crate::ranges::MAX_RANGES],
}

const EVERYTHING: u32 = u32::MAX;

impl Notice {
    fn new() -> Self {
        Self {
            count: AtomicU32::new(0),
            space: AtomicU32::new(0),
            generation: AtomicU64::new(0),
            frees_tables: AtomicBool::new(false),
            starts: core::array::from_fn(|_| AtomicU64::new(0)),
            pages: core::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// Relaxed: the store that tells a target to look (release) comes after, and the target's load of that (acquire)
    /// comes before it reads.
    fn write(&self, ranges: &Ranges) {
        let (space, generation) = ranges.space().map_or((0, 0), |(id, generation)| (id.0 + 1, generation));
        self.space.store(space, Ordering::Relaxed);
        if space != 0 {
            self.generation.store(generation, Ordering::Relaxed);
            self.frees_tables.store(ranges.frees_tables(), Ordering::Relaxed);
        }
        let Some(listed) = ranges.listed() else {
            return self.count.store(EVERYTHING, Ordering::Relaxed);
        };
        for (at, range) in listed.iter().enumerate() {
            self.starts[at].store(range.start, Ordering::Relaxed);
            self.pages[at].store(range.pages, Ordering::Relaxed);
        }
        self.count.store(listed.len() as u32, Ordering::Relaxed);
    }

    /// What it says, as ranges with this ceiling.
    fn read(&self, ceiling: u32) -> Ranges {
        let count = self.count.load(Ordering::Relaxed);
        let mut ranges = if count == EVERYTHING { Ranges::everything() } else { Ranges::new(ceiling) };
        if count != EVERYTHING {
            for (start, pages) in self.starts.iter().zip(&self.pages).take(count as usize) {
                ranges.push(PageRange { start: start.load(Ordering::Relaxed), pages: pages.load(Ordering::Relaxed) });
            }
        }
        if let Some(id) = self.space() {
            ranges.set_space(id, self.generation.load(Ordering::Relaxed));
            if self.frees_tables.load(Ordering::Relaxed) {
                ranges.free_tables();
            }
        }
        ranges
    }

    fn space(&self) -> Option<SpaceId> {
        self.space.load(Ordering::Relaxed).checked_sub(1).map(SpaceId)
    }

    /// Flushes on this CPU what the notice says.
    fn flush<M: Machine>(&self, machine: &M) {
        if let Some(id) = self.space() {
            let generation = self.generation.load(Ordering::Relaxed);
            return space::answer(machine, id, generation, &self.read(u32::MAX - 1));
        }
        let count = self.count.load(Ordering::Relaxed);
        if count == EVERYTHING {
            if !bug::armed(Bug::ForgetCeiling) {
                space::drop_all(machine);
            }
            return;
        }
        let ranges = self.starts.iter().zip(&self.pages).take(count as usize).map(|(start, pages)| PageRange {
            start: start.load(Ordering::Relaxed),
            pages: pages.load(Ordering::Relaxed) - u32::from(bug::armed(Bug::FlushOneShort)),
        });
        space::drop_pages(machine, ranges);
    }
}

/// Flushes on this CPU what the initiator itself asks for.
#[inline(always)]
fn flush_here<M: Machine>(machine: &M, ranges: &Ranges) {
    match ranges.listed() {
        _ if bug::armed(Bug::SkipLocalFlush) => {}
        _ if let Some((id, generation)) = ranges.space() => space::answer(machine, id, generation, ranges),
        None => space::drop_all(machine),
        Some(listed) => space::drop_pages(machine, listed.iter().copied()),
    }
}

/// Answers a request: flushes on this CPU what the notice says, and then has the initiator see it.
fn flush_then<M: Machine>(machine: &M, notice: &Notice, initiator: CpuId, generation: u32, ack: impl FnOnce()) {
    let answer = || {
        machine.note(Step::Answered { initiator, generation });
        ack();
    };
    if bug::armed(Bug::AckBeforeFlush) {
        answer();
        return notice.flush(machine);
    }
    notice.flush(machine);
    answer();
}

/// The interrupts that are sent of those that should be: all, without the seeded bug `drop-ipi`, which forgets one now and then.
fn not_dropped<M: Machine>(machine: &M, interrupts: CpuSet) -> CpuSet {
    match interrupts.lowest() {
        Some(one) if bug::armed(Bug::DropIpi) && machine.now().is_multiple_of(16) => interrupts.without(one),
        _ => interrupts,
    }
}
