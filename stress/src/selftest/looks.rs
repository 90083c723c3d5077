//! What can be seen of a thread from outside, and what it has of its own.

use super::Test;
use crate::failure::{check, fail};
use crate::workload::Context;
use alloc::collections::BTreeSet;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;
use kernel::mem::{PAGE_SIZE, StackKind, peek};
use kernel::misdeed;
use kernel::thread::{
    self, Builder, Handle, JoinHandle, Local, NoWatermark, Object, Priority, State, Threshold, TooManyLocals,
};
use smp::CpuId;

pub const TESTS: &[Test] = &[
    ("every-thread-is-listed-with-its-name-and-state", listed),
    ("turns-are-counted", turns),
    ("a-thread-has-a-word-for-others-to-see", data),
    ("thread-locals-are-each-threads-own", locals),
    ("threads-begin-at-offsets-of-their-own", offsets),
    ("threads-begin-at-the-top-unless-asked", no_offsets),
    ("a-stack-is-within-a-threshold-or-not", thresholds),
    ("the-cpus-own-stacks-have-room-to-spare", margin),
];

static STOP: AtomicBool = AtomicBool::new(false);
static RUNS: AtomicUsize = AtomicUsize::new(0);

/// What the list says of threads of this name: their number, and their states in words.
fn in_list(name: &str) -> (usize, BTreeSet<&'static str>) {
    let (mut count, mut states) = (0, BTreeSet::new());
    thread::for_each_handle(|handle| {
        if handle.name().is_some_and(|found| found.as_str() == name) {
            count += 1;
            states.insert(match handle.state() {
                State::Ready => "ready",
                State::Running => "running",
                State::Parked => "parked",
                State::Dead => "dead",
                State::Gone => "gone",
            });
        }
    });
    (count, states)
}

/// On one CPU: one that runs, two that are ready behind it, one that waits, one that sleeps; and one that is dead.
fn listed(context: &Context) {
    let cpu = CpuId::new(context.cpus.len() - 1);
    let on = |name: &str, level| Builder::new().name(name).on(cpu).priority(Priority::new(level).unwrap_or_default());
    let mut all = Vec::new();
    all.push(on("waits", 7).spawn(|| {
        while !STOP.load(Ordering::SeqCst) {
            thread::park();
        }
    }));
    all.push(on("sleeps", 7).spawn(|| thread::sleep(Duration::from_secs(1000))));
    all.push(on("dead", 7).spawn(|| ()));
    while !all.iter().flatten().any(JoinHandle::is_finished) {
        thread::yield_now();
    }
    thread::sleep(Duration::from_millis(20));
    all.push(on("runs", 5).spawn(|| {
        RUNS.fetch_add(1, Ordering::SeqCst);
        while !STOP.load(Ordering::SeqCst) {
            spin_loop();
        }
    }));
    all.extend((0..2).map(|_| on("ready", 4).spawn(|| ())));
    check(all.iter().all(Result::is_ok), "threads can be started", format_args!("{all:?}"));
    while RUNS.load(Ordering::SeqCst) == 0 {
        thread::yield_now();
    }
    for (name, count, state) in [
        ("waits", 1, "parked"),
        ("sleeps", 1, "parked"),
        ("dead", 1, "dead"),
        ("runs", 1, "running"),
        ("ready", 2, "ready"),
    ] {
        let found = in_list(name);
        check(found == (count, BTreeSet::from([state])), "every thread is listed", format_args!("'{name}': {found:?}"));
    }
    let idle = in_list("idle").0;
    check(idle == context.cpus.len(), "every thread is listed", format_args!("{idle} idle ones"));
    let words = [State::Ready, State::Running, State::Parked, State::Dead, State::Gone].map(|state| state.to_string());
    check(words == ["ready", "running", "parked", "dead", "gone"], "states have words", format_args!("{words:?}"));
    STOP.store(true, Ordering::SeqCst);
    let handles: Vec<_> = all.into_iter().flatten().collect();
    let threads: Vec<Handle> = handles.iter().map(|handle| *handle.thread()).collect();
    threads.iter().filter(|thread| thread.name().is_some_and(|name| name.as_str() == "sleeps")).for_each(Handle::abort);
    threads.iter().for_each(Handle::unpark);
    handles.into_iter().for_each(|handle| {
        let _ = handle.join();
    });
    thread::quiesce();
    for thread in threads {
        let seen = (thread.state(), thread.name(), thread.turns(), thread.data());
        check(seen == (State::Gone, None, None, None), "who is no more is gone", format_args!("{seen:?}"));
    }
    let name = "a-name-that-is-longer-than-what-is-kept-of-it";
    let long = Builder::new().name(name).spawn(|| thread::current().name());
    let kept = long.map(JoinHandle::join);
    let right = matches!(&kept, Ok(Ok(Some(kept))) if name.starts_with(kept.as_str()) && kept.as_str().len() == 24);
    check(right, "of a name 24 bytes are kept", format_args!("{kept:?}"));
}

fn turns(context: &Context) {
    for cpu in context.cpus {
        let counted = Builder::new().on(cpu).spawn(move || {
            let partner = Builder::new().on(cpu).spawn(|| (0..50).for_each(|_| thread::yield_now()));
            let before = thread::current().turns();
            (0..20).for_each(|_| thread::yield_now());
            let after = thread::current().turns();
            let _ = partner.map(JoinHandle::join);
            before.zip(after)
        });
        let counted = counted.map(JoinHandle::join);
        // One where it began; the partner may have been on its way here for a while.
        let right = matches!(counted, Ok(Ok(Some((before, after)))) if before >= 1 && after >= before + 15);
        check(right, "turns are counted", format_args!("{counted:?}"));
    }
}

/// And it is 0 in the object's next thread.
fn data(context: &Context) {
    static OBJECT: Object = Object::new();
    for cpu in context.cpus {
        for word in [7, u64::MAX] {
            RUNS.store(0, Ordering::SeqCst);
            STOP.store(false, Ordering::SeqCst);
            let keeps = Builder::new().object(&OBJECT).on(cpu).spawn(move || {
                let first = thread::current().data();
                thread::set_data(word);
                RUNS.store(1, Ordering::SeqCst);
                while !STOP.load(Ordering::SeqCst) {
                    thread::yield_now();
                }
                first
            });
            let Ok(keeps) = keeps else { return fail("the object is used again", format_args!("{keeps:?}")) };
            while RUNS.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
            let seen = keeps.thread().data();
            check(seen == Some(word), "a thread's word is seen by others", format_args!("{seen:?}, not {word}"));
            STOP.store(true, Ordering::SeqCst);
            let first = keeps.join();
            check(first == Ok(Some(0)), "a thread's word is 0 at first", format_args!("{first:?}"));
        }
    }
}

static LOCALS: [Local; 4] = [const { Local::new() }; 4];

fn locals(context: &Context) {
    static OBJECT: Object = Object::new();
    static FIFTH: Local = Local::new();
    let change = |base: u64| {
        let fresh = LOCALS.iter().all(|local| local.get() == 0);
        let set = LOCALS.iter().zip(base..).all(|(local, word)| local.set(word).is_ok());
        (0..20).for_each(|_| thread::yield_now());
        fresh && set && LOCALS.iter().zip(base..).all(|(local, word)| local.get() == word)
    };
    for round in 0..8u64 {
        let start = |(cpu, base): (CpuId, u64)| {
            Builder::new().name("own").on(cpu).spawn(move || change(base * 100 + round)).ok()
        };
        let threads: Vec<_> =
            [1, 101, 201].into_iter().flat_map(|from| context.cpus.zip(from..)).filter_map(start).collect();
        for thread in threads {
            check(thread.join() == Ok(true), "thread-locals are each thread's own", format_args!("they are not"));
        }
        // In an object that another thread had a moment ago; and one that sets none finds none.
        let again = Builder::new().object(&OBJECT).spawn(move || change(9000 + round)).map(JoinHandle::join);
        check(again == Ok(Ok(true)), "an object's next thread finds none", format_args!("{again:?}"));
        let sum = || LOCALS.iter().map(Local::get).sum::<u64>();
        let looks = Builder::new().object(&OBJECT).spawn(sum).map(JoinHandle::join);
        check(looks == Ok(Ok(0)), "an object's next thread finds none", format_args!("{looks:?}"));
    }
    let end = FIFTH.set(1);
    check(end == Err(TooManyLocals) && FIFTH.get() == 0, "there are so many and no more", format_args!("{end:?}"));
}

/// How far below the top of its stack each of many threads begins, less what all have in common.
fn begins() -> Vec<u64> {
    let one = || {
        Builder::new().spawn(|| {
            let (start, end) = thread::stack_bounds();
            end - start - thread::stack_left()
        })
    };
    let all: Vec<_> = (0..200).filter_map(|_| one().ok()).filter_map(|thread| thread.join().ok()).collect();
    check(all.len() == 200, "threads live", format_args!("{} did", all.len()));
    let least = all.iter().copied().min().unwrap_or(0);
    all.into_iter().map(|distance| distance - least).collect()
}

fn offsets(_: &Context) {
    let all = begins();
    let limit = u64::from(kernel::options().stack_offset);
    let different: BTreeSet<_> = all.iter().copied().collect();
    let right = all.iter().all(|offset| offset.is_multiple_of(16) && *offset <= limit);
    check(right, "offsets are aligned, and bounded", format_args!("{different:?}"));
    let expected = (limit / 16 + 1) as usize;
    check(different.len() > expected / 2, "offsets differ", format_args!("{different:?} of {expected}"));
    // What begins lower overflows as exactly.
    for _ in 0..20 {
        if let Ok(handle) = Builder::new().quiet().spawn(misdeed::recurse_for_ever) {
            crate::workload::expect_guard(handle, wire::record::Guard::Front);
        }
        let end = Builder::new().spawn(|| thread::exit()).map(JoinHandle::join);
        check(end == Ok(Err(thread::Death::Exited)), "it ends as any does", format_args!("{end:?}"));
    }
}

fn no_offsets(_: &Context) {
    let all = begins();
    check(all.iter().all(|offset| *offset == 0), "nothing is left out", format_args!("{all:?}"));
}

fn thresholds(context: &Context) {
    for cpu in context.cpus {
        RUNS.store(0, Ordering::SeqCst);
        STOP.store(false, Ordering::SeqCst);
        let deep = Builder::new().name("deep").on(cpu).stack_pages(16).spawn(|| {
            misdeed::call_with_frame::<{ 8 * 4096 }>();
            RUNS.store(1, Ordering::SeqCst);
            while !STOP.load(Ordering::SeqCst) {
                thread::yield_now();
            }
        });
        let Ok(deep) = deep else { return fail("threads can be started", format_args!("{deep:?}")) };
        while RUNS.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        let is_within = |threshold| deep.thread().is_within(threshold);
        for (threshold, expected) in [
            (Threshold::Bytes(8 * PAGE_SIZE), false),
            (Threshold::Bytes(10 * PAGE_SIZE), true),
            (Threshold::PerCent(50), false),
            (Threshold::PerCent(63), true),
            (Threshold::PerCent(0), false),
            (Threshold::PerCent(100), true),
        ] {
            let found = is_within(threshold);
            check(
                found == Ok(expected),
                "a stack is within a threshold or not",
                format_args!("{threshold:?}: {found:?}"),
            );
        }
        STOP.store(true, Ordering::SeqCst);
        while !deep.is_finished() {
            thread::yield_now();
        }
        let gone = is_within(Threshold::Bytes(1));
        check(gone == Err(NoWatermark::NoStack), "who has left its stack has none", format_args!("{gone:?}"));
        let _ = deep.join();
    }
}

/// After a storm: with `watermark=on` they were zeros at first, so what is none was used.
fn margin(context: &Context) {
    for round in 0..14 {
        crate::workload::round(wire::cmdline::Workload::Mixed, context, round);
    }
    let mut seen = 0;
    misdeed::for_each_cpu_stack(|cpu, kind, start, end| {
        if matches!(kind, StackKind::Idle | StackKind::Interrupt) {
            let lowest = (start..end).step_by(8).find(|at| peek(*at) != Some(0)).unwrap_or(end);
            let (used, all) = (end - lowest, end - start);
            let told = format_args!("{used} of {all} bytes of the {kind} stack of {cpu}");
            check(used > 0, "a stack was used", told);
            check(used * 4 < all * 3, "a CPU's own stack has room to spare", told);
            kernel::println!("{told}");
            seen += 1;
        }
    });
    check(seen == 2 * context.cpus.len(), "every CPU has its stacks", format_args!("{seen}"));
}
