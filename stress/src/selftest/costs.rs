//! What mappings cost: guards take no frames, what is fresh interrupts nobody, and a dead stack costs one request at most. And what
//! threads cost, in an image without lock checks.

use super::Test;
use crate::barrier::Barrier;
use crate::bench;
use crate::failure::check;
use crate::workload::Context;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::mem::{MapFlags, PAGE_SIZE, PhysAddr, frame_counts, map_anonymous_guarded, map_guarded, unmap};
use kernel::stats::Totals;
use kernel::thread::{self, Builder};

pub const TESTS: &[Test] = &[
    ("guards-take-no-frames", no_frames),
    ("what-is-fresh-interrupts-nobody", no_interrupts),
    ("a-dead-stack-costs-one-request-at-most", one_request),
    ("a-thread-costs-few-instructions", |_| bench::check_limits()),
];

/// The text screen's memory, which no allocator owns.
const FOREIGN: PhysAddr = PhysAddr(0xb8000);

fn no_frames(_: &Context) {
    for (pages, guard) in [(1, 1), (1, 64), (1, 8000), (7, 3), (100, 500), (600, 1)] {
        let flags = MapFlags::WRITE | MapFlags::guard(guard);
        for again in [false, true] {
            let before = frame_counts();
            let made = map_anonymous_guarded(pages * PAGE_SIZE, flags);
            let after = frame_counts();
            let (frames, tables) = (after.mapped - before.mapped, after.tables - before.tables);
            let what = format_args!("{pages} pages, guards of {guard}: {frames} frames, {tables} tables, {made:?}");
            check(made.is_ok() && frames == pages, "a mapping takes a frame a page", what);
            // Two tables above, and those that the pages lie in.
            check(tables <= 2 + 1 + pages / 512 + 1, "guards need no page tables", what);
            check(!again || tables == 0, "page tables are kept, and used again", what);
            check(before.free - after.free >= frames + tables, "all frames are accounted for", what);
            check(made.is_ok_and(|address| unmap(address).is_ok()), "it can be unmapped", what);
            thread::quiesce();
        }
    }
    let before = frame_counts().mapped;
    let made = map_guarded(FOREIGN, 8 * PAGE_SIZE, MapFlags::guard(5));
    let after = frame_counts().mapped;
    check(made.is_ok() && after == before, "a given range takes no frames", format_args!("{made:?}, {after}"));
    check(made.is_ok_and(|address| unmap(address).is_ok()), "it can be unmapped", format_args!("it cannot"));
}

/// Requests and interrupts sent for shootdowns.
fn requests() -> (u64, u64, u64) {
    let totals = Totals::now();
    (totals.shootdowns, totals.shootdown_ipis, totals.deferred)
}

fn no_interrupts(context: &Context) {
    static STOP: AtomicBool = AtomicBool::new(false);
    thread::quiesce();
    let before = requests();
    let mut made = Vec::new();
    for guard in [1, 2, 30, 500] {
        for flags in [MapFlags::empty(), MapFlags::WRITE, MapFlags::EXECUTE].map(|flags| flags | MapFlags::guard(guard))
        {
            made.push(map_anonymous_guarded(20 * PAGE_SIZE, flags));
            made.push(map_guarded(FOREIGN, 4 * PAGE_SIZE, flags));
        }
    }
    let spawned: Vec<_> = context
        .cpus
        .cycle()
        .take(30)
        .map(|cpu| {
            let waits = || {
                while !STOP.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
            };
            Builder::new().name("waits").on(cpu).stack_pages(5).guard_pages(3).spawn(waits)
        })
        .collect();
    let after = requests();
    check(after == before, "what is fresh interrupts nobody", format_args!("{after:?} after {before:?}"));
    STOP.store(true, Ordering::Relaxed);
    let all = made.iter().all(Result::is_ok) && spawned.iter().all(Result::is_ok);
    check(all, "memory can be mapped and threads started", format_args!("one could not"));
    for address in made.into_iter().flatten() {
        check(unmap(address).is_ok(), "what is mapped can be unmapped", format_args!("{address:#x}"));
    }
    for handle in spawned.into_iter().flatten() {
        check(handle.join().is_ok(), "a thread that does nothing wrong lives", format_args!("one died"));
    }
}

/// One after the other; then as many at once as there are CPUs, held up between their last reaping and their end, while
/// no CPU has time to reap: their stacks wait together.
fn one_request(context: &Context) {
    static STOP: AtomicBool = AtomicBool::new(false);
    const HOLD_UP: u32 = 20_000_000;
    for _ in 0..20 {
        thread::quiesce();
        let before = Totals::now().shootdowns;
        let end = thread::spawn(|| ()).map(|handle| handle.join());
        thread::quiesce();
        let sent = Totals::now().shootdowns - before;
        check(
            end == Ok(Ok(())) && sent <= 1,
            "a dead stack costs one request at most",
            format_args!("{sent}, {end:?}"),
        );
    }
    let on_each_cpu = |name, f: &dyn Fn() -> Arc<dyn Fn() + Send + Sync>| -> Vec<_> {
        let start = |cpu| {
            let f = f();
            Builder::new().name(name).on(cpu).spawn(move || f()).ok()
        };
        context.cpus.filter_map(start).collect()
    };
    let busy = on_each_cpu("busy", &|| {
        Arc::new(|| {
            while !STOP.load(Ordering::Relaxed) {
                core::hint::spin_loop();
            }
        })
    });
    let mut shared = 0;
    for _ in 0..4 {
        thread::quiesce();
        thread::set_exit_delay(HOLD_UP);
        let before = Totals::now();
        let together = Arc::new(Barrier::new());
        let ending = on_each_cpu("ends", &|| {
            let (together, parties) = (together.clone(), context.cpus.len());
            Arc::new(move || together.wait(parties))
        });
        let stacks = ending.len() as u64;
        ending.into_iter().for_each(|h| check(h.join().is_ok(), "it ends", format_args!("it died")));
        thread::quiesce();
        thread::set_exit_delay(0);
        let after = Totals::now();
        let (reaped, sent) = (after.reaped - before.reaped, after.shootdowns - before.shootdowns);
        check(reaped == stacks, "every stack is reaped", format_args!("{reaped} of {stacks}"));
        check(sent <= stacks, "a dead stack costs one request at most", format_args!("{sent} for {stacks}"));
        shared += u64::from(sent < stacks);
    }
    check(context.cpus.len() == 1 || shared > 0, "stacks that wait together share a request", format_args!("never"));
    STOP.store(true, Ordering::Relaxed);
    busy.into_iter().for_each(|h| check(h.join().is_ok(), "it ends", format_args!("it died")));
}
