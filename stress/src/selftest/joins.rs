//! Joins: whoever would wait for ever is refused, whoever waited in vain has the handle back.

use super::{Test, until_over};
use crate::barrier::Barrier;
use crate::failure::{check, fail};
use crate::workload::Context;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;
use kernel::thread::{self, Builder, Death, JoinError, JoinHandle};
use kernel::{SpinLock, time};
use smp::CpuId;

pub const TESTS: &[Test] = &[
    ("a-thread-does-not-wait-for-its-own-end", itself),
    ("threads-that-wait-for-each-other-in-a-circle-are-told", circles),
    ("a-join-that-takes-too-long-gives-the-handle-back", timeout),
    ("a-join-of-a-finished-thread-returns-at-once", finished),
];

const LONG: Duration = Duration::from_secs(1000);

/// Handles of threads, where they find their own and each other's.
static HANDLES: [SpinLock<Option<JoinHandle<u64>>>; 3] = [const { SpinLock::new("joined", None) }; 3];

fn itself(context: &Context) {
    static THERE: AtomicBool = AtomicBool::new(false);
    static BACK: AtomicBool = AtomicBool::new(false);
    for cpu in context.cpus {
        THERE.store(false, Ordering::SeqCst);
        BACK.store(false, Ordering::SeqCst);
        let wait_for_oneself = || {
            while !THERE.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            let me = HANDLES[0].lock().take();
            match me.map(|me| me.join_within(LONG)) {
                Some(Err(JoinError::Itself(me))) => *HANDLES[0].lock() = Some(me),
                other => fail("a thread does not wait for its own end", format_args!("{other:?}")),
            }
            BACK.store(true, Ordering::SeqCst);
            6
        };
        *HANDLES[0].lock() = Builder::new().name("itself").on(cpu).spawn(wait_for_oneself).ok();
        THERE.store(true, Ordering::SeqCst);
        while !BACK.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        let handle = HANDLES[0].lock().take();
        let end = handle.map(JoinHandle::join);
        check(end == Some(Ok(6)), "the handle is given back", format_args!("{end:?}"));
    }
}

/// One at least is told, and lets the others go.
fn circles(context: &Context) {
    static BARRIER: Barrier = Barrier::new();
    static TOLD: AtomicUsize = AtomicUsize::new(0);
    static JOINED: AtomicUsize = AtomicUsize::new(0);
    for size in [2, 3] {
        for round in 0..40 {
            for count in [&TOLD, &JOINED] {
                count.store(0, Ordering::SeqCst);
            }
            let mut all = Vec::new();
            for (me, place) in HANDLES.iter().enumerate().take(size) {
                let wait_for_next = move || {
                    BARRIER.wait(size + 1);
                    let next = HANDLES[(me + 1) % size].lock().take();
                    BARRIER.wait(size);
                    match next.map(|next| next.join_within(LONG)) {
                        Some(Ok(Ok(1))) => JOINED.fetch_add(1, Ordering::SeqCst),
                        Some(Err(JoinError::Deadlock(_))) => TOLD.fetch_add(1, Ordering::SeqCst),
                        other => {
                            fail("of a circle one is told", format_args!("{other:?}"));
                            0
                        }
                    };
                    1
                };
                let cpu = CpuId::new((me + round) % context.cpus.len());
                let handle = Builder::new().name("circle").on(cpu).spawn(wait_for_next).ok();
                all.extend(handle.as_ref().map(|handle| *handle.thread()));
                *place.lock() = handle;
            }
            BARRIER.wait(size + 1);
            let done = || TOLD.load(Ordering::SeqCst) + JOINED.load(Ordering::SeqCst);
            let until = time::now() + time::cycles(Duration::from_secs(20));
            while done() < size && time::now() < until {
                thread::sleep(Duration::from_millis(1));
            }
            let (told, joined) = (TOLD.load(Ordering::SeqCst), JOINED.load(Ordering::SeqCst));
            let right = told >= 1 && told + joined == size;
            check(right, "of a circle one is told", format_args!("of {size}: {told} told, {joined} joined"));
            if right {
                all.into_iter().for_each(until_over);
            }
        }
    }
}

fn timeout(context: &Context) {
    static GO: AtomicBool = AtomicBool::new(false);
    for cpu in context.cpus {
        GO.store(false, Ordering::SeqCst);
        let slow = Builder::new().name("slow").on(cpu).spawn(|| {
            while !GO.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(1));
            }
            3
        });
        let Ok(mut handle) = slow else { return fail("threads can be started", format_args!("{slow:?}")) };
        for millis in [0, 1, 20] {
            let (limit, since) = (Duration::from_millis(millis), time::now());
            handle = match handle.join_within(limit) {
                Err(JoinError::Timeout(handle)) => handle,
                other => return fail("a join that takes too long is an error", format_args!("{other:?}")),
            };
            let waited = time::now() - since;
            check(waited >= time::cycles(limit), "a join waits as long as it may", format_args!("{waited} cycles"));
        }
        GO.store(true, Ordering::SeqCst);
        match handle.join_within(LONG) {
            Ok(Ok(3)) => {}
            other => fail("a later join works", format_args!("{other:?}")),
        }
        // Aborted after a join in vain.
        let parked = Builder::new().name("parked").on(cpu).spawn(|| {
            loop {
                thread::park();
            }
        });
        match parked.map(|handle: JoinHandle<()>| handle.join_within(Duration::from_millis(1))) {
            Ok(Err(JoinError::Timeout(handle))) => {
                handle.abort();
                let end = handle.join();
                check(end == Err(Death::Aborted), "a later join works", format_args!("{end:?}"));
            }
            other => fail("a join that takes too long is an error", format_args!("{other:?}")),
        }
    }
}

fn finished(context: &Context) {
    for cpu in context.cpus {
        let handles: Vec<_> = [|| 4, || thread::exit()]
            .into_iter()
            .filter_map(|f: fn() -> u64| Builder::new().on(cpu).spawn(f).ok())
            .collect();
        while !handles.iter().all(JoinHandle::is_finished) {
            thread::yield_now();
        }
        let ends: Vec<_> = handles.into_iter().map(|handle| handle.join_within(Duration::ZERO).ok()).collect();
        let right = ends == [Some(Ok(4)), Some(Err(Death::Exited))];
        check(right, "an end that has come is not waited for", format_args!("{ends:?}"));
    }
}
