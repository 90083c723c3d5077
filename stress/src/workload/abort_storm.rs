//! `abort-storm`: on every CPU threads are started that touch their whole stack and end themselves, half of them
//! whenever they come to it, half at a barrier, all at once.

use super::{Context, expect_death, expect_end, spawned};
use crate::barrier::Barrier;
use crate::random::Random;
use alloc::vec::Vec;
use core::hint::black_box;
use kernel::thread::{self, Builder, Death};

/// Threads that one CPU starts in a round: as many staggered as at the barrier.
const STAGGERED: usize = 4;
const TOGETHER: usize = 2;
/// Bytes of stack that a thread leaves untouched: what the kernel may need of it to end it.
const LEFT: u64 = 1800;

static BARRIER: Barrier = Barrier::new();

pub fn round(context: &Context, round: u64) {
    let parties = context.cpus.len() * TOGETHER;
    let starters: Vec<_> = context
        .cpus
        .filter_map(|cpu| {
            let random = Random::new(context.seed, round << 8 | cpu.index() as u64);
            let body = move || start(random, parties);
            spawned(Builder::new().name("abort-storm").stack_pages(4).on(cpu).spawn(body))
        })
        .collect();
    starters.into_iter().for_each(expect_end);
}

fn start(mut random: Random, parties: usize) {
    let staggered = (0..STAGGERED).filter_map(|_| {
        let pause = random.below(8);
        spawned(Builder::new().name("staggered").spawn(move || {
            touch_whole_stack(LEFT);
            (0..pause).for_each(|_| thread::yield_now());
            thread::exit()
        }))
    });
    let mut handles: Vec<_> = staggered.collect();
    handles.extend((0..TOGETHER).filter_map(|_| {
        spawned(Builder::new().name("together").spawn(move || {
            touch_whole_stack(LEFT);
            BARRIER.wait(parties);
            thread::exit()
        }))
    }));
    handles.into_iter().for_each(|handle| expect_death(handle, Death::Exited));
}

/// Writes all of the stack but the last `left` bytes.
pub fn touch_whole_stack(left: u64) {
    let here = black_box([0xa5u8; 256]);
    if thread::stack_left() > left + 400 {
        touch_whole_stack(left);
    }
    black_box(here);
}
