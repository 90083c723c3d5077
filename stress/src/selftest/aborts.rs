//! Aborts: of oneself, of others, late and often, from interrupt handlers, and in a ring of CPUs that all abort each other.

use super::Test;
use super::exits::STATES;
use crate::failure::{check, fail};
use crate::workload::Context;
use alloc::vec::Vec;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use kernel::thread::{self, Builder, Death, Handle, JoinHandle, Object, Priority, Shield, State};
use kernel::{SpinLock, cpu, interrupt};
use smp::CpuId;

pub const TESTS: &[Test] = &[
    ("a-thread-that-aborts-itself-ends-there", of_self),
    ("an-abort-is-no-more-when-asked-for-again", repeatedly),
    ("an-abort-can-come-late-and-from-anybody", delayed),
    ("a-thread-that-a-handler-interrupts-can-be-aborted-by-it", interrupted),
    ("a-handler-aborts-any-thread-and-its-object-is-used-again", from_handler),
    ("who-is-aborted-ends-while-its-aborter-waits", cooperative),
    ("idle-threads-do-not-end", idle),
    ("an-essential-threads-abort-is-a-panic", essential),
    ("an-essential-threads-abort-by-a-handler-is-a-panic", essential_from_handler),
    ("a-ring-of-handlers-that-abort-each-others-threads-ends", rings),
];

fn expect_aborted<T: core::fmt::Debug + PartialEq>(handle: Option<JoinHandle<T>>) {
    let end = handle.map(JoinHandle::join);
    check(end == Some(Err(Death::Aborted)), "a thread's end is told as it was", format_args!("{end:?}"));
}

fn of_self(context: &Context) {
    static AFTER: AtomicBool = AtomicBool::new(false);
    for cpu in context.cpus {
        let end_here = || {
            thread::current().abort();
            AFTER.store(true, Ordering::SeqCst);
        };
        expect_aborted(Builder::new().name("itself").on(cpu).spawn(end_here).ok());
        check(!AFTER.load(Ordering::SeqCst), "who aborts itself ends there", format_args!("it went on"));
    }
}

/// While it lives, when it is dead, and when another thread has its object.
fn repeatedly(context: &Context) {
    static OBJECT: Object = Object::new();
    for cpu in context.cpus {
        let first = Builder::new().object(&OBJECT).on(cpu).spawn(|| thread::sleep(Duration::from_secs(1000)));
        let Ok(first) = first else { return fail("threads can be started", format_args!("{first:?}")) };
        let old = *first.thread();
        (0..10).for_each(|_| old.abort());
        expect_aborted(Some(first));
        (0..10).for_each(|_| old.abort());
        let second = Builder::new().object(&OBJECT).on(cpu).spawn(move || {
            (0..10).for_each(|_| old.abort());
            thread::yield_now();
            8
        });
        (0..10).for_each(|_| old.abort());
        let end = second.map(JoinHandle::join);
        check(end == Ok(Ok(8)), "another thread is not ended for it", format_args!("{end:?}"));
        check(old.state() == State::Gone, "what ended is gone", format_args!("{}", old.state()));
    }
}

fn delayed(context: &Context) {
    static VICTIM: SpinLock<Option<Handle>> = SpinLock::new("late victim", None);
    static ASKED: AtomicBool = AtomicBool::new(false);
    for (cpu, from) in context.cpus.zip(context.cpus.into_iter().cycle().skip(1)) {
        ASKED.store(false, Ordering::SeqCst);
        let victim = Builder::new().name("victim").on(cpu).spawn(|| {
            loop {
                thread::park();
            }
        });
        *VICTIM.lock() = victim.as_ref().ok().map(|handle| *handle.thread());
        let late = Builder::new().name("late").on(from).spawn(|| {
            thread::sleep(Duration::from_millis(20));
            ASKED.store(true, Ordering::SeqCst);
            let victim = *VICTIM.lock();
            victim.as_ref().map(Handle::abort)
        });
        expect_aborted::<()>(victim.ok());
        check(ASKED.load(Ordering::SeqCst), "an abort is not early", format_args!("it was"));
        check(late.is_ok_and(|h| h.join() == Ok(Some(()))), "the aborter lives", format_args!("it does not"));
    }
}

/// In a handler: ends the thread that was interrupted, if it is the one with this number.
fn abort_if_here(number: u64) {
    let here = thread::current();
    if u64::from(here.id()) == number {
        here.abort();
        here.abort();
        RETURNED.store(true, Ordering::SeqCst);
    }
}
static RETURNED: AtomicBool = AtomicBool::new(false);

/// From another CPU than its own: there, whoever posts would be the thread that is interrupted.
fn interrupted_from(from: CpuId, cpu: CpuId) {
    RETURNED.store(false, Ordering::SeqCst);
    let victim = Builder::new().name("interrupted").on(cpu).spawn(|| {
        loop {
            spin_loop();
        }
    });
    let Ok(victim) = victim else { return fail("threads can be started", format_args!("{victim:?}")) };
    let thread = *victim.thread();
    let post = move || {
        while !matches!(thread.state(), State::Dead | State::Gone) {
            let _ = interrupt::post(cpu, abort_if_here, thread.id().into());
            thread::yield_now();
        }
    };
    let poster = Builder::new().name("posts").on(from).spawn(post).map(JoinHandle::join);
    check(poster == Ok(Ok(())), "the poster lives", format_args!("{poster:?}"));
    expect_aborted::<()>(Some(victim));
    check(RETURNED.load(Ordering::SeqCst), "the handler comes to its end", format_args!("it did not"));
}

fn interrupted(context: &Context) {
    for (cpu, from) in context.cpus.zip(context.cpus.into_iter().cycle().skip(1)) {
        if cpu != from {
            interrupted_from(from, cpu);
        }
        // By itself, through a handler on its own CPU.
        let me = || {
            let number = u64::from(thread::current().id());
            let _ = interrupt::post(cpu::current_id(), abort_if_here, number);
            loop {
                spin_loop();
            }
        };
        expect_aborted::<()>(Builder::new().name("interrupts itself").on(cpu).spawn(me).ok());
        // Waiting for a call, which holds the abort off until it is over.
        let call = || {
            let end = interrupt::call(cpu::current_id(), || thread::current().abort());
            fail("an abort held off comes through", format_args!("{end:?}"));
        };
        expect_aborted(Builder::new().name("calls").on(cpu).spawn(call).ok());
    }
}

/// Threads in every state, aborted by a handler on each CPU; each time one object is used again.
fn from_handler(context: &Context) {
    static OBJECT: Object = Object::new();
    for (cpu, from) in context.cpus.flat_map(|cpu| context.cpus.map(move |from| (cpu, from))) {
        for (number, way) in STATES.into_iter().enumerate() {
            let victim = Builder::new().name("victim").object(&OBJECT).on(cpu).spawn(way);
            let Ok(victim) = victim else { return fail("the object is used again", format_args!("{victim:?}")) };
            // Sometimes before it has begun.
            (0..number).for_each(|_| thread::yield_now());
            let handle = *victim.thread();
            let end = interrupt::call(from, move || handle.abort());
            check(end.is_ok(), "a handler can abort", format_args!("{end:?}"));
            expect_aborted(Some(victim));
        }
    }
    thread::quiesce();
    check(OBJECT.is_free(), "the object is free in the end", format_args!("it is not"));
}

/// On one CPU: who is aborted has to run once more to end, so whoever waits for that has to let it.
fn cooperative(context: &Context) {
    for cpu in context.cpus {
        let abort_and_wait = move || {
            for round in 0..100u64 {
                let priority = Priority::new((round % 8) as u8).unwrap_or_default();
                let victim = Builder::new().name("victim").on(cpu).priority(priority).spawn(|| {
                    loop {
                        thread::yield_now();
                    }
                });
                if round % 3 == 0 {
                    thread::yield_now();
                }
                victim.iter().for_each(JoinHandle::abort);
                expect_aborted::<()>(victim.ok());
            }
        };
        let aborter = Builder::new().name("aborter").on(cpu).priority(Priority::HIGHEST).spawn(abort_and_wait);
        let end = aborter.map(JoinHandle::join);
        check(end == Ok(Ok(())), "the aborter lives", format_args!("{end:?}"));
    }
}

fn idle(context: &Context) {
    for cpu in context.cpus {
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(1));
            let hit = interrupt::call(cpu, || {
                let here = thread::current();
                let idles = here.name().is_some_and(|name| name.as_str() == "idle");
                if idles {
                    here.abort();
                }
                idles
            });
            let end = Builder::new().on(cpu).spawn(|| 5).map(JoinHandle::join);
            check(end == Ok(Ok(5)), "an idle thread does not end", format_args!("{cpu}, {hit:?}: {end:?}"));
        }
    }
}

fn heart() -> Option<JoinHandle<()>> {
    Builder::new()
        .name("heart")
        .essential()
        .spawn(|| {
            loop {
                thread::park();
            }
        })
        .ok()
}

fn essential(_: &Context) {
    let heart = heart();
    heart.iter().for_each(JoinHandle::abort);
    let end = heart.map(JoinHandle::join);
    fail("an essential thread's end is a panic", format_args!("{end:?}"));
}

fn essential_from_handler(context: &Context) {
    let Some(heart) = heart() else { return };
    let handle = *heart.thread();
    let _ = interrupt::call(CpuId::new(context.cpus.len() - 1), move || handle.abort());
    let end = heart.join();
    fail("an essential thread's end is a panic", format_args!("{end:?}"));
}

const MOST: usize = 8;
static RING: [Object; MOST] = [const { Object::new() }; MOST];
static THREADS: SpinLock<[Option<Handle>; MOST]> = SpinLock::new("ring", [None; MOST]);
static READY: AtomicU64 = AtomicU64::new(0);
static INSIDE: AtomicU64 = AtomicU64::new(0);
static ASKED: AtomicU64 = AtomicU64::new(0);

/// How the handlers of a ring go about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// As they come.
    AsTheyCome,
    /// When all CPUs of the ring are in their handlers.
    Together,
    /// As before, and none returns before all have asked.
    TogetherToTheEnd,
    /// As before, and each asks for the end of all of them, its own included.
    OfAll,
}

const WAYS: [Way; 4] = [Way::AsTheyCome, Way::Together, Way::TogetherToTheEnd, Way::OfAll];

/// In the handler that interrupted a thread of the ring; the word has its place, the size of the ring and the way.
fn abort_next(word: u64) {
    let [me, size, way] = [word & 0xff, word >> 8 & 0xff, word >> 16];
    let way = WAYS[way as usize];
    let all_have = |count: &AtomicU64| {
        count.fetch_add(1, Ordering::SeqCst);
        while count.load(Ordering::SeqCst) < size {
            spin_loop();
        }
    };
    if way != Way::AsTheyCome {
        all_have(&INSIDE);
    }
    let threads = *THREADS.lock();
    let next = ((me + 1) % size) as usize;
    for (number, thread) in threads.iter().enumerate() {
        if number == next || way == Way::OfAll {
            thread.iter().for_each(Handle::abort);
        }
    }
    if matches!(way, Way::TogetherToTheEnd | Way::OfAll) {
        all_have(&ASKED);
    }
}

/// A thread of the ring, pinned to its CPU: when all are there it is interrupted, and never goes on from that.
fn stand_in_ring(me: u64, size: u64, way: u64) {
    // Where handlers do not wait for each other, a thread that ended too early would leave the next one out.
    let shield = (WAYS[way as usize] == Way::AsTheyCome).then(Shield::new);
    READY.fetch_add(1, Ordering::SeqCst);
    while READY.load(Ordering::SeqCst) <= size {
        thread::yield_now();
    }
    let _ = interrupt::post(cpu::current_id(), abort_next, me | size << 8 | way << 16);
    drop(shield);
    loop {
        spin_loop();
    }
}

/// The last round's objects are the next one's.
fn rings(context: &Context) {
    let cpus = context.cpus.len().min(MOST);
    let sizes = [1, 2, 3, 4, cpus].into_iter().filter(|size| *size <= cpus);
    for size in sizes {
        for round in 0..60u64 {
            let way = round % WAYS.len() as u64;
            for count in [&READY, &INSIDE, &ASKED] {
                count.store(0, Ordering::SeqCst);
            }
            let start = |me: usize| {
                let stand = move || stand_in_ring(me as u64, size as u64, way);
                let builder =
                    Builder::new().name("ring").object(&RING[me]).on(CpuId::new((me + round as usize) % cpus));
                builder.spawn(stand).map_err(|error| fail("the objects are used again", format_args!("{error}"))).ok()
            };
            let threads: Vec<_> = (0..size).filter_map(start).collect();
            let mut handles = [None; MOST];
            handles.iter_mut().zip(&threads).for_each(|(place, thread)| *place = Some(*thread.thread()));
            *THREADS.lock() = handles;
            READY.fetch_add(1, Ordering::SeqCst);
            threads.into_iter().for_each(|thread| expect_aborted::<()>(Some(thread)));
        }
    }
}
