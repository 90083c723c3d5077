//! Several threads of one process map and unmap under each other's eyes. The first word is the thread's number, from 0, the
//! second the number of threads, and in its upper half the number of rounds.
//!
//! In each round every thread reads a page, then the first unmaps it and maps it again, writes another word, and every
//! thread reads it again: the old one would be a stale translation. In the end the page is unmapped, and every thread
//! but the first reads it: all die of that. Exit codes: 0 all well; 1 a stale read; 2 a call failed; 3 a read after the end.
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::sync::atomic::{AtomicU64, Ordering};
use user::call;

user::program!(run);

static ARRIVED: AtomicU64 = AtomicU64::new(0);
static PAGE: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicU64 = AtomicU64::new(0);

/// Waits until all threads have come here as often as this one.
fn meet(threads: u64, times: &mut u64) {
    *times += 1;
    ARRIVED.fetch_add(1, Ordering::SeqCst);
    while ARRIVED.load(Ordering::SeqCst) < threads * *times {
        call::yield_now();
    }
}

fn read() -> u64 {
    // SAFETY: mapped, or else this thread dies of it.
    unsafe { (PAGE.load(Ordering::SeqCst) as *const u64).read_volatile() }
}

fn write(word: u64) {
    // SAFETY: mapped by this thread.
    unsafe { (PAGE.load(Ordering::SeqCst) as *mut u64).write_volatile(word) }
}

fn run([me, threads]: [u64; 2]) -> i32 {
    let (rounds, threads, mut met) = (threads >> 32, threads & 0xffff_ffff, 0);
    let unmap_and = |again: bool| {
        let page = PAGE.load(Ordering::SeqCst);
        // SAFETY: whoever reads it meanwhile dies of it.
        let gone = unsafe { call::unmap(page, 1) };
        let back = if again { call::map(page, 1) } else { Ok(page) };
        if gone.is_err() || back != Ok(page) {
            WRONG.store(2, Ordering::SeqCst);
        }
    };
    if me == 0 {
        match call::map(0, 1) {
            Ok(page) => PAGE.store(page, Ordering::SeqCst),
            Err(_) => return 2,
        }
        write(1);
    }
    meet(threads, &mut met);
    for round in 1..=rounds {
        if read() != round {
            WRONG.store(1, Ordering::SeqCst);
        }
        meet(threads, &mut met);
        if me == 0 {
            unmap_and(true);
            write(round + 1);
        }
        meet(threads, &mut met);
        if WRONG.load(Ordering::SeqCst) != 0 {
            return WRONG.load(Ordering::SeqCst) as i32;
        }
    }
    if read() != rounds + 1 {
        return 1;
    }
    meet(threads, &mut met);
    if me == 0 {
        unmap_and(false);
    }
    meet(threads, &mut met);
    if me > 0 {
        core::hint::black_box(read());
        return 3;
    }
    WRONG.load(Ordering::SeqCst) as i32
}
