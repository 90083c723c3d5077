//! Lending and waiting: stacks and objects that their owners keep, and threads of unequal urgency.

use super::{Test, until_over};
use crate::failure::check;
use crate::random::Random;
use crate::workload::{self, Context};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use core::time::Duration;
use kernel::mem::{Fill, peek};
use kernel::misdeed;
use kernel::record;
use kernel::thread::{
    self, Builder, Death, GuardedStack, JoinError, JoinHandle, Object, Priority, SpawnError, StackMemory,
};
use smp::MAX_CPUS;
use wire::Record;

pub const TESTS: &[Test] = &[
    ("a-stack-dropped-under-its-thread-is-freed-when-it-is-left", dropped_stacks),
    ("what-is-lent-comes-back-at-once-and-to-one", lent_stacks),
    ("an-object-that-many-want-goes-to-one", contended_object),
    ("a-detached-threads-handle-is-that-threads", detached),
    ("who-is-aborted-and-waits-on-lets-the-less-urgent-run", aborted_waiter),
    ("who-waits-for-a-turn-lets-the-less-urgent-who-has-it-run", urgent_turn),
    ("joins-that-time-out-and-aborts-cross-each-other", crossing_joins),
    ("a-stack-from-the-cache-holds-zeros", clean_cache),
];

fn wait_for(flag: &AtomicBool) {
    while !flag.load(Ordering::Acquire) {
        thread::yield_now();
    }
}

/// The owner drops the stack while a thread stands on it, or is just leaving it. Half of them are such as the cache keeps (`cache=`), and a
/// thread takes them from there at once.
fn dropped_stacks(context: &Context) {
    let drivers: Vec<_> = context
        .cpus
        .filter_map(|cpu| {
            let drive = move || {
                for round in 0..100u32 {
                    let Ok(stack) = GuardedStack::new(if round % 8 < 4 { 2 } else { 4 }, 1) else { continue };
                    let go = Arc::new(AtomicBool::new(round % 2 == 0));
                    let gone = go.clone();
                    let handle = Builder::new().name("lent").on_stack(&stack).spawn(move || wait_for(&gone));
                    if round % 4 < 2 {
                        thread::yield_now();
                    }
                    if round % 3 == 0 {
                        go.store(true, Ordering::Release);
                    }
                    drop(stack);
                    go.store(true, Ordering::Release);
                    let end = handle.map(JoinHandle::join);
                    check(end == Ok(Ok(())), "a thread lives on a stack that was dropped", format_args!("{end:?}"));
                    let next = thread::spawn(|| ()).map(JoinHandle::join);
                    check(next == Ok(Ok(())), "the next thread has a stack", format_args!("{next:?}"));
                }
            };
            Builder::new().name("drives").on(cpu).spawn(drive).ok()
        })
        .collect();
    let threads = thread::live() - drivers.len();
    for driver in drivers {
        check(driver.join().is_ok(), "drivers live", format_args!("one died"));
    }
    let left = thread::quiesce();
    check(left == 0, "stacks that were dropped are freed", format_args!("{left} are not"));
    let live = thread::live();
    check(
        live <= threads,
        "threads on stacks that were dropped leave nothing",
        format_args!("{live} and not {threads} live"),
    );
}

/// Threads come and go on each kind of lent memory; of several that want it at once one gets it.
fn lent_stacks(context: &Context) {
    static MEMORY: [StackMemory<2>; 3] = [const { StackMemory::new() }; 3];
    static RUNNING: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];
    static STARTED: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];
    fn run(which: usize) {
        let before = RUNNING[which].fetch_add(1, Ordering::SeqCst);
        check(before == 0, "a stack is lent to one", format_args!("kind {which}, {before} before"));
        thread::yield_now();
        RUNNING[which].fetch_sub(1, Ordering::SeqCst);
    }
    let Ok(shared) = GuardedStack::new(2, 1).map(Arc::new) else { return };
    let drivers: Vec<_> = context
        .cpus
        .filter_map(|cpu| {
            let shared = shared.clone();
            let drive = move || {
                for round in 0..120usize {
                    let (which, builder) = (round % 4, Builder::new().name("lent"));
                    let builder = match which {
                        0 => builder.on_stack(&shared),
                        1 => builder.on_view_of(&MEMORY[0]),
                        2 => misdeed::on_bare(builder, &MEMORY[1]),
                        _ => builder.on_view_of(&MEMORY[2]).guard_pages(2),
                    };
                    match builder.spawn(move || run(which)) {
                        Ok(handle) => {
                            STARTED[which].fetch_add(1, Ordering::Relaxed);
                            let end = handle.join();
                            check(end.is_ok(), "a thread lives on what is lent", format_args!("{which}: {end:?}"));
                        }
                        Err(SpawnError::StackInUse) => thread::yield_now(),
                        Err(error) => check(false, "what is lent is there", format_args!("{which}: {error}")),
                    }
                }
            };
            Builder::new().name("drives").on(cpu).spawn(drive).ok()
        })
        .collect();
    for driver in drivers {
        check(driver.join().is_ok(), "drivers live", format_args!("one died"));
    }
    for started in &STARTED {
        check(started.load(Ordering::Relaxed) > 0, "each kind was lent", format_args!("one was not"));
    }
    check(!shared.is_busy(), "a stack comes back at once", format_args!("it is busy"));
}

/// An aborted, detached thread is on its way out of an object that several threads want at once.
fn contended_object(context: &Context) {
    static OBJECT: Object = Object::new();
    static BUSY: AtomicUsize = AtomicUsize::new(0);
    fn hold() {
        {
            let _shield = thread::Shield::new();
            let before = BUSY.fetch_add(1, Ordering::SeqCst);
            check(before == 0, "an object is one thread's", format_args!("{before} before"));
            (0..3).for_each(|_| thread::yield_now());
            BUSY.fetch_sub(1, Ordering::SeqCst);
        }
        loop {
            thread::park();
        }
    }
    fn drive() -> u32 {
        let mut mine = 0;
        for round in 0..200 {
            let builder = Builder::new().name("object").object(&OBJECT);
            if round % 2 == 0 {
                match builder.spawn_detached(hold) {
                    Ok(handle) => {
                        mine += 1;
                        thread::yield_now();
                        handle.abort();
                    }
                    Err(error) => {
                        let right = error == SpawnError::ObjectInUse;
                        check(right, "an object is free or in use", format_args!("{error}"));
                    }
                }
            } else if let Ok(handle) = builder.spawn(hold) {
                mine += 1;
                handle.abort();
                let end = handle.join();
                check(end == Err(Death::Aborted), "an object's thread is joined", format_args!("{end:?}"));
            }
            thread::yield_now();
        }
        mine
    }
    let drivers: Vec<_> =
        context.cpus.filter_map(|cpu| Builder::new().name("drives").on(cpu).spawn(drive).ok()).collect();
    let had: u32 = drivers.into_iter().filter_map(|driver| driver.join().ok()).sum();
    check(had > 0, "an object can be had", format_args!("nobody had it"));
    check(thread::quiesce() == 0, "an object's threads leave nothing", format_args!("something is left"));
}

/// Threads that nobody joins end, and their objects are used again, while their spawners still look at them.
fn detached(context: &Context) {
    let drivers: Vec<_> = context
        .cpus
        .filter_map(|cpu| {
            let drive = move || {
                let mut let_go = Vec::new();
                for _ in 0..100 {
                    let told = Arc::new(AtomicU32::new(0));
                    let own = told.clone();
                    let tell = move || own.store(thread::current().id(), Ordering::Release);
                    let Ok(handle) = Builder::new().name("detached").spawn_detached(tell) else { continue };
                    while told.load(Ordering::Acquire) == 0 {
                        thread::yield_now();
                    }
                    let (own, seen) = (told.load(Ordering::Relaxed), handle.id());
                    check(own == seen, "a handle is of the thread that was started", format_args!("{seen}, not {own}"));
                    let_go.push(handle);
                }
                let_go.into_iter().for_each(until_over);
            };
            Builder::new().name("drives").on(cpu).spawn(drive).ok()
        })
        .collect();
    for driver in drivers {
        check(driver.join().is_ok(), "drivers live", format_args!("one died"));
    }
}

/// On one CPU a thread that is aborted, and holds that off, waits for the end of one that is less urgent.
fn aborted_waiter(context: &Context) {
    static JOINED: AtomicUsize = AtomicUsize::new(0);
    let Some(cpu) = context.cpus.lowest() else { return };
    for limit in [None, Some(Duration::from_secs(1000))] {
        let waiter = Builder::new().name("urgent").on(cpu).priority(Priority::HIGHEST).spawn(move || {
            let _shield = thread::Shield::new();
            let other = Builder::new().name("patient").on(cpu).priority(Priority::LOWEST).spawn(|| 7);
            thread::current().abort();
            let value = match (other, limit) {
                (Ok(other), None) => other.join().ok(),
                (Ok(other), Some(limit)) => other.join_within(limit).ok().and_then(Result::ok),
                (Err(_), _) => None,
            };
            JOINED.fetch_add(value.unwrap_or(0), Ordering::Relaxed);
        });
        let end = waiter.map(JoinHandle::join);
        check(end == Ok(Err(Death::Aborted)), "an abort is held off, and comes", format_args!("{end:?}"));
    }
    let joined = JOINED.load(Ordering::Relaxed);
    check(joined == 14, "who holds an abort off waits to the end", format_args!("{joined}"));
}

/// On one CPU a thread is preempted while it has the second serial port, by a more urgent one that wants it.
fn urgent_turn(context: &Context) {
    static STOP: AtomicBool = AtomicBool::new(false);
    let Some(cpu) = context.cpus.lowest() else { return };
    let send = || record::send(&Record::Count { name: "turns", value: 1 });
    let patient = Builder::new().name("patient").on(cpu).priority(Priority::LOWEST).spawn(move || {
        while !STOP.load(Ordering::Relaxed) {
            send();
            (0..20_000).for_each(|_| spin_loop()); // nobody who polls wins against one who never pauses
        }
    });
    let urgent = Builder::new().name("urgent").on(cpu).priority(Priority::HIGHEST).spawn(move || {
        for _ in 0..30 {
            thread::sleep(Duration::from_millis(3));
            send();
        }
        STOP.store(true, Ordering::Relaxed);
    });
    for each in [urgent, patient] {
        let end = each.map(JoinHandle::join);
        check(end == Ok(Ok(())), "both get their turns", format_args!("{end:?}"));
    }
}

/// Joiners wait for a time, are aborted while they wait, let go, or stay to the end.
fn crossing_joins(context: &Context) {
    static BEGUN: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];
    let seed = context.seed;
    let drivers: Vec<_> = context
        .cpus
        .filter_map(|cpu| {
            let drive = move || {
                let mut random = Random::new(seed, cpu.index() as u64);
                let mut let_go = Vec::new();
                for _ in 0..250 {
                    let (spins, limit, way) = (random.below(2000), random.below(3000), random.below(4));
                    let target = Builder::new().name("target").spawn(move || {
                        match way {
                            0 => (0..spins).for_each(|_| spin_loop()),
                            1 => thread::sleep(Duration::from_micros(spins)),
                            2 => (0..spins / 100).for_each(|_| thread::yield_now()),
                            _ => thread::exit(),
                        }
                        spins
                    });
                    let Ok(mut target) = target else { continue };
                    let (patience, aborted) = (random.below(4), random.once_in(3));
                    let_go.extend((patience % 2 == 1).then_some(*target.thread()));
                    let begun = &BEGUN[cpu.index()];
                    begun.store(false, Ordering::Relaxed);
                    let joiner = Builder::new().name("joiner").spawn(move || {
                        // The handle would be lost with the stack.
                        let _shield = thread::Shield::new();
                        begun.store(true, Ordering::Relaxed);
                        for _ in 0..=patience {
                            match target.join_within(Duration::from_micros(limit)) {
                                Ok(end) => return Some(end),
                                Err(JoinError::Timeout(back)) => target = back,
                                Err(other) => {
                                    check(false, "a join ends or times out", format_args!("{other}"));
                                    target = other.into_handle();
                                }
                            }
                        }
                        if patience % 2 == 0 {
                            return Some(target.join());
                        }
                        drop(target); // before the shield is
                        None
                    });
                    let Ok(joiner) = joiner else { continue };
                    if aborted {
                        // An abort between the thread's begin and its shield would lose the handle, too.
                        while !begun.load(Ordering::Relaxed) {
                            thread::yield_now();
                        }
                        (0..random.below(2000)).for_each(|_| spin_loop());
                        joiner.abort();
                    }
                    let end = joiner.join();
                    let right = match end {
                        Ok(Some(Ok(value))) => value == spins && way < 3,
                        Ok(Some(Err(death))) => death == Death::Exited && way == 3,
                        Ok(None) => patience % 2 == 1,
                        Err(death) => death == Death::Aborted && aborted,
                    };
                    check(right, "a join tells the end as it was", format_args!("{end:?}, way {way}"));
                }
                let_go.into_iter().for_each(until_over);
            };
            Builder::new().name("drives").on(cpu).spawn(drive).ok()
        })
        .collect();
    for driver in drivers {
        check(driver.join().is_ok(), "drivers live", format_args!("one died"));
    }
}

/// Stacks go from thread to thread by the cache, and are taken out of it by others who lack memory.
fn clean_cache(context: &Context) {
    thread::set_stack_cache(3);
    let seed = context.seed;
    let drivers: Vec<_> = context
        .cpus
        .filter_map(|cpu| {
            let drive = move || {
                let mut random = Random::new(seed, cpu.index() as u64);
                for _ in 0..150 {
                    let left = 3000 + random.below(10_000);
                    let builder = Builder::new().name("cached");
                    let handles: Vec<_> = (0..=random.below(3))
                        .filter_map(|_| match random.below(3) {
                            0 => builder.clone().fill(Fill::AsIs).spawn(move || workload::touch_whole_stack(left)).ok(),
                            _ => builder
                                .clone()
                                .fill(Fill::Zeros)
                                .spawn(move || {
                                    expect_zeros();
                                    workload::touch_whole_stack(left);
                                })
                                .ok(),
                        })
                        .collect();
                    if random.once_in(10) {
                        // There is no stack so large: all that are kept are given up first.
                        let none = Builder::new().stack_pages(1 << 14).spawn(|| ());
                        check(none.is_err(), "a stack of 64 MiB is refused", format_args!("it was mapped"));
                    }
                    for handle in handles {
                        check(handle.join().is_ok(), "threads on cached stacks live", format_args!("one died"));
                    }
                }
            };
            Builder::new().name("drives").on(cpu).spawn(drive).ok()
        })
        .collect();
    for driver in drivers {
        check(driver.join().is_ok(), "drivers live", format_args!("one died"));
    }
    thread::set_stack_cache(0);
    check(thread::quiesce() == 0, "cached stacks are freed", format_args!("some are not"));
}

/// Below what this thread has used itself there is nothing.
fn expect_zeros() {
    let (start, end) = thread::stack_bounds();
    let used = 3000.min((end - start) / 2);
    let dirty = (start..end - used).step_by(8).find(|at| peek(*at).is_some_and(|word| word != 0));
    let promise = "a stack holds nothing of the thread before";
    check(dirty.is_none(), promise, format_args!("{dirty:x?} of {start:#x} to {end:#x}"));
}
