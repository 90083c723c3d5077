//! Priorities: who is more urgent runs at once, equals take turns, who is less urgent waits; and CPU masks are kept.

use super::Test;
use crate::failure::{check, fail};
use crate::workload::Context;
use alloc::vec::Vec;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use kernel::thread::{self, Builder, JoinHandle, Priority};
use kernel::{SpinLock, cpu, interrupt, time};
use smp::{CpuId, CpuSet};

pub const TESTS: &[Test] = &[
    ("a-more-urgent-thread-runs-at-once-on-its-starters-cpu", at_once_here),
    ("a-more-urgent-thread-runs-at-once-on-another-cpu", at_once_there),
    ("the-most-urgent-run-first-and-equals-in-turn", in_order),
    ("a-less-urgent-thread-waits", waits),
    ("threads-keep-to-their-cpu-masks", masks),
    ("who-waits-for-quiet-lets-the-less-urgent-go-on", quiet),
];

const NORMAL: u8 = Priority::NORMAL.level();

fn priority(level: u8) -> Priority {
    Priority::new(level).unwrap_or_default()
}

/// Started, woken, and woken by a handler: it has run before its waker goes on. There is hardly a tick (`tick-hz=1`) to bring that
/// about.
fn at_once_here(context: &Context) {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    for cpu in context.cpus {
        let wake = move || {
            let mut late = 0;
            for round in 0..20 {
                let before = RUNS.load(Ordering::SeqCst);
                let urgent = Builder::new().name("urgent").on(cpu).priority(priority(NORMAL + 1)).spawn(|| {
                    RUNS.fetch_add(1, Ordering::SeqCst);
                    thread::park();
                    RUNS.fetch_add(1, Ordering::SeqCst);
                });
                let Ok(urgent) = urgent else { return 100 };
                late += u32::from(RUNS.load(Ordering::SeqCst) != before + 1);
                let handle = *urgent.thread();
                if round % 2 == 0 {
                    handle.unpark();
                } else {
                    let _ = interrupt::call(cpu, move || handle.unpark());
                }
                late += u32::from(RUNS.load(Ordering::SeqCst) != before + 2);
                let _ = urgent.join();
            }
            late
        };
        let end = Builder::new().name("wakes").on(cpu).spawn(wake).map(JoinHandle::join);
        check(end == Ok(Ok(0)), "a more urgent thread runs at once", format_args!("late: {end:?}"));
    }
}

/// A thread of the lowest priority is about to drop what another one owned, for a while; one of the highest, on the same CPU, waits for all
/// such to be over.
fn quiet(context: &Context) {
    static DROPPING: AtomicBool = AtomicBool::new(false);
    static DROPPED: AtomicU64 = AtomicU64::new(0);
    struct Slow;
    impl Drop for Slow {
        fn drop(&mut self) {
            DROPPING.store(true, Ordering::SeqCst);
            let until = time::now() + time::cycles(Duration::from_millis(100));
            while time::now() < until {
                spin_loop();
            }
            DROPPED.fetch_add(1, Ordering::SeqCst);
        }
    }
    for (round, cpu) in context.cpus.enumerate() {
        DROPPING.store(false, Ordering::SeqCst);
        let burier = Builder::new().name("buries").on(cpu).priority(Priority::LOWEST).spawn(|| {
            drop(thread::spawn(|| Slow)); // detached: what it returns is nobody's
            while !DROPPING.load(Ordering::SeqCst) {
                let _ = thread::spawn(|| ()).map(JoinHandle::join); // and whoever starts a thread drops that
            }
        });
        let urgent = Builder::new().name("urgent").on(cpu).priority(Priority::HIGHEST).spawn(|| {
            while !DROPPING.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(1));
            }
            let left = thread::quiesce();
            (left, DROPPED.load(Ordering::SeqCst))
        });
        match urgent.map(JoinHandle::join) {
            Ok(Ok((0, dropped))) => {
                check(dropped == round as u64 + 1, "quiet is when all is over", format_args!("{dropped} dropped"));
            }
            other => fail("who waits for quiet lets others bring it about", format_args!("{other:?}")),
        }
        check(burier.is_ok_and(|h| h.join().is_ok()), "the less urgent lives", format_args!("it does not"));
    }
}

/// By an interrupt, not by the next tick: that is up to a second away (`tick-hz=1`). What counts is for how long the less urgent
/// thread still went on: a CPU that the host holds up does not.
fn at_once_there(context: &Context) {
    static STOP: AtomicBool = AtomicBool::new(false);
    static RAN: AtomicU64 = AtomicU64::new(0);
    static BUSY_AT: AtomicU64 = AtomicU64::new(0);
    static BUSY_BEFORE: AtomicU64 = AtomicU64::new(0);
    let me = CpuId::new(0);
    for cpu in context.cpus.without(me) {
        STOP.store(false, Ordering::SeqCst);
        let busy = Builder::new().name("busy").on(cpu).spawn(|| {
            while !STOP.load(Ordering::SeqCst) {
                BUSY_AT.store(time::now(), Ordering::SeqCst);
            }
        });
        let start = move || {
            let mut quick = 0;
            for _ in 0..10 {
                let before = RAN.load(Ordering::SeqCst);
                let urgent = Builder::new().name("urgent").on(cpu).priority(Priority::HIGHEST).spawn(|| {
                    BUSY_BEFORE.store(BUSY_AT.load(Ordering::SeqCst), Ordering::SeqCst);
                    RAN.fetch_add(1, Ordering::SeqCst);
                });
                let started = time::now();
                while urgent.is_ok() && RAN.load(Ordering::SeqCst) == before {
                    spin_loop();
                }
                let went_on = BUSY_BEFORE.load(Ordering::SeqCst).saturating_sub(started);
                quick += u32::from(went_on < time::cycles(Duration::from_millis(100)));
                let _ = urgent.map(JoinHandle::join);
            }
            quick
        };
        let quick = Builder::new().name("starts").on(me).spawn(start).map(JoinHandle::join);
        let right = matches!(quick, Ok(Ok(8..)));
        check(right, "a more urgent thread runs at once", format_args!("on {cpu} {quick:?} of 10 times"));
        STOP.store(true, Ordering::SeqCst);
        check(busy.is_ok_and(|h| h.join().is_ok()), "who was preempted goes on", format_args!("it died"));
    }
}

/// Two of each priority are started while a more urgent thread keeps them from running.
fn in_order(context: &Context) {
    const EACH: usize = 2;
    const ALL: usize = NORMAL as usize * EACH + EACH;
    static ORDER: SpinLock<([u8; ALL], usize)> = SpinLock::new("order", ([0; ALL], 0));
    for cpu in context.cpus {
        let keep = move || {
            ORDER.lock().1 = 0;
            let levels = (0..=NORMAL).cycle().take(ALL);
            let threads = levels.enumerate().map(|(number, level)| {
                let run = move || {
                    let mut order = ORDER.lock();
                    let at = order.1;
                    order.0[at] = level * 16 + number as u8;
                    order.1 = at + 1;
                };
                Builder::new().name("in order").on(cpu).priority(priority(level)).spawn(run)
            });
            threads.filter_map(Result::ok).collect::<Vec<_>>()
        };
        let keeper = Builder::new().name("keeps").on(cpu).priority(Priority::HIGHEST).spawn(keep).map(JoinHandle::join);
        let Ok(Ok(threads)) = keeper else { return fail("threads can be started", format_args!("not")) };
        threads.into_iter().for_each(|thread| check(thread.join().is_ok(), "threads live", format_args!("one died")));
        let (order, count) = *ORDER.lock();
        // The level is in the upper half, and of equals the one that came first has the lower number.
        let sorted =
            order.windows(2).all(|two| two[0] / 16 > two[1] / 16 || two[0] / 16 == two[1] / 16 && two[0] < two[1]);
        check(count == ALL && sorted, "the most urgent run first, equals in turn", format_args!("{cpu}: {order:x?}"));
    }
}

/// While two equals take turns for several slices.
fn waits(context: &Context) {
    static TURNS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
    static RAN: AtomicBool = AtomicBool::new(false);
    static STOP: AtomicBool = AtomicBool::new(false);
    static EARLY: AtomicBool = AtomicBool::new(false);
    for cpu in context.cpus {
        for flag in [&RAN, &STOP, &EARLY] {
            flag.store(false, Ordering::SeqCst);
        }
        TURNS.iter().for_each(|turns| turns.store(0, Ordering::SeqCst));
        let start = move || {
            let equals = [0, 1].map(|me| {
                Builder::new().name("equal").on(cpu).priority(priority(NORMAL + 2)).spawn(move || {
                    let (mine, other) = (&TURNS[me], &TURNS[1 - me]);
                    let mut seen = other.load(Ordering::SeqCst);
                    // A turn begins where the other has gone on since.
                    while mine.load(Ordering::SeqCst) < 6 && !STOP.load(Ordering::SeqCst) {
                        mine.fetch_add(1, Ordering::SeqCst);
                        while other.load(Ordering::SeqCst) == seen && !STOP.load(Ordering::SeqCst) {
                            spin_loop();
                        }
                        seen = other.load(Ordering::SeqCst);
                    }
                    STOP.store(true, Ordering::SeqCst);
                    EARLY.fetch_or(RAN.load(Ordering::SeqCst), Ordering::SeqCst);
                })
            });
            let less = Builder::new().name("less urgent").on(cpu).priority(Priority::LOWEST).spawn(|| {
                RAN.store(true, Ordering::SeqCst);
            });
            (equals, less)
        };
        let started =
            Builder::new().name("starts").on(cpu).priority(Priority::HIGHEST).spawn(start).map(JoinHandle::join);
        let Ok(Ok((equals, less))) = started else { return fail("threads can be started", format_args!("not")) };
        for equal in equals {
            check(equal.is_ok_and(|h| h.join().is_ok()), "equals live", format_args!("one died"));
        }
        let both = TURNS.iter().all(|turns| turns.load(Ordering::SeqCst) >= 5);
        check(both, "equals take turns", format_args!("{TURNS:?}"));
        check(!EARLY.load(Ordering::SeqCst), "who is less urgent waits", format_args!("it ran on {cpu}"));
        let end = less.map(JoinHandle::join);
        check(end == Ok(Ok(())) && RAN.load(Ordering::SeqCst), "then it runs", format_args!("{end:?}"));
    }
}

/// Every mask of up to four CPUs that there is, under pressure from all the others.
fn masks(context: &Context) {
    static STRAYED: AtomicUsize = AtomicUsize::new(0);
    let within = context.cpus.len().min(4);
    let threads: Vec<_> = (1..1u64 << within)
        .flat_map(|mask| [mask; 2])
        .filter_map(|mask| {
            let mask = CpuSet::from_bits(mask);
            let stray = move || {
                for round in 0..60 {
                    STRAYED.fetch_add(usize::from(!mask.contains(cpu::current_id())), Ordering::SeqCst);
                    if round % 16 == 0 { thread::sleep(Duration::from_millis(1)) } else { thread::yield_now() }
                }
            };
            Builder::new().name("masked").affinity(mask).spawn(stray).ok()
        })
        .collect();
    threads.into_iter().for_each(|thread| check(thread.join().is_ok(), "threads live", format_args!("one died")));
    let strayed = STRAYED.load(Ordering::SeqCst);
    check(strayed == 0, "a thread keeps to its CPUs", format_args!("{strayed} times one did not"));
}
