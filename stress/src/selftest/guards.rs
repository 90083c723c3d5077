//! Guards: what hits one dies of it, is told as it was, and dies alone.

use super::Test;
use crate::failure::check;
use crate::workload::{Context, expect_guard};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;
use kernel::mem::{PAGE_SIZE, peek};
use kernel::misdeed;
use kernel::stats::Totals;
use kernel::thread::{self, Builder, Death, Fault, FaultKind};
use smp::CpuId;
use wire::record::Guard::{Front, Rear};

pub const TESTS: &[Test] = &[
    ("a-guard-is-exact-to-the-byte", exact),
    ("an-overflow-on-every-cpu-ends-its-thread-alone", on_every_cpu),
    ("overflows-on-all-cpus-at-once", at_once),
    ("a-large-frame-cannot-step-over-the-guard", large_frames),
    ("a-kernel-call-with-too-little-stack-is-an-overflow", on_call),
    ("a-thread-can-end-itself-with-no-stack-left", exit_at_the_edge),
    ("a-wild-pointer-is-no-overflow", wild),
    ("interrupts-at-the-edge-of-the-stack-are-not-lost", interrupts_at_the_edge),
];

fn one(cpu: CpuId, f: impl FnOnce() + Send + 'static) -> Option<thread::JoinHandle<()>> {
    let handle = Builder::new().name("misbehaves").on(cpu).spawn(f);
    check(handle.is_ok(), "threads can be started", format_args!("{handle:?}"));
    handle.ok()
}

/// Joins the thread and checks what it died of.
fn died_of(handle: Option<thread::JoinHandle<()>>, expected: FaultKind) {
    let end = handle.map(thread::JoinHandle::join);
    let right = matches!(end, Some(Err(Death::Fault(Fault { kind, .. }))) if kind == expected);
    check(right, "a fault is told as it was", format_args!("{end:?}, not {expected:?}"));
}

fn exact(context: &Context) {
    for cpu in context.cpus {
        for distance in [1, 8, PAGE_SIZE / 2, PAGE_SIZE] {
            died_of(one(cpu, move || misdeed::write_below_stack(distance)), FaultKind::Guard(Front, distance));
            died_of(one(cpu, move || misdeed::write_above_stack(distance)), FaultKind::Guard(Rear, distance));
        }
        let inside = one(cpu, || {
            let (start, end) = thread::stack_bounds();
            check(peek(start).is_some(), "the first byte is stack", format_args!("{start:#x} is not mapped"));
            check(peek(end - 8).is_some(), "the last word is stack", format_args!("{end:#x} - 8 is not mapped"));
        });
        check(inside.is_some_and(|h| h.join().is_ok()), "the edge itself is no guard", format_args!("it faulted"));
    }
}

fn on_every_cpu(context: &Context) {
    for cpu in context.cpus {
        let bystander = one(cpu, || (0..50).for_each(|_| thread::yield_now()));
        if let Some(handle) = one(cpu, misdeed::recurse_for_ever) {
            expect_guard(handle, Front);
        }
        let lives = bystander.is_some_and(|handle| handle.join().is_ok());
        check(lives, "an overflow ends its thread alone", format_args!("a bystander on {cpu} died"));
    }
}

fn at_once(context: &Context) {
    for _ in 0..10 {
        let handles: Vec<_> = context.cpus.filter_map(|cpu| one(cpu, misdeed::recurse_for_ever)).collect();
        handles.into_iter().for_each(|handle| expect_guard(handle, Front));
    }
}

fn large_frames(context: &Context) {
    for cpu in context.cpus {
        for f in [misdeed::call_with_frame::<{ 3 * 4096 }>, misdeed::call_with_frame::<{ 64 * 4096 }>] {
            // On a stack of two pages, both are larger than what is left.
            if let Ok(handle) = Builder::new().name("large frame").on(cpu).stack_pages(2).spawn(f) {
                expect_guard(handle, Front);
            }
        }
    }
}

fn on_call(context: &Context) {
    let calls: [fn(); 5] = [
        || drop(thread::Shield::new()),
        || kernel::println!("never printed: {}", 1),
        || drop(core::hint::black_box(Box::new(1))),
        || drop(thread::spawn(|| ())),
        || thread::sleep(Duration::from_millis(1)),
    ];
    for cpu in context.cpus {
        for (left, call) in [0, 100, 200, 400, 800].into_iter().flat_map(|left| calls.map(|call| (left, call))) {
            if let Some(handle) = one(cpu, move || misdeed::with_stack_left(left, &mut || call())) {
                expect_guard(handle, Front);
            }
        }
    }
}

/// Ending oneself needs no stack but for the call.
fn exit_at_the_edge(context: &Context) {
    for cpu in context.cpus {
        for left in [192, 400, 800] {
            let end =
                one(cpu, move || misdeed::with_stack_left(left, &mut || thread::exit())).map(|handle| handle.join());
            check(end == Some(Err(Death::Exited)), "a thread can always end itself", format_args!("{end:?}"));
        }
    }
}

fn wild(context: &Context) {
    for cpu in context.cpus {
        died_of(one(cpu, misdeed::read_null), FaultKind::Page);
        died_of(one(cpu, misdeed::execute_nonsense), FaultKind::Exception(6));
    }
}

/// Threads stand as close to the guard as they can, while interrupts rain: one whose frame does not fit ends the
/// thread, and is served all the same; its sender would wait for ever otherwise.
fn interrupts_at_the_edge(context: &Context) {
    let before = Totals::now().replayed;
    for left in [0u64, 8, 40, 120, 168, 176, 240] {
        let edge: Vec<_> = context
            .cpus
            .filter_map(|cpu| {
                let f = move || misdeed::spin_at_the_edge(left, 20_000);
                Builder::new().name("at the edge").on(cpu).quiet().spawn(f).ok()
            })
            .collect();
        for _ in 0..200 {
            let _ = kernel::mem::ping_all();
        }
        for handle in edge {
            let end = handle.join();
            let right = matches!(end, Ok(()) | Err(Death::Fault(Fault { kind: FaultKind::Guard(Front, _), .. })));
            check(right, "an interrupt without stack is an overflow", format_args!("{end:?}"));
        }
    }
    let replayed = Totals::now().replayed - before;
    check(replayed > 0, "interrupts did hit the edge", format_args!("none did"));
}
