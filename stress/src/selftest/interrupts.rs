//! Functions in interrupt handlers: they run where they should, and may do there what is promised, and no more.

use super::Test;
use crate::failure::{check, fail};
use crate::workload::Context;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use kernel::interrupt::{self, PostError};
use kernel::mem::{Access, Fill, GuardedMapping};
use kernel::thread::{self, Builder, Death, Fault, FaultKind, JoinError, JoinHandle};
use kernel::{SpinLock, cpu, misdeed};
use smp::CpuId;

pub const TESTS: &[Test] = &[
    ("a-function-runs-in-a-handler-on-any-cpu", anywhere),
    ("what-is-posted-runs-once-or-is-refused", posted),
    ("a-handler-joins-nobody", joins_nobody),
    ("a-fault-on-another-cpu-is-told-to-the-joiner", fault_elsewhere),
    ("a-fault-in-a-handler-is-a-panic", |context| panics(context, misdeed::read_null)),
    ("an-unmap-in-a-handler-is-a-panic", |context| {
        static MAPPING: SpinLock<Option<GuardedMapping>> = SpinLock::new("mapping", None);
        *MAPPING.lock() = GuardedMapping::anonymous(1, 1, Fill::AsIs, Access::Read).ok();
        panics(context, || {
            let mapping = MAPPING.lock().take();
            drop(mapping);
        });
    }),
    ("a-call-inside-a-handler-is-a-panic", |context| {
        panics(context, || {
            let _ = interrupt::call(cpu::current_id(), || ());
        });
    }),
];

fn anywhere(context: &Context) {
    for from in context.cpus {
        let call_all = {
            let cpus = context.cpus;
            move || {
                for cpu in cpus {
                    let (mut seen, here) = (None, cpu::current_id());
                    for round in 0..50u64 {
                        // What the handler borrows is the caller's own.
                        let end = interrupt::call(cpu, || {
                            seen = Some((cpu::current_id(), interrupt::is_here()));
                            round * 3
                        });
                        let right = end == Ok(round * 3) && seen == Some((cpu, true)) && !interrupt::is_here();
                        check(right, "a function runs where it should", format_args!("{here}: {end:?}, {seen:?}"));
                    }
                }
            }
        };
        let caller = Builder::new().name("calls").on(from).spawn(call_all).map(JoinHandle::join);
        check(caller == Ok(Ok(())), "callers live", format_args!("{caller:?}"));
    }
    let nowhere = CpuId::new(63);
    let end = interrupt::call(nowhere, || ());
    check(end == Err(PostError::NotUp(nowhere)), "a CPU that is not up runs nothing", format_args!("{end:?}"));
    // All call each other at once.
    let all = context.cpus.filter_map(|from| {
        let cpus = context.cpus;
        let storm = move || (0..40).all(|_| cpus.into_iter().all(|cpu| interrupt::call(cpu, || 7) == Ok(7)));
        Builder::new().name("calls").on(from).spawn(storm).ok()
    });
    for caller in all.collect::<alloc::vec::Vec<_>>() {
        check(caller.join() == Ok(true), "all can call each other at once", format_args!("one did not"));
    }
}

fn posted(context: &Context) {
    static RUN: AtomicU64 = AtomicU64::new(0);
    static MASKED: AtomicBool = AtomicBool::new(false);
    static STOP: AtomicBool = AtomicBool::new(false);
    fn add(word: u64) {
        RUN.fetch_add(word, Ordering::SeqCst);
    }
    for cpu in context.cpus.without(cpu::current_id()) {
        for flag in [&MASKED, &STOP] {
            flag.store(false, Ordering::SeqCst);
        }
        let deaf = Builder::new().name("deaf").on(cpu).spawn(|| {
            misdeed::spin_masked(&|| {
                MASKED.store(true, Ordering::SeqCst);
                STOP.load(Ordering::SeqCst)
            });
        });
        while deaf.is_ok() && !MASKED.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        if cpu == cpu::current_id() {
            // The test was moved there in time, and `deaf` elsewhere: it cannot be, since that one is pinned.
            return fail("a pinned thread stays", format_args!("{cpu}"));
        }
        let before = RUN.load(Ordering::SeqCst);
        let ends = [interrupt::post(cpu, add, 1), interrupt::post(cpu, add, 100)];
        let right = ends == [Ok(()), Err(PostError::Busy(cpu))];
        check(right, "what would be lost is refused", format_args!("{cpu}: {ends:?}"));
        check(RUN.load(Ordering::SeqCst) == before, "masked is masked", format_args!("{cpu} runs it"));
        STOP.store(true, Ordering::SeqCst);
        let end = deaf.map(JoinHandle::join);
        check(end == Ok(Ok(())), "who masks interrupts lives", format_args!("{end:?}"));
        // One that is waited for comes after it.
        let _ = interrupt::call(cpu, || ());
        let more = RUN.load(Ordering::SeqCst) - before;
        check(more == 1, "what is posted runs once", format_args!("{more} on {cpu}"));
    }
}

/// The handle is given back, and is good.
fn joins_nobody(context: &Context) {
    for cpu in context.cpus {
        let handle = Builder::new().name("other").spawn(|| 9);
        let joined = handle.map(|handle| interrupt::call(cpu, || handle.join_within(core::time::Duration::MAX)));
        match joined {
            Ok(Ok(Err(JoinError::InInterrupt(handle)))) => {
                let end = handle.join();
                check(end == Ok(9), "the handle is given back", format_args!("{end:?}"));
            }
            other => fail("a handler does not wait", format_args!("{other:?}")),
        }
    }
}

/// And the CPU that it happened on goes on.
fn fault_elsewhere(context: &Context) {
    static AT: AtomicUsize = AtomicUsize::new(0);
    for from in context.cpus {
        for cpu in context.cpus {
            let watch = move || {
                let handle = Builder::new().name("faults").on(cpu).quiet().spawn(|| {
                    AT.store(cpu::current_id().index(), Ordering::SeqCst);
                    misdeed::read_null();
                });
                handle.map(JoinHandle::join)
            };
            let end = Builder::new().name("watches").on(from).spawn(watch).map(JoinHandle::join);
            let right = matches!(end, Ok(Ok(Ok(Err(Death::Fault(Fault { kind: FaultKind::Page, .. }))))));
            check(
                right && AT.load(Ordering::SeqCst) == cpu.index(),
                "a fault is told to the joiner",
                format_args!("{end:?}"),
            );
            let after = interrupt::call(cpu, || 1);
            check(after == Ok(1), "the CPU goes on", format_args!("{after:?}"));
        }
    }
}

/// On the last CPU. The machine panics, which the host expects.
fn panics(context: &Context, deed: fn()) {
    let cpu = CpuId::new(context.cpus.len() - 1);
    let _ = interrupt::call(cpu, deed);
    for _ in 0..1000 {
        spin_loop();
    }
    fail("a handler keeps to what it may do", format_args!("{cpu} goes on"));
}
