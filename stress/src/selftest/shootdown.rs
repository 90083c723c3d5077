//! Shootdown: after an unmap no CPU reads what was there; and however many CPUs ask at once, all get their answers.

use super::Test;
use crate::failure::{self, check};
use crate::workload::{self, Context};
use alloc::vec::Vec;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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

/// Readers look, with interrupts masked, whether the unmapping is done, and then read: while they are masked they have
/// not been told, so it cannot be done and the read cannot go through.
fn masked_readers(context: &Context) {
    static ROUND: AtomicU64 = AtomicU64::new(0);
    static STALE: AtomicU64 = AtomicU64::new(0);
    const ROUNDS: u64 = 300;
    let Ok(mut window) = Window::new(1) else {
        return failure::fail("memory can be mapped", format_args!("no window"));
    };
    let start = window.start();
    let me = cpu::current_id();
    let readers: Vec<_> = context
        .cpus
        .without(me)
        .filter_map(|cpu| {
            // Odd rounds: unmapped. A round that changed meanwhile says nothing.
            let look = move || {
                let round = ROUND.load(Ordering::SeqCst);
                let stale = peek(start).is_some() && round % 2 == 1 && ROUND.load(Ordering::SeqCst) == round;
                STALE.fetch_add(u64::from(stale), Ordering::Relaxed);
                round
            };
            let read = move || {
                while misdeed::with_interrupts_masked(|| (0..20).fold(0, |_, _| look())) < 2 * ROUNDS {
                    spin_loop();
                }
            };
            Builder::new().name("masked reader").on(cpu).spawn(read).ok()
        })
        .collect();
    for round in 0..ROUNDS {
        check(window.map(round).is_ok(), "memory can be mapped", format_args!("round {round}"));
        let mapped = time::now();
        while time::now() - mapped < 20_000 {
            spin_loop(); // let them read it
        }
        window.unmap(None);
        ROUND.store(2 * round + 1, Ordering::SeqCst);
        let unmapped = time::now();
        while time::now() - unmapped < 20_000 {
            spin_loop();
        }
        ROUND.store(2 * round + 2, Ordering::SeqCst);
    }
    readers.into_iter().for_each(|h| check(h.join().is_ok(), "readers live", format_args!("one died")));
    let stale = STALE.load(Ordering::Relaxed);
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
