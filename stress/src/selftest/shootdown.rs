//! Shootdown: after an unmap no CPU reads what was there; and however many CPUs ask at once, all get their answers.

use super::Test;
use crate::failure::{self, check};
use crate::workload::{self, Context};
use alloc::vec::Vec;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use kernel::mem::{Access, Fill, GuardedMapping, Window, peek, ping_all};
use kernel::thread::Builder;
use kernel::{cpu, misdeed, thread, time};

pub const TESTS: &[Test] = &[
    ("no-cpu-reads-what-was-unmapped", stale),
    ("an-unmap-waits-for-cpus-that-mask-interrupts", masked_readers),
    ("all-cpus-unmap-at-once", all_to_all),
    ("stray-interrupts-do-not-answer-for-others", strays),
    ("a-cpu-that-does-not-answer-is-named", unanswered),
];

fn stale(context: &Context) {
    for pages in [1, 4, 40] {
        let stale = workload::change_under_all_eyes(context, pages, 100);
        let seen = stale.after_unmap.load(Ordering::Relaxed) + stale.after_remap.load(Ordering::Relaxed);
        check(seen == 0, "no stale translation after an unmap", format_args!("{seen} reads, {pages} pages at a time"));
    }
}

/// Readers mask interrupts, read the memory, and wait a while for the unmapping to be done. It cannot be: they have not
/// been told. If it is all the same, they read again, and what they read is stale.
fn masked_readers(context: &Context) {
    const ROUNDS: u64 = 15;
    /// Even steps: mapped; odd steps: unmapped.
    static STEP: AtomicU64 = AtomicU64::new(u64::MAX);
    static READ: AtomicU64 = AtomicU64::new(0);
    static STALE: AtomicU64 = AtomicU64::new(0);
    let Ok(mut window) = Window::new(1) else {
        return failure::fail("memory can be mapped", format_args!("no window"));
    };
    let start = window.start();
    let a_while = time::cycles(Duration::from_millis(20));
    let read = move |mapped: u64| {
        check(peek(start) == Some(mapped), "mapped memory can be read", format_args!("step {mapped}"));
        READ.fetch_add(1, Ordering::SeqCst);
        let until = time::now() + a_while;
        while STEP.load(Ordering::SeqCst) == mapped && time::now() < until {
            spin_loop();
        }
        if STEP.load(Ordering::SeqCst) != mapped && peek(start).is_some() {
            STALE.fetch_add(1, Ordering::SeqCst);
        }
    };
    let readers: Vec<_> = context
        .cpus
        .without(cpu::current_id())
        .filter_map(|cpu| {
            let rounds = move || {
                for round in 0..ROUNDS {
                    while STEP.load(Ordering::SeqCst) != 2 * round {
                        thread::yield_now();
                    }
                    misdeed::with_interrupts_masked(|| read(2 * round));
                }
            };
            Builder::new().name("masked reader").on(cpu).spawn(rounds).ok()
        })
        .collect();
    for round in 0..ROUNDS {
        check(window.map(2 * round).is_ok(), "memory can be mapped", format_args!("round {round}"));
        STEP.store(2 * round, Ordering::SeqCst);
        while READ.load(Ordering::SeqCst) < (round + 1) * readers.len() as u64 {
            spin_loop();
        }
        window.unmap(None);
        STEP.store(2 * round + 1, Ordering::SeqCst);
        // Readers that are still masked read before the memory is mapped again.
        let until = time::now() + a_while;
        while time::now() < until {
            spin_loop();
        }
    }
    readers.into_iter().for_each(|h| check(h.join().is_ok(), "readers live", format_args!("one died")));
    let stale = STALE.load(Ordering::SeqCst);
    check(stale == 0, "an unmap waits for every acknowledgement", format_args!("{stale} reads after it was done"));
}

/// Every CPU is initiator and target at the same time: two that waited for each other without answering would hang.
fn all_to_all(context: &Context) {
    let drivers: Vec<_> = context
        .cpus
        .filter_map(|cpu| {
            let drive = || {
                for round in 0..400u64 {
                    let mapping = GuardedMapping::anonymous(1 + round % 3, 1, Fill::AsIs, Access::ReadWrite);
                    let written = mapping.is_ok_and(|mapping| mapping.write(0, round));
                    check(written, "memory can be mapped and written", format_args!("round {round}"));
                }
            };
            Builder::new().name("unmaps").on(cpu).spawn(drive).ok()
        })
        .collect();
    drivers.into_iter().for_each(|h| check(h.join().is_ok(), "drivers live", format_args!("one died")));
}

/// Shootdowns under a rain of other interrupts: each counts only its own answers.
fn strays(context: &Context) {
    static STOP: AtomicBool = AtomicBool::new(false);
    let rain = thread::spawn(|| {
        while !STOP.load(Ordering::Relaxed) {
            let _ = ping_all();
        }
    });
    stale(context);
    STOP.store(true, Ordering::Relaxed);
    check(rain.is_ok_and(|h| h.join().is_ok()), "the rain ends", format_args!("it does not"));
}

/// One CPU masks its interrupts for ever: the wait for it ends, with its name and where it is.
fn unanswered(context: &Context) {
    let Some(last) = context.cpus.last() else { return };
    static MASKED: AtomicBool = AtomicBool::new(false);
    let spin = || {
        misdeed::spin_masked(&|| {
            MASKED.store(true, Ordering::Release);
            false
        })
    };
    let _ = Builder::new().name("deaf").on(last).spawn(spin);
    while !MASKED.load(Ordering::Acquire) {
        thread::yield_now();
    }
    drop(GuardedMapping::anonymous(1, 1, Fill::AsIs, Access::ReadWrite));
    failure::fail("a wait is bounded by a panic", format_args!("it came back"));
}
