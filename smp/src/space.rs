//! Address spaces as TLBs know them: which CPUs may have translations of one, and how far behind its page tables each is.
//!
//! ```text
//!   a change of the tables                      a CPU that switches to the space
//!   (1) entries cleared                         (5) cpus |= me
//!   (2) generation += 1                         (6) fence; g = generation
//!   (3) fence; ask the CPUs in `cpus`           (7) load the tables: drops all translations
//!   (4) target: flush what is due               (8) seen = g; from here on, (4) as others
//! ```
//! Either (3) sees the CPU in `cpus`, and its interrupt is served after the switch, or (6) sees the generation of (2), and
//! (7) comes after (1). What is due in (4) is told by the three-way rule of Linux (`arch/x86/mm/tlb.c`): requests may be served
//! in another order than they were made, so a partial flush counts only if nothing was missed before it.
//!
//! A CPU that goes on with a thread that has no space of its own keeps the tables loaded, and is *lazy*: it uses none of the
//! translations, is not asked, and looks at the generation when it comes back. Only when page tables are freed it is
//! asked too, because its walker may still read them: then it lets the space go.
//!
//! Where the TLB has tags (PCIDs), a CPU that loads another space keeps the translations of the one before under its tag,
//! with the generation that they are up to date with. It leaves the space all the same, and is not asked: when it comes
//! back, (5) to (8) are as ever, and only if nothing was missed it keeps what it has in (7). What is mapped for the kernel is
//! cached under every tag, so what drops that has to drop it under all of them (`drop_pages`, `drop_all`).

use crate::bug::{self, Bug};
use crate::primitive::{AtomicBool, AtomicU32, AtomicU64, Ordering, constructor, fence};
use crate::{AtomicCpuSet, CpuSet, Machine, PageRange, Ranges};

/// A space's number: its place in the machine's table of spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpaceId(pub u32);

/// An address space.
#[derive(Debug)]
pub struct Space {
    /// How often its tables have changed so that TLBs must know. 64 bits do not wrap; it goes on counting when the number is
    /// used for another space.
    generation: AtomicU64,
    /// CPUs that have it loaded.
    cpus: AtomicCpuSet,
    /// Those of them that use none of it.
    lazy: AtomicCpuSet,
}

/// The most tags that are used: few, as in Linux (`TLB_NR_DYN_ASIDS`), because a kernel page is dropped under each.
pub const MAX_TAGS: usize = if cfg!(feature = "loom") { 2 } else { 6 };

/// What a tag's translations are of. Only the CPU itself touches it.
#[derive(Debug)]
struct Tagged {
    /// The space's number plus one; 0 for none.
    space: AtomicU32,
    /// Its generation that they are up to date with.
    seen: AtomicU64,
}

impl Tagged {
    constructor! {
        const fn new() -> Self {
            Self { space: AtomicU32::new(0), seen: AtomicU64::new(0) }
        }
    }

    #[cfg(not(feature = "loom"))]
    const fn none() -> [Self; MAX_TAGS] {
        [const { Self::new() }; MAX_TAGS]
    }

    #[cfg(feature = "loom")]
    fn none() -> [Self; MAX_TAGS] {
        core::array::from_fn(|_| Self::new())
    }
}

/// What one CPU has loaded. Only that CPU touches it.
#[derive(Debug)]
pub struct Loaded {
    /// The space's number plus one; 0 for none.
    space: AtomicU32,
    lazy: AtomicBool,
    /// Its generation that the TLB is up to date with.
    seen: AtomicU64,
    /// The tag in use: 0 with the kernel's own tables, and where there are none.
    tag: AtomicU32,
    /// The others, from tag 1 on.
    tags: [Tagged; MAX_TAGS],
    /// The tag that was given out last.
    latest: AtomicU32,
}

/// What a CPU has to flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// It has flushed for this and for all before.
    Nothing,
    /// What was asked, and nothing was missed.
    Asked,
    /// Everything: something was missed, or is on its way already.
    All,
}

/// The three-way rule: what is due on a CPU that has `seen` a generation, when a request of the generation `asked` comes
/// and the space is at `current`; `partial` if the request names ranges.
#[must_use]
pub const fn due(seen: u64, asked: u64, current: u64, partial: bool) -> Due {
    if seen >= asked {
        Due::Nothing
    } else if partial && asked == seen + 1 && asked == current {
        Due::Asked
    } else {
        Due::All
    }
}

impl Space {
    constructor! {
        /// A space that no CPU has loaded.
        #[must_use]
        pub const fn new() -> Self {
            Self { generation: AtomicU64::new(1), cpus: AtomicCpuSet::new(), lazy: AtomicCpuSet::new() }
        }
    }

    /// (2) The tables have changed. The generation.
    pub(crate) fn changed(&self) -> u64 {
        // Release: pairs with the acquire in `answer`, `load` and `comes_back`; the entries are cleared before it.
        self.generation.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// CPUs that have it loaded.
    #[must_use]
    pub fn cpus(&self) -> CpuSet {
        self.cpus.load(Ordering::Acquire)
    }

    /// (3) Those to ask; the fence is the caller's.
    pub(crate) fn to_ask(&self, frees_tables: bool) -> CpuSet {
        let cpus = self.cpus();
        if frees_tables { cpus } else { cpus.minus(self.lazy.load(Ordering::Acquire)) }
    }
}

impl Default for Space {
    fn default() -> Self {
        Self::new()
    }
}

impl Loaded {
    constructor! {
        /// Nothing.
        #[must_use]
        pub const fn new() -> Self {
            Self {
                space: AtomicU32::new(0),
                lazy: AtomicBool::new(false),
                seen: AtomicU64::new(0),
                tag: AtomicU32::new(0),
                tags: Tagged::none(),
                latest: AtomicU32::new(0),
            }
        }
    }

    /// The space that is loaded.
    #[must_use]
    pub fn space(&self) -> Option<SpaceId> {
        self.space.load(Ordering::Relaxed).checked_sub(1).map(SpaceId)
    }

    /// Whether the CPU uses none of it.
    #[must_use]
    pub fn is_lazy(&self) -> bool {
        self.lazy.load(Ordering::Relaxed)
    }

    fn set(&self, space: Option<SpaceId>, seen: u64, tag: usize) {
        self.space.store(space.map_or(0, |space| space.0 + 1), Ordering::Relaxed);
        self.seen.store(seen, Ordering::Relaxed);
        self.lazy.store(false, Ordering::Relaxed);
        self.tag.store(tag as u32, Ordering::Relaxed);
    }

    fn tag(&self) -> usize {
        self.tag.load(Ordering::Relaxed) as usize
    }

    /// Leaves what is under the tag in use to be found again.
    fn remember(&self) {
        if let Some(tagged) = self.tag().checked_sub(1).map(|tag| &self.tags[tag]) {
            tagged.space.store(self.space.load(Ordering::Relaxed), Ordering::Relaxed);
            tagged.seen.store(self.seen.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Whether a space is loaded.
    #[must_use]
    #[inline]
    pub fn is_any(&self) -> bool {
        self.space.load(Ordering::Relaxed) != 0
    }

    /// The tag to load `id` under, of `count`, and the generation that its translations are up to date with: 0 if they are of
    /// another space.
    fn tag_for(&self, id: SpaceId, count: usize) -> (usize, u64) {
        let is_its = |tagged: &Tagged| tagged.space.load(Ordering::Relaxed) == id.0 + 1;
        match self.tags.iter().take(count).position(is_its) {
            Some(at) => (at + 1, self.tags[at].seen.load(Ordering::Relaxed)),
            None if count == 0 => (0, 0),
            None => {
                let tag = self.latest.load(Ordering::Relaxed) as usize % count + 1;
                self.latest.store(tag as u32, Ordering::Relaxed);
                // What is under it is dropped, and is nobody's to come back to.
                self.tags[tag - 1].space.store(0, Ordering::Relaxed);
                (tag, 0)
            }
        }
    }
}

impl Default for Loaded {
    fn default() -> Self {
        Self::new()
    }
}

/// The calling CPU goes on with a thread of `space`, or of none. Interrupts are off.
pub fn switch_to<M: Machine>(machine: &M, space: Option<SpaceId>) {
    let loaded = machine.loaded();
    match (loaded.space(), space) {
        (None, None) => {}
        (Some(before), None) => goes_lazy(machine, before),
        (Some(before), Some(space)) if before == space => comes_back(machine, space),
        (_, Some(space)) => load(machine, space),
    }
}

fn load<M: Machine>(machine: &M, id: SpaceId) {
    let (me, loaded, space) = (machine.cpu(), machine.loaded(), machine.space(id));
    let mut seen = space.generation();
    loaded.remember();
    let (tag, kept) = loaded.tag_for(id, machine.tags());
    if bug::armed(Bug::SwitchWindow) {
        machine.load_space(Some(id), tag, kept == seen); // as if (7) came before (5)
    }
    space.cpus.insert(me, Ordering::SeqCst); // (5)
    fence(Ordering::SeqCst);
    if !bug::armed(Bug::SwitchWindow) {
        seen = space.generation(); // (6)
        let keep = kept == seen || bug::armed(Bug::TagKept) && kept != 0;
        machine.load_space(Some(id), tag, keep); // (7)
    }
    if let Some(before) = loaded.space() {
        forget(machine, before);
    }
    loaded.set(Some(id), seen, tag); // (8)
}

/// The CPU has loaded other tables, and has no translation of `id` any more.
fn forget<M: Machine>(machine: &M, id: SpaceId) {
    let (me, space) = (machine.cpu(), machine.space(id));
    // Not lazy while it is among the CPUs is what an initiator may rely on, so first the one, then the other. Release: what
    // this CPU did through its translations comes before an initiator sees that it has none.
    space.cpus.remove(me, Ordering::AcqRel);
    space.lazy.remove(me, Ordering::AcqRel);
}

fn goes_lazy<M: Machine>(machine: &M, id: SpaceId) {
    let loaded = machine.loaded();
    if !loaded.is_lazy() {
        loaded.lazy.store(true, Ordering::Relaxed);
        // Release: as in `forget`.
        machine.space(id).lazy.insert(machine.cpu(), Ordering::AcqRel);
    }
}

fn comes_back<M: Machine>(machine: &M, id: SpaceId) {
    let (loaded, space) = (machine.loaded(), machine.space(id));
    if loaded.is_lazy() {
        space.lazy.remove(machine.cpu(), Ordering::SeqCst);
        // As (5) and (6): either the next initiator sees that it is not lazy, or its generation is seen here.
        fence(Ordering::SeqCst);
        let current = space.generation();
        if loaded.seen.load(Ordering::Relaxed) < current && !bug::armed(Bug::LazyNoFlush) {
            machine.flush_all();
            loaded.seen.store(current, Ordering::Relaxed);
        }
        loaded.lazy.store(false, Ordering::Relaxed); // from here on it may use what it holds
    }
}

/// Drops the calling CPU's translations of pages that are mapped for the kernel, under all tags.
#[inline(always)]
pub(crate) fn drop_pages<M: Machine>(machine: &M, ranges: impl Iterator<Item = PageRange> + Clone) {
    ranges.clone().for_each(|range| machine.flush(range));
    for_other_tags(machine, |tag| ranges.clone().all(|range| machine.flush_under(tag, range)));
}

/// Drops all of the calling CPU's translations, under all tags.
pub(crate) fn drop_all<M: Machine>(machine: &M) {
    machine.flush_all();
    for_other_tags(machine, |_| false);
}

/// Runs `flush` on each tag that is not in use and has translations; where it does not help, they are not used again.
#[inline(always)]
fn for_other_tags<M: Machine>(machine: &M, flush: impl Fn(usize) -> bool) {
    let count = machine.tags();
    if count != 0 && !bug::armed(Bug::TagsNotTold) {
        for_others_of(machine, count, flush);
    }
}

#[cold]
fn for_others_of<M: Machine>(machine: &M, count: usize, flush: impl Fn(usize) -> bool) {
    let loaded = machine.loaded();
    for (tag, tagged) in (1..).zip(&loaded.tags).take(count).filter(|(tag, _)| *tag != loaded.tag()) {
        if tagged.space.load(Ordering::Relaxed) != 0 && !flush(tag) {
            tagged.space.store(0, Ordering::Relaxed);
        }
    }
}

/// (4) Does on the calling CPU what a request of the generation `asked` wants, with interrupts off or in the initiator itself.
pub(crate) fn answer<M: Machine>(machine: &M, id: SpaceId, asked: u64, ranges: &Ranges) {
    let loaded = machine.loaded();
    if loaded.space() != Some(id) {
        return; // it has loaded other tables since
    }
    if loaded.is_lazy() && ranges.frees_tables() {
        machine.load_space(None, 0, false);
        forget(machine, id);
        return loaded.set(None, 0, 0);
    }
    let (seen, current) = (loaded.seen.load(Ordering::Relaxed), machine.space(id).generation());
    let listed = ranges.listed().filter(|_| !ranges.frees_tables());
    let due = match due(seen, asked, current, listed.is_some()) {
        // As if every partial flush brought the CPU up to date.
        Due::All if bug::armed(Bug::PartialOutOfOrder) && listed.is_some() => Due::Asked,
        due => due,
    };
    match (due, listed) {
        (Due::Nothing, _) => {}
        (Due::Asked, Some(listed)) => {
            listed.iter().for_each(|range| machine.flush(*range));
            loaded.seen.store(asked, Ordering::Relaxed);
        }
        _ => {
            machine.flush_all();
            loaded.seen.store(current, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_flush_counts_only_if_nothing_was_missed() {
        assert_eq!(due(4, 5, 5, true), Due::Asked);
        assert_eq!(due(4, 5, 5, false), Due::All);
        assert_eq!(due(3, 5, 5, true), Due::All, "4 was missed");
        assert_eq!(due(4, 5, 6, true), Due::All, "6 is on its way: one full flush does for both");
        assert_eq!(due(6, 5, 6, true), Due::Nothing);
    }
}
