//! `space-storm`: two address spaces with the same addresses in use. On every CPU threads of one or both read there and give
//! way to each other and to threads of none, while others map, replace and unmap. Reading what is unmapped, what was
//! replaced, or what belongs to the other space is a stale translation. In the end both spaces are destroyed, while CPUs
//! still have them loaded.

use super::{Context, expect_end, spawned};
use crate::failure;
use crate::random::Random;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use kernel::mem::{Access, AddressSpace, PAGE_SIZE, SpaceError, peek};
use kernel::thread::{self, Builder, JoinHandle};

/// What each changer does in a round.
const CHANGES: u64 = 60;
const SPACES: usize = 2;
/// Ranges of each space.
const WINDOWS: usize = 2;
/// Threads that change each space.
const CHANGERS: u64 = 2;
const START: u64 = 0x10_0000_0000;
/// Bytes from one window to the next: so many that each has page tables of its own.
const APART: u64 = 1 << 31;

/// What is at a window: a number that counts up with each change, and one of these.
mod state {
    pub const UNMAPPED: u64 = 0;
    pub const MAPPED: u64 = 1;
    /// Somebody unmaps it.
    pub const GOING: u64 = 2;
    /// Somebody maps it, as soon as nobody unmaps it any more.
    pub const COMING: u64 = 3;

    pub const fn kind(state: u64) -> u64 {
        state & 3
    }

    pub const fn next(state: u64, kind: u64) -> u64 {
        ((state >> 2) + 1) << 2 | kind
    }
}

/// What everybody shares.
struct Stage {
    pages: u64,
    windows: [[AtomicU64; WINDOWS]; SPACES],
    over: AtomicBool,
    /// Words read where nothing is mapped, and wrong words where something is.
    unmapped: AtomicU64,
    wrong: AtomicU64,
}

pub fn round(context: &Context, round: u64) {
    let mut random = Random::new(context.seed, round ^ 0xe0 << 56);
    let pages = if random.once_in(4) { 40 } else { 1 + random.below(4) };
    match (AddressSpace::new(), AddressSpace::new()) {
        (Ok(one), Ok(other)) => run(context, pages, &mut random, [one, other]),
        (one, other) => {
            let error = one.err().or(other.err());
            failure::fail("address spaces can be made", format_args!("{error:?}"));
        }
    }
}

fn run(context: &Context, pages: u64, random: &mut Random, spaces: [Arc<AddressSpace>; SPACES]) {
    let stage = Arc::new(Stage {
        pages,
        windows: [const { [const { AtomicU64::new(0) }; WINDOWS] }; SPACES],
        over: AtomicBool::new(false),
        unmapped: AtomicU64::new(0),
        wrong: AtomicU64::new(0),
    });
    let mut dwellers: Vec<JoinHandle<()>> = Vec::new();
    for cpu in context.cpus {
        // Where nobody dwells in one space, its CPU comes back to the other without having loaded anything between; where
        // both are at home, it goes from one to the other.
        let which = random.below(3) as usize;
        for (number, space) in spaces.iter().enumerate().filter(|(number, _)| which != *number) {
            let stage = stage.clone();
            let dweller = Builder::new().name("dweller").stack_pages(4).on(cpu).space(space.clone());
            dwellers.extend(spawned(dweller.spawn(move || stage.dwell(number))));
        }
        let stage = stage.clone();
        dwellers.extend(spawned(Builder::new().name("bystander").on(cpu).spawn(move || stage.stand_by())));
    }
    let mut changers = Vec::new();
    for (number, space) in spaces.iter().enumerate() {
        for _ in 0..CHANGERS {
            let (stage, space) = (stage.clone(), space.clone());
            let random = Random::new(context.seed, random.below(u64::MAX));
            let changer = Builder::new().name("changer").stack_pages(4);
            changers.extend(spawned(changer.spawn(move || stage.change(&space, number, random))));
        }
    }
    changers.into_iter().for_each(expect_end);
    drop(spaces); // the last dweller to end destroys its space, which CPUs of bystanders may have loaded
    stage.over.store(true, Ordering::Relaxed);
    dwellers.into_iter().for_each(expect_end);
    let (unmapped, wrong) = (stage.unmapped.load(Ordering::Relaxed), stage.wrong.load(Ordering::Relaxed));
    failure::check(
        unmapped + wrong == 0,
        "no stale translation in an address space",
        format_args!("{unmapped} reads of {pages} unmapped pages, {wrong} of contents that are not there"),
    );
}

/// What the pages of a window hold, by the state that says so.
const fn contents(space: usize, window: usize, state: u64) -> u64 {
    state << 8 | (space as u64) << 4 | window as u64
}

const fn start_of(window: usize) -> u64 {
    START + window as u64 * APART
}

impl Stage {
    /// Maps what is unmapped or is just being unmapped, and unmaps what is mapped.
    fn change(&self, space: &AddressSpace, number: usize, mut random: Random) {
        for _ in 0..CHANGES {
            let window = random.below(WINDOWS as u64) as usize;
            let place = &self.windows[number][window];
            let found = place.load(Ordering::Acquire);
            let kind = match state::kind(found) {
                state::MAPPED => state::GOING,
                state::UNMAPPED | state::GOING => state::COMING,
                _ => {
                    thread::yield_now();
                    continue;
                }
            };
            let claimed = state::next(found, kind);
            if place.compare_exchange(found, claimed, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                continue;
            }
            let end = if kind == state::GOING { state::UNMAPPED } else { state::MAPPED };
            let done = state::next(claimed, end);
            match end {
                state::UNMAPPED => self.unmap(space, window),
                _ => self.map(space, window, contents(number, window, done)),
            }
            // Not if somebody waits to map what was unmapped.
            let _ = place.compare_exchange(claimed, done, Ordering::AcqRel, Ordering::Relaxed);
            thread::yield_now();
        }
    }

    /// Maps as soon as nothing is mapped there.
    fn map(&self, space: &AddressSpace, window: usize, contents: u64) {
        loop {
            match space.map(start_of(window), self.pages, contents, Access::ReadWrite) {
                Ok(()) => return,
                Err(SpaceError::InUse(_)) => thread::yield_now(),
                Err(error) => return failure::fail("memory can be mapped", format_args!("{error}")),
            }
        }
    }

    fn unmap(&self, space: &AddressSpace, window: usize) {
        if let Err(error) = space.unmap(start_of(window), self.pages) {
            failure::fail("what is mapped can be unmapped", format_args!("{error}"));
        }
    }

    fn dwell(&self, space: usize) {
        while !self.over.load(Ordering::Relaxed) {
            (0..WINDOWS).for_each(|window| self.look(space, window));
            thread::yield_now();
        }
    }

    fn stand_by(&self) {
        while !self.over.load(Ordering::Relaxed) {
            thread::yield_now();
        }
    }

    /// Reads a window; what was read counts if nothing changed meanwhile.
    fn look(&self, space: usize, window: usize) {
        let place = &self.windows[space][window];
        let before = place.load(Ordering::Acquire);
        let expected = match state::kind(before) {
            state::UNMAPPED => None,
            state::MAPPED => Some(contents(space, window, before)),
            _ => return,
        };
        for page in 0..self.pages {
            let found = peek(start_of(window) + page * PAGE_SIZE);
            if found == expected {
                continue;
            }
            if place.load(Ordering::Acquire) == before {
                let count = if expected.is_none() { &self.unmapped } else { &self.wrong };
                count.fetch_add(1, Ordering::Relaxed);
            }
            return;
        }
    }
}
