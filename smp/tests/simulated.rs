//! The shipped protocols on simulated CPUs with simulated TLBs: threads of the host stand for CPUs, each with a TLB that
//! keeps what it loaded until it is told to drop it, and an interrupt line that it answers when it happens to look.
//!
//! The oracle: when a request returns, no CPU's TLB holds what was unmapped. That it can fail is shown by protocols that
//! are broken on purpose.

use smp::presence::came_online;
use smp::shootdown::{NAMES, Protocol, Scoreboard, Sent, by_name};
use smp::{AtomicCpuSet, CpuId, CpuSet, Machine, MayWait, PageRange, Quarantine, Ranges, Unmapped};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

const PAGE: u64 = smp::ranges::PAGE_SIZE;

/// All CPUs, and the memory they share.
struct World {
    reachable: AtomicCpuSet,
    lines: Vec<AtomicBool>,
    tlbs: Vec<Mutex<HashMap<u64, u64>>>,
    /// Page table: what each page is mapped to, 0 if nothing.
    entries: Vec<AtomicU64>,
    stale: AtomicUsize,
    unanswered: AtomicUsize,
}

impl World {
    fn new(cpus: usize, pages: usize) -> Self {
        Self {
            reachable: AtomicCpuSet::new(),
            lines: (0..cpus).map(|_| AtomicBool::new(false)).collect(),
            tlbs: (0..cpus).map(|_| Mutex::default()).collect(),
            entries: (0..pages).map(|_| AtomicU64::new(0)).collect(),
            stale: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
        }
    }
}

/// One CPU's view.
struct Simulated<'w> {
    world: &'w World,
    me: usize,
    masked: Cell<bool>,
    random: Cell<u64>,
    protocol: &'w dyn Protocol<Simulated<'w>>,
}

impl Simulated<'_> {
    fn below(&self, limit: u64) -> u64 {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        x % limit
    }

    /// Takes the interrupt, if there is one and it is not masked.
    fn poll(&self) {
        if !self.masked.get() && self.world.lines[self.me].swap(false, Ordering::AcqRel) {
            self.masked.set(true);
            self.protocol.serve(self);
            self.masked.set(false);
        }
        if !self.masked.get() && self.below(4) == 0 {
            self.masked.set(true);
            self.protocol.passes(self); // the timer's tick
            self.masked.set(false);
        }
    }

    /// Reads a page as hardware does: from the TLB, or by a walk whose result the TLB keeps.
    fn read(&self, page: usize) {
        let mut tlb = self.world.tlbs[self.me].lock().unwrap();
        tlb.entry(page as u64 * PAGE).or_insert_with(|| self.world.entries[page].load(Ordering::Acquire));
        if tlb[&(page as u64 * PAGE)] == 0 {
            tlb.remove(&(page as u64 * PAGE)); // what is not present is not cached
        }
    }

    /// Unmaps some of its own pages, and maps them again to something new.
    fn change(&self, mine: std::ops::Range<usize>, value: u64) {
        let start = mine.start + self.below(mine.len() as u64) as usize;
        let pages = 1 + self.below((mine.end - start) as u64) as usize;
        (start..start + pages).for_each(|page| self.read(page));
        let ceiling = if self.below(4) == 0 { 0 } else { 33 };
        self.masked.set(self.below(3) == 0);
        self.unmap(start..start + pages, ceiling);
        self.masked.set(false);
        (start..start + pages).for_each(|page| self.world.entries[page].store(value, Ordering::Release));
    }

    /// Unmaps pages, and notes which TLBs still hold them afterwards.
    fn unmap(&self, pages: std::ops::Range<usize>, ceiling: u32) {
        pages.clone().for_each(|page| self.world.entries[page].store(0, Ordering::Release));
        let mut ranges = Ranges::new(ceiling);
        ranges.push(PageRange { start: pages.start as u64 * PAGE, pages: pages.len() as u32 });
        Unmapped::new(&ranges, ()).shoot_down(self.protocol, self, &mut MayWait::checked()).release();
        for cpu in self.reachable() {
            let tlb = self.world.tlbs[cpu.index()].lock().unwrap();
            let held = pages.clone().filter(|page| tlb.contains_key(&(*page as u64 * PAGE))).count();
            self.world.stale.fetch_add(held, Ordering::Relaxed);
        }
    }
}

impl Machine for Simulated<'_> {
    fn cpu(&self) -> CpuId {
        CpuId::new(self.me)
    }
    fn reachable(&self) -> CpuSet {
        self.world.reachable.load(Ordering::SeqCst)
    }
    fn interrupt(&self, targets: CpuSet) {
        fence(Ordering::SeqCst);
        targets.for_each(|cpu| self.world.lines[cpu.index()].store(true, Ordering::Release));
    }
    fn flush(&self, range: PageRange) {
        let mut tlb = self.world.tlbs[self.me].lock().unwrap();
        range.addresses().for_each(|address| _ = tlb.remove(&address));
    }
    fn flush_all(&self) {
        self.world.tlbs[self.me].lock().unwrap().clear();
    }
    fn broadcast_flush(&self, range: Option<PageRange>) {
        for tlb in &self.world.tlbs {
            let mut tlb = tlb.lock().unwrap();
            tlb.retain(|address, _| range.is_some_and(|range| range.addresses().all(|named| named != *address)));
        }
    }
    fn await_broadcasts(&self) {}
    fn interrupts_on(&self) -> bool {
        !self.masked.get()
    }
    fn relax(&self) {
        self.poll();
        std::thread::yield_now();
    }
    fn now(&self) -> u64 {
        static CLOCK: AtomicU64 = AtomicU64::new(0);
        CLOCK.fetch_add(1, Ordering::Relaxed)
    }
    fn patience(&self) -> u64 {
        1_000_000
    }
    fn unanswered(&self, _missing: CpuSet) {
        self.world.unanswered.fetch_add(1, Ordering::Relaxed);
    }
}

/// `cpus` CPUs, `changes` changes each, the last CPU coming online late: stale translations seen, waits that were not
/// answered.
fn simulate<'w>(world: &'w World, protocol: &'w (dyn Protocol<Simulated<'w>> + Sync), changes: u64) -> (usize, usize) {
    let cpus = world.lines.len();
    let each = world.entries.len() / cpus;
    let working = AtomicUsize::new(cpus);
    std::thread::scope(|scope| {
        for me in 0..cpus {
            let working = &working;
            scope.spawn(move || {
                let random = Cell::new(0x9e37_79b9 + me as u64);
                let cpu = Simulated { world, me, masked: Cell::new(false), random, protocol };
                if me == cpus - 1 {
                    (0..50).for_each(|_| std::thread::yield_now());
                }
                came_online(&cpu, &world.reachable);
                for change in 0..changes {
                    cpu.change(me * each..(me + 1) * each, 1 + change);
                    for _ in 0..8 {
                        cpu.read(cpu.below(world.entries.len() as u64) as usize);
                        cpu.poll();
                    }
                    if cpu.below(8) == 0 {
                        // A stray interrupt.
                        cpu.interrupt(CpuSet::only(CpuId::new(cpu.below(cpus as u64) as usize)));
                    }
                }
                working.fetch_sub(1, Ordering::SeqCst);
                while working.load(Ordering::SeqCst) > 0 {
                    cpu.relax();
                }
            });
        }
    });
    (world.stale.load(Ordering::Relaxed), world.unanswered.load(Ordering::Relaxed))
}

fn leaves_nothing_stale(name: &str) {
    for cpus in [1, 2, 3, 8] {
        // Leaked, because each refers to the other.
        let world: &'static World = Box::leak(Box::new(World::new(cpus, cpus * 6)));
        // Through the wrap of the generations.
        let protocol = Box::leak(by_name(name, cpus, u32::MAX - 100).expect("a protocol's name"));
        assert_eq!(simulate(world, protocol, 400), (0, 0), "{name}, {cpus} CPUs");
    }
}

#[test]
fn every_protocol_leaves_nothing_stale() {
    NAMES.iter().copied().for_each(leaves_nothing_stale);
}

/// A protocol with a fault: what the oracle must see.
struct Broken {
    inner: Scoreboard,
    waits: bool,
    flushes: bool,
}

impl<M: Machine> Protocol<M> for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }
    fn request(&self, machine: &M, ranges: &Ranges) -> Sent {
        if self.waits {
            return self.inner.request(machine, ranges);
        }
        // Only here, nobody else is told.
        ranges.listed().map_or_else(|| machine.flush_all(), |listed| listed.iter().for_each(|r| machine.flush(*r)));
        Sent::default()
    }
    fn serve(&self, machine: &M) {
        if self.flushes {
            return Protocol::<M>::serve(&self.inner, machine);
        }
        Protocol::<Deaf<'_, M>>::serve(&self.inner, &Deaf(machine));
    }
}

/// A CPU that acknowledges, and flushes nothing.
struct Deaf<'m, M>(&'m M);

impl<M: Machine> Machine for Deaf<'_, M> {
    fn cpu(&self) -> CpuId {
        self.0.cpu()
    }
    fn reachable(&self) -> CpuSet {
        self.0.reachable()
    }
    fn interrupt(&self, targets: CpuSet) {
        self.0.interrupt(targets);
    }
    fn flush(&self, _range: PageRange) {}
    fn flush_all(&self) {}
    fn interrupts_on(&self) -> bool {
        self.0.interrupts_on()
    }
    fn relax(&self) {
        self.0.relax();
    }
    fn now(&self) -> u64 {
        self.0.now()
    }
    fn patience(&self) -> u64 {
        self.0.patience()
    }
    fn unanswered(&self, missing: CpuSet) {
        self.0.unanswered(missing);
    }
}

/// CPU 1 has read a page that CPU 0 then unmaps, while CPU 1 answers interrupts and does nothing else: how many stale
/// translations the oracle sees.
fn one_unmap_with(protocol: Broken) -> usize {
    let world = World::new(2, 1);
    world.entries[0].store(1, Ordering::Release);
    let cpu = |me| Simulated { world: &world, me, masked: Cell::new(false), random: Cell::new(1), protocol: &protocol };
    let (ready, done) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let target = cpu(1);
            came_online(&target, &world.reachable);
            target.read(0);
            ready.store(true, Ordering::Release);
            while !done.load(Ordering::Acquire) {
                target.relax();
            }
        });
        let initiator = cpu(0);
        came_online(&initiator, &world.reachable);
        while !ready.load(Ordering::Acquire) {
            initiator.relax();
        }
        initiator.unmap(0..1, 33);
        done.store(true, Ordering::Release);
    });
    world.stale.load(Ordering::Relaxed)
}

#[test]
fn the_oracle_sees_a_protocol_that_tells_nobody() {
    assert_eq!(one_unmap_with(Broken { inner: Scoreboard::new(2, 0), waits: false, flushes: true }), 1);
}

#[test]
fn the_oracle_sees_a_target_that_acknowledges_without_flushing() {
    assert_eq!(one_unmap_with(Broken { inner: Scoreboard::new(2, 0), waits: true, flushes: false }), 1);
}

#[test]
fn the_oracle_is_content_with_a_protocol_that_does_both() {
    assert_eq!(one_unmap_with(Broken { inner: Scoreboard::new(2, 0), waits: true, flushes: true }), 0);
}

/// What one CPU has deferred, twice marked by those who hurry.
#[test]
fn whoever_asks_first_takes_what_others_have_marked_too() {
    // Leaked, because each refers to the other.
    let world: &'static World = Box::leak(Box::new(World::new(1, 2)));
    let protocol = Box::leak(by_name("quiescent", 1, 1).expect("a protocol's name"));
    let cpu = Simulated { world, me: 0, masked: Cell::new(false), random: Cell::new(1), protocol };
    came_online(&cpu, &world.reachable);
    let deferred = |page: u64| {
        let mut ranges = Ranges::new(33);
        ranges.push(PageRange { start: page * PAGE, pages: 1 });
        Unmapped::new(&ranges, page).defer(cpu.protocol, &cpu).expect("'quiescent' defers")
    };
    let mut quarantine = Quarantine::<u64, 2>::empty();
    assert!(quarantine.put(deferred(0)).is_none());
    let (first, second) = (quarantine.hurry(33), quarantine.hurry(33));
    assert!(quarantine.put(deferred(1)).is_none());
    let mut permit = MayWait::checked();
    let asked = first.shoot_down(cpu.protocol, &cpu, &mut permit);
    assert_eq!(quarantine.take_asked(&asked), Some(0));
    // Put in after both were marked: neither request includes it.
    assert_eq!(quarantine.take_asked(&asked), None);
    assert_eq!(quarantine.take_asked(&second.shoot_down(cpu.protocol, &cpu, &mut permit)), None);
    assert_eq!(quarantine.count(), 1);
}
