//! Exits: whoever ends, by itself or by another, leaves nothing behind, and nobody stands on what is freed.

use super::{Test, until_parked};
use crate::barrier::Barrier;
use crate::failure::{check, fail};
use crate::workload::Context;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;
use kernel::thread::{self, Builder, Death, JoinHandle, PreemptOff};
use kernel::{misdeed, time};

pub const TESTS: &[Test] = &[
    ("all-cpus-abort-at-once", all_at_once),
    ("a-joined-thread-can-be-used-again-at-once", joiner_reuse),
    ("ten-thousand-threads-that-end-themselves-leave-nothing", churn_by_self),
    ("ten-thousand-threads-aborted-by-others-leave-nothing", churn_by_other),
    ("the-last-pending-stack-is-reaped", last_pending),
    ("a-reaper-and-a-masked-spinner-do-not-deadlock", masked_spinner),
    ("a-thread-can-be-aborted-in-every-state", abort_in_every_state),
    ("two-threads-abort-each-other", mutual_abort),
    ("what-was-never-run-is-dropped", never_run),
];

/// States that a thread stays in until it is aborted: it runs, gives way, is parked, sleeps.
pub(super) const STATES: [fn(); 4] = [
    || loop {
        spin_loop();
    },
    || loop {
        thread::yield_now();
    },
    || loop {
        thread::park();
    },
    || thread::sleep(Duration::from_secs(1000)),
];

fn spawn(f: impl FnOnce() + Send + 'static) -> Option<JoinHandle<()>> {
    let handle = Builder::new().name("short-lived").spawn(f);
    check(handle.is_ok(), "threads can be started", format_args!("{handle:?}"));
    handle.ok()
}

fn expect(handle: Option<JoinHandle<()>>, death: Death) {
    let end = handle.map(JoinHandle::join);
    check(end == Some(Err(death)), "a thread's end is told as it was", format_args!("{end:?}, not {death:?}"));
}

/// The race of "publish, then switch": every CPU ends threads as fast as it can, each waiting (`delay=`) between its
/// last reaping and leaving its stack. With the right order there is nothing to hit.
fn all_at_once(context: &Context) {
    static BARRIER: Barrier = Barrier::new();
    let parties = context.cpus.len();
    let options = kernel::options();
    let rounds = match options.rounds {
        0 if options.delay > 1000 => 20,
        0 => 200,
        asked => asked,
    };
    let drivers: Vec<_> = context
        .cpus
        .filter_map(|cpu| {
            let drive = move || {
                for _ in 0..rounds {
                    let each = Builder::new().name("aborts").on(cpu).spawn(move || {
                        BARRIER.wait(parties);
                        thread::exit()
                    });
                    expect(each.ok(), Death::Exited);
                }
            };
            Builder::new().name("drives").on(cpu).spawn(drive).ok()
        })
        .collect();
    for driver in drivers {
        check(driver.join().is_ok(), "drivers live", format_args!("one died"));
    }
}

/// The one who joins frees and uses again at once what the dead thread stood on.
fn joiner_reuse(context: &Context) {
    let drivers: Vec<_> = context
        .cpus
        .filter_map(|_| {
            spawn(|| {
                for _ in 0..300 {
                    expect(spawn(|| thread::exit()), Death::Exited);
                    thread::reap();
                    let next = spawn(|| crate::workload::touch_whole_stack(1800));
                    check(next.is_some_and(|h| h.join().is_ok()), "the next thread lives", format_args!("it died"));
                }
            })
        })
        .collect();
    for driver in drivers {
        check(driver.join().is_ok(), "drivers live", format_args!("one died"));
    }
}

const CHURN: usize = 10_000;

fn churn_by_self(_: &Context) {
    for _ in 0..CHURN / 10 {
        let handles: Vec<_> = (0..10).filter_map(|_| spawn(|| thread::exit())).collect();
        handles.into_iter().for_each(|handle| expect(Some(handle), Death::Exited));
    }
}

fn churn_by_other(_: &Context) {
    for _ in 0..CHURN / 10 {
        let handles: Vec<_> = (0..10)
            .filter_map(|number| {
                spawn(move || {
                    loop {
                        if number % 2 == 0 { spin_loop() } else { thread::yield_now() }
                    }
                })
            })
            .collect();
        handles.iter().for_each(JoinHandle::abort);
        handles.into_iter().for_each(|handle| expect(Some(handle), Death::Aborted));
    }
}

/// One thread ends, and no other ever does: its stack is reaped all the same.
fn last_pending(_: &Context) {
    for _ in 0..50 {
        let before = kernel::mem::live_slots();
        expect(spawn(|| thread::exit()), Death::Exited);
        let since = time::now();
        while kernel::mem::live_slots() > before || thread::pending_stacks() > 0 {
            if time::now() - since > time::cycles(Duration::from_secs(5)) {
                return fail("no stack stays pending", format_args!("{} do", thread::pending_stacks()));
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// CPUs spin with interrupts masked for what only another CPU, which reaps, will do: the reaper must not hold anything
/// that they need, and must come to its end when they are done.
fn masked_spinner(context: &Context) {
    static STAGE: AtomicUsize = AtomicUsize::new(0);
    for _ in 0..30 {
        STAGE.store(0, Ordering::SeqCst);
        let me = kernel::cpu::current_id();
        let spinners: Vec<_> = context
            .cpus
            .without(me)
            .filter_map(|cpu| {
                let spin = || misdeed::spin_masked(&|| STAGE.load(Ordering::SeqCst) > 0);
                Builder::new().name("masked").on(cpu).spawn(spin).ok()
            })
            .collect();
        // While they spin, threads here end; the one that lets the spinners go ends too, and reaps before it does.
        // None of them begins before the spinners are let go: it would wait for them, and this thread, which lets them go, for it.
        let here = PreemptOff::new();
        let enders: Vec<_> = (0..4)
            .filter_map(|number| {
                let end = move || {
                    if number == 3 {
                        STAGE.store(1, Ordering::SeqCst);
                    }
                    thread::exit()
                };
                Builder::new().name("ends").on(me).spawn(end).ok()
            })
            .collect();
        STAGE.store(1, Ordering::SeqCst);
        drop(here);
        enders.into_iter().for_each(|handle| expect(Some(handle), Death::Exited));
        spinners.into_iter().for_each(|handle| check(handle.join().is_ok(), "spinners live", format_args!("one died")));
    }
}

fn abort_in_every_state(context: &Context) {
    let threads = thread::live();
    // As many as were said and not yet waited for: whoever waits late misses none.
    static SAID: AtomicUsize = AtomicUsize::new(0);
    let say = || _ = SAID.fetch_add(1, Ordering::Relaxed);
    let wait = || {
        while SAID.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        SAID.fetch_sub(1, Ordering::Relaxed);
    };
    static OVER: AtomicBool = AtomicBool::new(false);
    let joins: fn() = || {
        let other = Builder::new().name("joined").spawn(|| {
            while !OVER.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
            }
        });
        let _ = other.map(JoinHandle::join);
    };
    for cpu in context.cpus {
        for (number, way) in STATES.into_iter().chain([joins]).enumerate() {
            let handle = Builder::new().name("victim").on(cpu).spawn(move || {
                say();
                way();
            });
            wait();
            let handle = handle.ok();
            let waits = number >= 2; // the first two do not
            handle.iter().filter(|_| waits).for_each(|victim| until_parked(*victim.thread()));
            handle.iter().for_each(JoinHandle::abort);
            handle.iter().for_each(JoinHandle::abort); // twice is as good as once
            expect(handle, Death::Aborted);
        }
        // Not begun: behind another on the same CPU.
        let handle = Builder::new().name("victim").on(cpu).spawn(|| ()).ok();
        handle.iter().for_each(JoinHandle::abort);
        let end = handle.map(JoinHandle::join);
        let right = matches!(end, Some(Ok(()) | Err(Death::Aborted)));
        check(right, "a thread that has not begun can be aborted", format_args!("{end:?}"));
        // Held off by a shield, until it is dropped.
        let shielded = Builder::new().name("shielded").on(cpu).spawn(move || {
            let shield = thread::Shield::new();
            say();
            thread::sleep(Duration::from_millis(1));
            (0..1000).for_each(|_| spin_loop());
            say();
            drop(shield);
            thread::park();
        });
        wait();
        shielded.iter().for_each(JoinHandle::abort);
        wait();
        expect(shielded.ok(), Death::Aborted);
    }
    // Those that were joined by the aborted go on, and end.
    OVER.store(true, Ordering::Relaxed);
    while thread::live() > threads {
        thread::sleep(Duration::from_millis(1));
    }
}

fn mutual_abort(_: &Context) {
    static BOTH: [kernel::SpinLock<Option<JoinHandle<()>>>; 2] = [const { kernel::SpinLock::new("both", None) }; 2];
    static GO: AtomicBool = AtomicBool::new(false);
    for _ in 0..500 {
        GO.store(false, Ordering::SeqCst);
        for me in 0..2 {
            let abort_the_other = move || {
                while !GO.load(Ordering::SeqCst) {
                    spin_loop();
                }
                {
                    let _shield = thread::Shield::new();
                    if let Some(other) = &*BOTH[1 - me].lock() {
                        other.abort();
                    }
                }
                loop {
                    spin_loop();
                }
            };
            *BOTH[me].lock() = spawn(abort_the_other);
        }
        GO.store(true, Ordering::SeqCst);
        let mut aborted = 0;
        for both in &BOTH {
            // The one that dies first may not have got to the other: then we do it.
            let handle = both.lock().take();
            if let Some(handle) = handle {
                handle.abort();
                aborted += usize::from(handle.join() == Err(Death::Aborted));
            }
        }
        check(aborted == 2, "two threads that abort each other both end", format_args!("{aborted} did"));
    }
}

/// A closure that never ran gives back what it captured.
fn never_run(context: &Context) {
    let owned = Arc::new(());
    for _ in 0..100 {
        let cpu = context.cpus.lowest().expect("this CPU");
        let captured = owned.clone();
        let handle = Builder::new().name("never").on(cpu).spawn(move || drop(captured)).ok();
        handle.iter().for_each(JoinHandle::abort);
        let _ = handle.map(JoinHandle::join);
    }
    thread::quiesce();
    check(Arc::strong_count(&owned) == 1, "captures are dropped", format_args!("{} left", Arc::strong_count(&owned)));
}
