//! `overflow`: a share of the threads run into their guards, in front or behind, by recursion, by one store, by a large
//! frame, or by calling the kernel with too little stack left. They die of it, are told apart, and the others go on.

use super::{Context, expect_end, spawned};
use crate::failure;
use crate::random::Random;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::misdeed;
use kernel::thread::{self, Builder, Death, Fault, FaultKind, JoinHandle};
use wire::record::Guard::{self, Front, Rear};

/// Threads in a round for each CPU; every other one misbehaves.
const EACH: usize = 4;
/// The first overflow of a run is shown, as an example of the report; the others are only counted and checked.
static SHOWN: AtomicBool = AtomicBool::new(false);

pub fn round(context: &Context, round: u64) {
    let mut random = Random::new(context.seed, round ^ 0xe0 << 56);
    let threads: Vec<_> = (0..context.cpus.len() * EACH)
        .filter_map(|number| {
            let way = if number % 2 == 0 { None } else { Some(random.below(5)) };
            let builder = Builder::new().name(if way.is_some() { "overflows" } else { "behaves" });
            let builder = if way.is_some() && !SHOWN.swap(true, Ordering::Relaxed) { builder } else { builder.quiet() };
            spawned(builder.spawn(move || misbehave(way))).map(|handle| (handle, way))
        })
        .collect();
    for (handle, way) in threads {
        match way {
            None => expect_end(handle),
            Some(way) => expect_guard(handle, if way == 3 { Rear } else { Front }),
        }
    }
}

fn misbehave(way: Option<u64>) {
    match way {
        None => (0..20).for_each(|_| thread::yield_now()),
        Some(0) => misdeed::recurse_for_ever(),
        Some(1) => misdeed::write_below_stack(1),
        Some(2) => misdeed::call_with_frame::<{ 64 << 10 }>(),
        Some(3) => misdeed::write_above_stack(1),
        Some(_) => misdeed::with_stack_left(300, &mut || drop(thread::Shield::new())),
    }
}

/// Joins a thread that should have died of this guard.
pub fn expect_guard(handle: JoinHandle<()>, expected: Guard) {
    let end = handle.join();
    let right = matches!(end, Err(Death::Fault(Fault { kind: FaultKind::Guard(guard, _), .. })) if guard == expected);
    failure::check(right, "a guard hit is told as one", format_args!("{end:?}, not the guard {expected:?}"));
}
