//! `unmap-storm`: memory is mapped, read on every CPU, unmapped, and mapped again at the same address to another frame.
//! Reading anything after the unmapping, or the old contents after the mapping, is a stale translation.
//!
//! Why this works under QEMU: a virtual CPU keeps a translation that it has read until it is told to drop it, however
//! the page tables change meanwhile. So a missing shootdown shows, reliably, as long as little else is touched between.

use super::{Context, expect_end, spawned};
use crate::barrier::Barrier;
use crate::failure;
use crate::random::Random;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use kernel::mem::{PAGE_SIZE, Window, peek};
use kernel::thread::Builder;

/// Times in a round that the memory changes.
const CHANGES: u64 = 24;

/// What was read that should not have been.
#[derive(Debug, Default)]
pub struct Stale {
    /// Words read after the unmapping.
    pub after_unmap: AtomicU64,
    /// Old words read after the new mapping.
    pub after_remap: AtomicU64,
}

/// What the readers and the one who changes the memory share.
#[derive(Debug, Default)]
struct Stage {
    /// The number of the step; odd steps are mapped, and the number is the contents.
    step: AtomicU64,
    /// Everybody comes here before a step and after it.
    barrier: Barrier,
}

/// The step at which the readers go home.
const END: u64 = u64::MAX;

pub fn round(context: &Context, round: u64) {
    let mut random = Random::new(context.seed, round ^ 0xd0 << 56);
    let pages = if random.once_in(4) { 40 } else { 1 + random.below(4) };
    let stale = run(context, pages, CHANGES);
    let (unmapped, remapped) = (stale.after_unmap.load(Ordering::Relaxed), stale.after_remap.load(Ordering::Relaxed));
    failure::check(
        unmapped + remapped == 0,
        "no stale translation after an unmap",
        format_args!("{unmapped} reads of {pages} unmapped pages, {remapped} of the old contents"),
    );
}

/// Changes a window of `pages` pages `changes` times under the eyes of every CPU.
pub fn run(context: &Context, pages: u64, changes: u64) -> Arc<Stale> {
    let stale = Arc::new(Stale::default());
    let mut window = match Window::new(pages) {
        Ok(window) => window,
        Err(error) => {
            failure::fail("memory can be mapped", format_args!("{error}"));
            return stale;
        }
    };
    let stage = Arc::new(Stage::default());
    let start = window.start();
    let parties = context.cpus.len() + 1;
    let readers: Vec<_> = context
        .cpus
        .filter_map(|cpu| {
            let (stage, stale) = (stage.clone(), stale.clone());
            let body = move || read(&stage, &stale, start, pages, parties);
            spawned(Builder::new().name("reader").stack_pages(4).on(cpu).spawn(body))
        })
        .collect();
    let begin = |step| {
        stage.step.store(step, Ordering::Release);
        stage.barrier.wait(parties);
    };
    let all_do = |step| {
        begin(step);
        stage.barrier.wait(parties);
    };
    for change in 0..changes {
        if let Err(error) = window.map(2 * change + 1) {
            failure::fail("memory can be mapped", format_args!("{error}"));
            break;
        }
        all_do(2 * change + 1);
        window.unmap(None);
        all_do(2 * change + 2);
    }
    begin(END);
    readers.into_iter().for_each(expect_end);
    stale
}

fn read(stage: &Stage, stale: &Stale, start: u64, pages: u64, parties: usize) {
    loop {
        stage.barrier.wait(parties);
        let step = stage.step.load(Ordering::Acquire);
        if step == END {
            return;
        }
        let mapped = step % 2 == 1;
        for page in 0..pages {
            match peek(start + page * PAGE_SIZE) {
                Some(_) if !mapped => _ = stale.after_unmap.fetch_add(1, Ordering::Relaxed),
                Some(word) if word != step => _ = stale.after_remap.fetch_add(1, Ordering::Relaxed),
                None if mapped => failure::fail("mapped memory can be read", format_args!("page {page} cannot")),
                _ => {}
            }
        }
        stage.barrier.wait(parties);
    }
}
