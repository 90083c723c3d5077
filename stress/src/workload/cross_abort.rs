//! `cross-abort`: threads abort each other, in a circle, while they run, wait, sleep, give way, or have not begun.

use super::{Context, spawned};
use crate::failure;
use crate::random::Random;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;
use kernel::SpinLock;
use kernel::thread::{self, Builder, Death, JoinHandle, Shield};

/// Victims in a round.
const VICTIMS: usize = 16;

/// The handles, where the victims find them. A victim must own nothing: what it owns is lost with it.
static HANDLES: [SpinLock<Option<JoinHandle<()>>>; VICTIMS] = [const { SpinLock::new("victim", None) }; VICTIMS];
static BEGUN: AtomicBool = AtomicBool::new(false);
/// One round at a time uses the handles.
static TURN: AtomicBool = AtomicBool::new(false);
static READY: AtomicUsize = AtomicUsize::new(0);

pub fn round(context: &Context, round: u64) {
    while TURN.swap(true, Ordering::Acquire) {
        thread::yield_now();
    }
    BEGUN.store(false, Ordering::Relaxed);
    READY.store(0, Ordering::Relaxed);
    let mut random = Random::new(context.seed, round ^ 0xc0 << 56);
    for (number, place) in HANDLES.iter().enumerate() {
        let (way, next) = (random.below(5), (number + 1) % VICTIMS);
        *place.lock() = spawned(Builder::new().name("victim").spawn(move || live(way, next)));
    }
    // Sometimes before they have all begun.
    let patience = random.below(VICTIMS as u64 + 1) as usize;
    while READY.load(Ordering::Relaxed) < patience {
        thread::yield_now();
    }
    BEGUN.store(true, Ordering::Release);
    // Whoever broke the circle by ending before it aborted the next leaves the rest of it to us.
    for place in &HANDLES {
        if let Some(handle) = &*place.lock() {
            handle.abort();
        }
    }
    for place in &HANDLES {
        let handle = place.lock().take();
        if let Some(Err(death)) = handle.map(JoinHandle::join) {
            let expected = death == Death::Aborted;
            failure::check(expected, "a thread's end is told as it was", format_args!("{death:?}, not aborted"));
        }
    }
    TURN.store(false, Ordering::Release);
}

fn live(way: u64, next: usize) {
    READY.fetch_add(1, Ordering::Relaxed);
    while !BEGUN.load(Ordering::Acquire) {
        wait(way);
    }
    {
        // The lock is given up before an abort can come through.
        let _shield = Shield::new();
        if let Some(handle) = &*HANDLES[next].lock() {
            handle.abort();
        }
    }
    (0..1000).for_each(|_| wait(way));
}

fn wait(way: u64) {
    match way {
        0 => (0..200).for_each(|_| spin_loop()),
        1 => thread::sleep(Duration::from_millis(1)),
        2 => thread::sleep(Duration::from_micros(10)),
        3 => super::abort_storm::touch_whole_stack(1800),
        _ => thread::yield_now(),
    }
}
