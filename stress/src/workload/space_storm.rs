//! `space-storm`: two address spaces with the same addresses in use. On every CPU a thread of each and one of none take
//! turns, while others map, replace and unmap. Reading what is unmapped, what was replaced, or what belongs to the other
//! space is a stale translation. In the end both spaces are destroyed, while CPUs still have them loaded.

use super::{Context, expect_end, spawned};
use crate::barrier::Barrier;
use crate::failure;
use crate::random::Random;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use kernel::mem::{Access, AddressSpace, PAGE_SIZE, SpaceError, peek};
use kernel::thread::{self, Builder};

/// Times in a round that everything changes.
const CHANGES: u64 = 6;
const SPACES: usize = 2;
/// Ranges of each space, each changed by a thread of its own.
const WINDOWS: u64 = 2;
const START: u64 = 0x10_0000_0000;
/// Bytes from one window to the next: so many that each has page tables of its own.
const APART: u64 = 1 << 31;

/// What everybody shares.
struct Stage {
    pages: u64,
    parties: usize,
    barrier: Barrier,
    over: AtomicBool,
    /// Words read where nothing is mapped, and wrong words where something is.
    unmapped: AtomicU64,
    wrong: AtomicU64,
}

pub fn round(context: &Context, round: u64) {
    let mut random = Random::new(context.seed, round ^ 0xe0 << 56);
    let pages = if random.once_in(4) { 40 } else { 1 + random.below(4) };
    match (AddressSpace::new(), AddressSpace::new()) {
        (Ok(one), Ok(other)) => run(context, pages, [one, other]),
        (one, other) => {
            let error = one.err().or(other.err());
            failure::fail("address spaces can be made", format_args!("{error:?}"));
        }
    }
}

fn run(context: &Context, pages: u64, spaces: [Arc<AddressSpace>; SPACES]) {
    let stage = Arc::new(Stage {
        pages,
        parties: SPACES * (context.cpus.len() + WINDOWS as usize),
        barrier: Barrier::new(),
        over: AtomicBool::new(false),
        unmapped: AtomicU64::new(0),
        wrong: AtomicU64::new(0),
    });
    let mut at_work = Vec::new();
    let mut bystanders = Vec::new();
    for cpu in context.cpus {
        for (number, space) in spaces.iter().enumerate() {
            let stage = stage.clone();
            let reader = Builder::new().name("reader").stack_pages(4).on(cpu).space(space.clone());
            at_work.extend(spawned(reader.spawn(move || stage.read(number))));
        }
        let stage = stage.clone();
        let bystander = Builder::new().name("bystander").on(cpu);
        bystanders.extend(spawned(bystander.spawn(move || {
            while !stage.over.load(Ordering::Relaxed) {
                thread::yield_now();
            }
        })));
    }
    for (number, space) in spaces.iter().enumerate() {
        for window in 0..WINDOWS {
            let (stage, space) = (stage.clone(), space.clone());
            let changer = Builder::new().name("changer").stack_pages(4);
            at_work.extend(spawned(changer.spawn(move || stage.change(&space, number, window))));
        }
    }
    at_work.into_iter().for_each(expect_end);
    stage.over.store(true, Ordering::Relaxed);
    drop(spaces); // bystanders and idle threads may have them loaded
    bystanders.into_iter().for_each(expect_end);
    let (unmapped, wrong) = (stage.unmapped.load(Ordering::Relaxed), stage.wrong.load(Ordering::Relaxed));
    failure::check(
        unmapped + wrong == 0,
        "no stale translation in an address space",
        format_args!("{unmapped} reads of {pages} unmapped pages, {wrong} of contents that are not there"),
    );
}

/// What the pages of a window hold.
const fn contents(change: u64, space: usize, window: u64, replaced: bool) -> u64 {
    change << 8 | (space as u64) << 4 | window << 1 | replaced as u64
}

const fn start_of(window: u64) -> u64 {
    START + window * APART
}

impl Stage {
    fn meet(&self) {
        self.barrier.wait(self.parties);
    }

    fn change(&self, space: &AddressSpace, number: usize, window: u64) {
        let neighbour = (window + 1) % WINDOWS;
        for change in 0..CHANGES {
            self.map(space, window, contents(change, number, window, false));
            self.meet();
            self.meet(); // it is read
            // The neighbour maps here as soon as it can, and we there.
            self.unmap(space, window);
            self.map(space, neighbour, contents(change, number, neighbour, true));
            self.meet();
            self.meet(); // the new contents are read
            self.unmap(space, window);
            self.meet();
            self.meet(); // nothing can be read
        }
    }

    /// Maps as soon as nothing is mapped there.
    fn map(&self, space: &AddressSpace, window: u64, contents: u64) {
        loop {
            match space.map(start_of(window), self.pages, contents, Access::ReadWrite) {
                Ok(()) => return,
                Err(SpaceError::InUse(_)) => thread::yield_now(),
                Err(error) => return failure::fail("memory can be mapped", format_args!("{error}")),
            }
        }
    }

    fn unmap(&self, space: &AddressSpace, window: u64) {
        if let Err(error) = space.unmap(start_of(window), self.pages) {
            failure::fail("what is mapped can be unmapped", format_args!("{error}"));
        }
    }

    fn read(&self, space: usize) {
        for change in 0..CHANGES {
            for replaced in [false, true] {
                self.meet();
                for window in 0..WINDOWS {
                    self.expect(window, Some(contents(change, space, window, replaced)));
                }
                self.meet();
            }
            self.meet();
            (0..WINDOWS).for_each(|window| self.expect(window, None));
            self.meet();
        }
    }

    fn expect(&self, window: u64, expected: Option<u64>) {
        for page in 0..self.pages {
            match (peek(start_of(window) + page * PAGE_SIZE), expected) {
                (Some(_), None) => _ = self.unmapped.fetch_add(1, Ordering::Relaxed),
                (found, expected) if found != expected => _ = self.wrong.fetch_add(1, Ordering::Relaxed),
                _ => {}
            }
        }
    }
}
