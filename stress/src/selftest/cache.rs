//! Stacks that CPUs keep (`cache=`): what that saves, how many they are, and that nobody reads what the thread before left.

use super::Test;
use crate::failure::check;
use crate::workload::Context;
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::mem::{
    Fill, FrameCounts, MapFlags, PAGE_SIZE, frame_counts, live_slots, map_anonymous_guarded, peek, unmap,
};
use kernel::stats::Totals;
use kernel::thread::{self, Builder};
use smp::CpuId;

pub const TESTS: &[Test] = &[
    ("a-spawn-after-an-exit-maps-nothing", maps_nothing),
    ("a-cpu-keeps-no-more-stacks-than-it-may", holds_its_size),
    ("what-a-stack-held-is-cleared", contents),
    ("stacks-that-are-kept-are-no-memory-lost", pressure),
];

/// Runs `f` on this CPU, in a thread of its own, and gives its value. The thread's stack is none that a CPU would keep.
fn on<T: Send + 'static>(cpu: CpuId, f: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let value = Builder::new().name("driver").stack_pages(9).on(cpu).spawn(f).map(thread::JoinHandle::join);
    check(matches!(value, Ok(Ok(_))), "a thread that does nothing wrong lives", format_args!("a driver did not"));
    value.ok()?.ok()
}

/// What a spawn that maps, or an exit that unmaps, would change; and hits and misses.
fn mapped() -> ((FrameCounts, u64, u64, u64), u64, u64) {
    let totals = Totals::now();
    let requests = totals.shootdowns + totals.deferred;
    ((frame_counts(), live_slots(), requests, totals.reaped), totals.cache_hits, totals.cache_misses)
}

fn maps_nothing(context: &Context) {
    const TURNS: u64 = 1000;
    for cpu in context.cpus {
        thread::quiesce();
        let seen = on(cpu, move || {
            let turn = || {
                let end = Builder::new().on(cpu).spawn(|| ()).map(thread::JoinHandle::join);
                check(end == Ok(Ok(())), "a thread that does nothing wrong lives", format_args!("{end:?}"));
            };
            turn();
            let before = mapped();
            (0..TURNS).for_each(|_| turn());
            (before, mapped())
        });
        let Some((before, after)) = seen else { return };
        check(after.0 == before.0, "what is kept is not mapped again", format_args!("{after:?} after {before:?}"));
        let (hits, misses) = (after.1 - before.1, after.2 - before.2);
        let steady = hits == TURNS && misses == 0;
        check(steady, "each spawn after an exit finds a stack", format_args!("{hits} hits, {misses} misses"));
    }
}

/// More threads at once on each CPU than it may keep stacks; with ever other sizes.
fn holds_its_size(context: &Context) {
    const THREADS: usize = 24;
    static GO: AtomicBool = AtomicBool::new(false);
    let promise = "a CPU keeps as many stacks as it may";
    for size in [4, 16, 1, 0, 7, 0] {
        thread::set_stack_cache(size);
        thread::quiesce();
        let begun = Totals::now();
        for (turn, cpu) in context.cpus.enumerate() {
            GO.store(false, Ordering::Relaxed);
            let spawn = |_| {
                Builder::new().name("waits").on(cpu).spawn(|| {
                    while !GO.load(Ordering::Acquire) {
                        thread::yield_now();
                    }
                })
            };
            let handles: Vec<_> = (0..THREADS).filter_map(|at| spawn(at).ok()).collect();
            check(handles.len() == THREADS, "threads can be started", format_args!("{} were", handles.len()));
            // What the spawns here took was the first CPU's, where this thread runs.
            let before = thread::cached_stacks();
            GO.store(true, Ordering::Release);
            let lived = handles.into_iter().filter_map(|handle| handle.join().ok()).count();
            check(lived == THREADS, "a thread that does nothing wrong lives", format_args!("{lived} did"));
            let (kept, expected) = (thread::cached_stacks(), before + size as usize);
            check(kept == expected, promise, format_args!("size {size}, turn {turn}: {kept}, not {expected}"));
        }
        let (ended, looked) = (Totals::now(), |totals: &Totals| totals.cache_hits + totals.cache_misses);
        let asked = looked(&ended) - looked(&begun);
        check((size == 0) == (asked == 0), "size 0 turns the cache off", format_args!("size {size}: {asked} looked"));
        thread::quiesce();
        check(thread::cached_stacks() == 0, "a quiet moment keeps none", format_args!("{}", thread::cached_stacks()));
    }
    thread::set_stack_cache(kernel::options().cache);
}

const SECRET: u64 = 0x5ec2_e75e_c2e7_5ec2;
/// Bytes below a thread's frame that what it calls, and interrupts, may have written to.
const OWN: u64 = 1500;

/// Writes secrets all over the stack, but for the last `left` bytes.
fn write_secrets(left: u64) {
    let here = black_box([SECRET; 32]);
    if thread::stack_left() > left + 500 {
        write_secrets(left);
    }
    black_box(here);
}

/// What a thread finds on its stack below its own frames: where the stack begins, words that are not zero, secrets.
type Found = (u64, u64, u64);

fn look() -> Found {
    let start = thread::stack_bounds().0;
    let words = (start..start + thread::stack_left().saturating_sub(OWN)).step_by(8).filter_map(peek);
    let (not_zero, secrets) = words.fold((0, 0), |(not_zero, secrets), word| {
        (not_zero + u64::from(word != 0), secrets + u64::from(word == SECRET))
    });
    (start, not_zero, secrets)
}

fn contents(context: &Context) {
    for owner in context.cpus {
        for heir in context.cpus {
            on(owner, move || {
                for left in [1800, 2500, 5000, 9000, 13_000] {
                    one_depth(owner, heir, left);
                }
            });
        }
    }
}

/// On the CPU `owner`: what threads there leave on their stack, and what is found by others that run on the CPU `heir`.
fn one_depth(owner: CpuId, heir: CpuId, left: u64) {
    let promise = "nothing is left of the thread before";
    let writes = |fill: Option<Fill>| {
        let builder = Builder::new().name("writes").on(owner);
        let builder = fill.map_or(builder.clone(), |fill| builder.fill(fill));
        let body = move || {
            write_secrets(left);
            thread::stack_bounds().0
        };
        builder.spawn(body).ok()?.join().ok()
    };
    let looks = |cpu: CpuId, fill: Option<Fill>| {
        let builder = Builder::new().name("looks").on(cpu);
        fill.map_or(builder.clone(), |fill| builder.fill(fill)).spawn(look).ok()?.join().ok()
    };
    let clean = |found: Option<Found>, stack: Option<u64>, what: &str| {
        let same = found.map(|(start, ..)| start) == stack;
        check(same, "what was kept last is taken first", format_args!("{found:x?}, not {stack:x?}"));
        let clean = found.is_some_and(|(_, not_zero, _)| not_zero == 0);
        check(clean, promise, format_args!("{what}, {owner} to {heir}, {left} bytes left: {found:x?}"));
    };
    for fill in [None, Some(Fill::Zeros)] {
        let stack = writes(None);
        clean(looks(heir, fill), stack, "the next thread");
    }
    let stack = writes(None);
    let found = looks(owner, Some(Fill::AsIs));
    let expected = (4 * PAGE_SIZE - left) / 8 / 2;
    let there =
        found.is_some_and(|(start, _, secrets)| Some(start) == stack && (left > 12_000 || secrets > expected / 2));
    check(there, "what is wanted as it is is not cleared", format_args!("{found:x?} in {stack:x?}, {left} bytes left"));
    // The one in between wrote to its uppermost page alone.
    clean(looks(heir, None), stack, "the next but one");
}

/// What the CPUs keep comes free for a thread for which there would be no memory.
fn pressure(context: &Context) {
    const MOST: usize = 20_000;
    static GO: AtomicBool = AtomicBool::new(false);
    GO.store(false, Ordering::Relaxed);
    let waits = || {
        while !GO.load(Ordering::Acquire) {
            thread::yield_now();
        }
    };
    let each = context.cpus.flat_map(|cpu| (0..8).map(move |_| cpu));
    let handles: Vec<_> = each.filter_map(|cpu| Builder::new().name("waits").on(cpu).spawn(waits).ok()).collect();
    GO.store(true, Ordering::Release);
    let all = handles.into_iter().all(|handle| handle.join().is_ok());
    check(all, "a thread that does nothing wrong lives", format_args!("one did not"));
    let kept = thread::cached_stacks();
    let wanted = 8 * context.cpus.len();
    check(kept == wanted, "a CPU keeps as many stacks as it may", format_args!("{kept}, not {wanted}"));
    let mut taken = Vec::with_capacity(MOST);
    for pages in [256, 16, 1] {
        while taken.len() < MOST
            && let Ok(address) = map_anonymous_guarded(pages * PAGE_SIZE, MapFlags::AS_IS)
        {
            taken.push(address);
        }
    }
    check(frame_counts().free < 16, "memory was used up", format_args!("{:?}", frame_counts()));
    let end = Builder::new().stack_pages(16).spawn(|| ()).map(thread::JoinHandle::join);
    check(end == Ok(Ok(())), "what is kept comes free for who needs it", format_args!("{end:?}"));
    check(thread::cached_stacks() == 0, "what is kept comes free together", format_args!("some was kept"));
    let back = taken.into_iter().all(|address| unmap(address).is_ok());
    check(back, "what is mapped can be unmapped", format_args!("one mapping could not"));
}
