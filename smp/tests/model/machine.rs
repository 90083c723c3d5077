//! The simulated machine.

use super::checker::{Events, Frame};
use smp::presence::{self, came_online};
use smp::primitive::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use smp::shootdown::{Protocol, by_name};
use smp::space::{Loaded, Space, SpaceId};
use smp::{AtomicCpuSet, CpuId, CpuSet, Machine, PageRange, Step};
use std::cell::{Cell, RefCell};
use std::sync::Arc;

const PAGE: u64 = smp::ranges::PAGE_SIZE;

/// All CPUs, and the memory they share. Page p is mapped to frame p, until it is unmapped: the first `kernels` for all, the
/// others in space 0.
pub struct World {
    kernels: usize,
    /// Tags of each CPU, and whether a page can be dropped under one that is not in use.
    tags: usize,
    flushes_under: bool,
    /// Pages that each CPU's hardware was told to drop, a bit each.
    broadcasts: Vec<AtomicU64>,
    reachable: AtomicCpuSet,
    asleep: AtomicCpuSet,
    lines: Vec<AtomicBool>,
    present: Vec<AtomicBool>,
    pub frames: Vec<Frame>,
    /// What the tables of the spaces are made of; used by every walk.
    pub tables: Vec<Frame>,
    spaces: Vec<Space>,
    loaded: Vec<Loaded>,
    finished: AtomicU32,
    events: Events,
    protocol: Box<dyn Protocol<Cpu> + Send>,
}

/// One CPU.
pub struct Cpu {
    pub world: Arc<World>,
    me: usize,
    masked: Cell<bool>,
    sleeps: Cell<bool>,
    /// What it holds of each page, under each tag.
    tlb: RefCell<Vec<Vec<bool>>>,
    tag: Cell<usize>,
    /// It has flushed everything since this was last cleared.
    flushed: Cell<bool>,
    /// How much it has seen happen.
    seen: Cell<u64>,
    /// The space whose tables the walker reads: with none, the pages are everybody's.
    walks: Cell<Option<SpaceId>>,
}

impl World {
    /// With `cpus` CPUs, `pages` pages and `spaces` address spaces. Generations begin two before they wrap.
    pub fn new(protocol: &str, cpus: usize, pages: usize, spaces: usize) -> Arc<Self> {
        let kernels = if spaces == 0 { pages } else { 0 };
        Self::tagged(protocol, cpus, (pages, kernels), spaces, 0, false)
    }

    /// With tags; `pages` in all, and how many of them are the kernel's.
    pub fn tagged(
        protocol: &str,
        cpus: usize,
        (pages, kernels): (usize, usize),
        spaces: usize,
        tags: usize,
        flushes_under: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            kernels,
            tags,
            flushes_under,
            broadcasts: (0..cpus).map(|_| AtomicU64::new(0)).collect(),
            reachable: AtomicCpuSet::new(),
            asleep: AtomicCpuSet::new(),
            lines: (0..cpus).map(|_| AtomicBool::new(false)).collect(),
            present: (0..pages).map(|_| AtomicBool::new(true)).collect(),
            frames: (0..pages).map(|_| Frame::new()).collect(),
            tables: (0..spaces).map(|_| Frame::new()).collect(),
            spaces: (0..spaces).map(|_| Space::new()).collect(),
            loaded: (0..cpus).map(|_| Loaded::new()).collect(),
            finished: AtomicU32::new(0),
            events: Events::new(cpus),
            protocol: by_name(protocol, cpus, u32::MAX - 2).expect("a protocol's name"),
        })
    }

    /// CPU `me`, not online yet.
    pub fn cpu(self: &Arc<Self>, me: usize) -> Cpu {
        Cpu {
            world: self.clone(),
            me,
            masked: Cell::new(false),
            sleeps: Cell::new(false),
            tlb: RefCell::new(vec![vec![false; self.frames.len()]; self.tags + 1]),
            tag: Cell::new(0),
            flushed: Cell::new(false),
            seen: Cell::new(0),
            walks: Cell::new(None),
        }
    }
}

impl Cpu {
    pub fn protocol(&self) -> &(dyn Protocol<Self> + Send) {
        &*self.world.protocol
    }

    pub fn comes_online(&self) {
        came_online(self, &self.world.reachable);
        self.world.events.happened();
    }

    pub fn mask(&self, masked: bool) {
        self.masked.set(masked);
    }

    /// Goes to sleep; an interrupt, or [`wake`](Self::wake), ends it.
    pub fn sleep(&self) {
        self.masked.set(true);
        presence::falls_asleep(self, &self.world.asleep);
        self.sleeps.set(true);
        self.masked.set(false);
    }

    pub fn wake(&self) {
        if self.sleeps.get() {
            presence::wakes(self, &self.world.asleep);
            self.sleeps.set(false);
            self.world.events.happened();
        }
    }

    /// Goes on with a thread of this space, or of none.
    pub fn switch_to(&self, space: Option<SpaceId>) {
        self.masked.set(true);
        smp::space::switch_to(self, space);
        self.masked.set(false);
        self.world.events.happened();
    }

    /// The worst that hardware may do at this moment.
    pub fn touch(&self) {
        self.hear_broadcasts();
        if !self.sleeps.get() {
            (0..self.world.kernels).for_each(|page| self.load_and_use(page, true));
        }
        if let Some(SpaceId(id)) = self.walks.get() {
            let loaded = &self.world.loaded[self.me];
            self.world.tables[id as usize].is_used();
            let in_use = loaded.space() == Some(SpaceId(id)) && !loaded.is_lazy();
            if id == 0 {
                (self.world.kernels..self.world.frames.len()).for_each(|page| self.load_and_use(page, in_use));
            } else {
                let held = &self.tlb.borrow()[self.tag.get()];
                assert!(!held[self.world.kernels..].contains(&true), "space {id} sees what space 0 maps");
            }
        }
    }

    fn load_and_use(&self, page: usize, uses: bool) {
        let held = &mut self.tlb.borrow_mut()[self.tag.get()][page];
        // Relaxed: a walk is ordered with nothing.
        *held = *held || self.world.present[page].load(Ordering::Relaxed);
        if *held && uses {
            self.world.frames[page].is_used();
        }
    }

    /// Drops what other CPUs have broadcast, whatever this one is at.
    fn hear_broadcasts(&self) {
        if self.world.protocol.name() == "invlpgb" {
            let told = self.world.broadcasts[self.me].swap(0, Ordering::AcqRel);
            if told != 0 {
                let drop_told = |tlb: &mut Vec<bool>| {
                    tlb.iter_mut()
                        .enumerate()
                        .filter(|(page, _)| told >> page & 1 == 1)
                        .for_each(|(_, held)| *held = false);
                };
                self.tlb.borrow_mut().iter_mut().for_each(drop_told);
                self.world.events.happened();
            }
        }
    }

    fn drop_under(&self, tag: usize, range: PageRange) {
        range.addresses().for_each(|address| self.tlb.borrow_mut()[tag][(address / PAGE) as usize] = false);
    }

    /// Takes an interrupt, if there is one and it is not masked, or a tick.
    pub fn poll(&self) {
        if self.masked.get() {
            return;
        }
        self.masked.set(true);
        if self.world.lines[self.me].swap(false, Ordering::AcqRel) {
            self.wake();
            self.protocol().serve(self);
            self.world.events.happened();
        }
        if self.protocol().name() == "quiescent" && !self.sleeps.get() {
            self.flushed.set(false);
            self.protocol().passes(self);
            if self.flushed.get() {
                self.world.events.happened();
            }
        }
        self.masked.set(false);
    }

    /// Unmaps a page, in the page tables alone.
    pub fn clear(&self, page: usize) -> PageRange {
        self.world.present[page].store(false, Ordering::Relaxed);
        PageRange { start: page as u64 * PAGE, pages: 1 }
    }

    /// Something was done that others may wait for.
    pub fn happened(&self) {
        self.world.events.happened();
    }

    /// This CPU has no more work of its own; it answers until all have none.
    pub fn finish(&self) {
        self.world.finished.fetch_add(1, Ordering::Release);
        self.world.events.happened();
        while (self.world.finished.load(Ordering::Acquire) as usize) < self.world.lines.len() {
            self.relax();
        }
    }
}

impl Machine for Cpu {
    fn cpu(&self) -> CpuId {
        CpuId::new(self.me)
    }
    fn reachable(&self) -> CpuSet {
        self.world.reachable.load(Ordering::Acquire)
    }
    fn asleep(&self) -> CpuSet {
        self.world.asleep.load(Ordering::Acquire)
    }
    fn interrupt(&self, targets: CpuSet) {
        // A read-modify-write, because loom may keep a plain store from the target's swaps for ever.
        targets.for_each(|cpu| _ = self.world.lines[cpu.index()].swap(true, Ordering::AcqRel));
        self.world.events.happened();
    }
    fn flush(&self, range: PageRange) {
        self.poll();
        self.touch();
        self.drop_under(self.tag.get(), range);
        self.touch();
    }
    fn flush_all(&self) {
        self.poll();
        self.touch();
        self.tlb.borrow_mut()[self.tag.get()].fill(false);
        self.touch();
        self.flushed.set(true);
    }
    fn tags(&self) -> usize {
        self.world.tags
    }
    fn flush_under(&self, tag: usize, range: PageRange) -> bool {
        self.touch();
        if self.world.flushes_under {
            self.drop_under(tag, range);
        }
        self.world.flushes_under
    }
    fn broadcast_flush(&self, range: Option<PageRange>) {
        self.touch();
        let bits = range.map_or(u64::MAX, |range| range.addresses().map(|address| 1 << (address / PAGE)).sum());
        self.world.broadcasts.iter().for_each(|cpu| _ = cpu.fetch_or(bits, Ordering::AcqRel));
        self.world.events.happened();
    }
    fn await_broadcasts(&self) {
        while self.world.broadcasts.iter().any(|cpu| cpu.load(Ordering::Acquire) != 0) {
            self.relax();
        }
    }
    fn space(&self, id: SpaceId) -> &Space {
        &self.world.spaces[id.0 as usize]
    }
    fn loaded(&self) -> &Loaded {
        &self.world.loaded[self.me]
    }
    fn load_space(&self, id: Option<SpaceId>, tag: usize, keep: bool) {
        self.touch();
        self.walks.set(id);
        self.tag.set(tag);
        if !keep {
            self.tlb.borrow_mut()[tag].fill(false);
        }
        self.touch();
    }
    fn interrupts_on(&self) -> bool {
        !self.masked.get()
    }
    fn relax(&self) {
        self.poll();
        self.touch();
        self.seen.set(self.world.events.wait(self.seen.get()));
    }
    /// Stands still: what a seeded bug does now and then, it does each time.
    fn now(&self) -> u64 {
        0
    }
    fn patience(&self) -> u64 {
        u64::MAX
    }
    fn unanswered(&self, _missing: CpuSet) {}
    fn note(&self, _step: Step) {
        self.touch();
        self.world.events.happened();
    }
}
