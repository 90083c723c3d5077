//! Every allocation inside a call fails in turn: each time that is an error, what there was before is there after it, and
//! then the same call works.

use super::Test;
use crate::account::Account;
use crate::failure::check;
use crate::workload::Context;
use alloc::vec::Vec;
use core::fmt::Debug;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use kernel::inject::{BUILT_IN, Failing, Sources, fail_nth};
use kernel::mem::{
    Access, AddressSpace, Fill, GuardedMapping, MapFlags, PAGE_SIZE, PhysAddr, Window, frame_counts, heap_allocations,
    live_slots, map_anonymous_guarded, map_guarded, unmap,
};
use kernel::thread::{self, Builder, GuardedStack, Handle, JoinHandle, Object, SpawnError, StackMemory, State};
use kernel::user::{Process, Program};
use kernel::{misdeed, println};

pub const TESTS: &[Test] = &[
    ("every-allocation-of-a-mapping-fails-in-turn", mappings),
    ("every-allocation-of-a-spawn-fails-in-turn", spawns),
    ("every-allocation-of-a-process-fails-in-turn", processes),
    ("a-thread-object-that-is-missing-is-an-error", objects),
    ("every-allocation-of-a-space-fails-in-turn", spaces),
    ("every-allocation-of-a-growing-heap-fails-in-turn", heap),
    ("failures-that-were-asked-for-are-the-askers-alone", askers_alone),
];

const FOREIGN: PhysAddr = PhysAddr(0xb8000);
const HERE: u64 = 0x4000_0000;

static MEMORY: StackMemory<2> = StackMemory::new();
static OBJECT: Object = Object::new();

/// Lets each allocation of `call` that is of `sources` fail, alone, then with all after it; `undo` takes back what works. So
/// many allocations have to be in it the first time, when nothing is there that is kept.
fn in_turn<R, E: Debug>(
    what: &str,
    sources: Sources,
    at_least: u64,
    call: impl Fn() -> Result<R, E>,
    undo: impl Fn(R),
) {
    check(BUILT_IN, "failures can be asked for", format_args!("not in this image"));
    let tables = frame_counts().tables;
    let mut counts = [0; 4];
    for (count, failing) in counts.iter_mut().zip([Failing::One, Failing::Rest].into_iter().cycle()) {
        // What a call made and kept, page tables and the entries of slots, the next one does not ask for: the same number
        // is another allocation then. So each number fails until it was the same twice.
        let (mut number, mut same) = (0, 0);
        while number < 1000 {
            let (before, tables) = (Account::now(), frame_counts().tables);
            let (result, hit) = fail_nth(number, failing, sources, &call);
            match result {
                Ok(made) => {
                    check(!hit, "what is missing is an error", format_args!("{what}, allocation {number}: none"));
                    undo(made);
                }
                Err(error) => {
                    check(hit, "what is there is no error", format_args!("{what}, allocation {number}: {error:?}"));
                }
            }
            let (after, kept) = (Account::now(), frame_counts().tables.checked_sub(tables));
            let detail = format_args!("{what}, allocation {number}: {after:?}, not {before:?}; {kept:?} tables more");
            check(after == before && kept.is_some(), "an error changes nothing", detail);
            if !hit {
                break;
            }
            *count += 1;
            same = if kept == Some(0) { same + 1 } else { 0 };
            if same == 2 {
                (number, same) = (number + 1, 0);
            }
        }
    }
    let kept = frame_counts().tables - tables;
    println!("{what}: {counts:?} failures, {kept} page tables are kept");
    check(counts[0] >= at_least, "every allocation fails in turn", format_args!("{what}: {counts:?}"));
    check(counts[3] == counts[2], "what is kept is used again", format_args!("{what}: {counts:?}"));
}

/// Sizes that nothing else has, so that their page tables and the entries of their slots are still to be made.
fn mappings(_: &Context) {
    let take_down = |address| check(unmap(address).is_ok(), "a mapping is unmapped", format_args!("{address:#x}"));
    let all = Sources::all();
    let anonymous = || map_anonymous_guarded(600 * PAGE_SIZE, MapFlags::WRITE);
    in_turn("anonymous, by address", all, 8, anonymous, take_down);
    let physical = || map_guarded(FOREIGN, 4 * PAGE_SIZE, MapFlags::WRITE | MapFlags::guard(4000));
    in_turn("physical, by address", all, 6, physical, take_down);
    in_turn("owned", all, 8, || GuardedMapping::anonymous(1200, 2, Fill::Zeros, Access::ReadWrite), drop);
    in_turn("owned physical", all, 6, || misdeed::map_physical(FOREIGN, 4, 8100, Access::Read), drop);
    let window = || {
        let mut window = Window::new(3000)?;
        window.map(7).map(|()| window)
    };
    in_turn("window", all, 10, window, drop);
}

fn spawns(_: &Context) {
    let joined = |handle: JoinHandle<u32>| {
        let end = handle.join();
        check(end == Ok(5), "a thread that was started ends as it should", format_args!("{end:?}"));
    };
    let all = Sources::all();
    in_turn("spawn", all, 4, || thread::spawn(|| 5), joined);
    in_turn("spawn, large", all, 8, || Builder::new().stack_pages(1500).guard_pages(70).spawn(|| 5), joined);
    // What it is to run does not fit its object.
    let words = [5_u32; 400];
    in_turn("spawn, of much", all, 6, || thread::spawn(move || words[words[7] as usize]), joined);
    // Stacks of its owner's, an object of its owner's.
    let Ok(stack) = GuardedStack::new(2, 1) else { return };
    in_turn("spawn, lent", all, 0, || Builder::new().on_stack(&stack).spawn(|| 5), joined);
    in_turn("spawn, of much, lent", all, 2, || Builder::new().on_stack(&stack).spawn(move || words[3]), joined);
    let viewed = || Builder::new().on_view_of(&MEMORY).guard_pages(5000).spawn(|| 5);
    in_turn("spawn, viewed", all, 4, viewed, joined);
    in_turn("spawn, bare", all, 2, || misdeed::on_bare(Builder::new(), &MEMORY).spawn(move || words[3]), joined);
    in_turn("spawn, own object", all, 4, || Builder::new().object(&OBJECT).spawn(move || words[3]), joined);
    let detached = || Builder::new().object(&OBJECT).spawn_detached(move || assert!(words[3] == 5));
    let ended = |thread: Handle| {
        // It is gone when its stack is reaped, and what it ran is dropped.
        while thread.state() != State::Gone {
            thread::quiesce();
            thread::yield_now();
        }
    };
    in_turn("spawn, detached", all, 4, detached, ended);
    check(!stack.is_busy() && !MEMORY.is_busy(), "what is lent comes back", format_args!("it does not"));
    check(OBJECT.is_free(), "an object comes back", format_args!("it does not"));
}

/// A process, and a thread in it: each allocation on the way to ring 3.
fn processes(_: &Context) {
    let Ok(program) = Program::named("hello") else {
        return check(false, "the programs are there", format_args!("no 'hello'"));
    };
    let all = Sources::all();
    in_turn("process", all, 8, || Process::load(&program), drop);
    let Ok(process) = Process::load(&program) else { return };
    // Its first threads make tables that the space keeps.
    let thread = || process.builder().quiet().stack_pages(3).spawn();
    let joined = |handle: JoinHandle<i32>| {
        let end = handle.join();
        check(end == Ok(0), "a thread that was started ends as it should", format_args!("{end:?}"));
    };
    in_turn("user thread", all, 6, thread, joined);
}

/// All objects that there are have threads, so each further one has to be allocated.
fn objects(_: &Context) {
    static STOP: AtomicBool = AtomicBool::new(false);
    let start = || {
        thread::spawn(|| {
            while !STOP.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
            }
        })
    };
    let (mut threads, mut hits) = (Vec::with_capacity(512), 0);
    for round in 0..500 {
        let before = (thread::live(), frame_counts(), live_slots(), heap_allocations());
        let failing = if round % 2 == 0 { Failing::One } else { Failing::Rest };
        match fail_nth(0, failing, Sources::HEAP, start) {
            (Err(error), true) => {
                let after = (thread::live(), frame_counts(), live_slots(), heap_allocations());
                check(error == SpawnError::OutOfMemory, "a missing object is an error", format_args!("{error:?}"));
                check(after == before, "an error changes nothing", format_args!("{after:?}, not {before:?}"));
                hits += 1;
                threads.extend(start());
            }
            (made, false) => threads.extend(made),
            (made, hit) => check(false, "what is missing is an error", format_args!("{made:?}, {hit}")),
        }
        if hits == 6 {
            break;
        }
    }
    check(hits == 6, "a thread object is allocated", format_args!("{hits} were, of {} threads", threads.len()));
    STOP.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|h| check(h.join().is_ok(), "those that there are live", format_args!("one died")));
}

fn spaces(_: &Context) {
    in_turn("space", Sources::all(), 4, AddressSpace::new, drop);
    let mapped = || {
        let space = AddressSpace::new()?;
        space.map(HERE, 600, 9, Access::ReadWrite).map(|()| space)
    };
    in_turn("space, mapped", Sources::all(), 12, mapped, drop);
}

/// More than the heap has: it grows, by frames and their page tables, or stays as it was.
fn heap(_: &Context) {
    let call = || {
        let before = frame_counts().heap;
        let mut memory = Vec::<u8>::new();
        let end = memory.try_reserve_exact(8 << 20);
        let after = frame_counts().heap;
        check(end.is_ok() || after == before, "a heap that cannot grow stays", format_args!("{after}, not {before}"));
        end.map(|()| memory)
    };
    in_turn("heap", Sources::all(), 8, call, drop);
}

/// Others map and unmap all the while, and nothing is missing to them.
fn askers_alone(context: &Context) {
    static STOP: AtomicBool = AtomicBool::new(false);
    let others: Vec<_> = context
        .cpus
        .filter_map(|cpu| {
            let map = || {
                let mut rounds = 0;
                while !STOP.load(Ordering::Relaxed) || rounds < 10 {
                    let made = GuardedMapping::anonymous(2, 1, Fill::AsIs, Access::Read);
                    check(made.is_ok(), "failures are the asker's alone", format_args!("{made:?}"));
                    rounds += 1;
                }
            };
            Builder::new().name("maps").on(cpu).spawn(map).ok()
        })
        .collect();
    for round in 0..200 {
        let call = || {
            thread::yield_now(); // others run here, between the asking and the failure
            GuardedMapping::anonymous(2, 1, Fill::AsIs, Access::Read).err()
        };
        let (error, hit) = fail_nth(round % 2, Failing::One, Sources::FRAMES | Sources::SLOTS, call);
        check(hit && error.is_some(), "the asker's allocation fails", format_args!("in round {round}: {error:?}"));
    }
    STOP.store(true, Ordering::Relaxed);
    others.into_iter().for_each(|h| check(h.join().is_ok(), "the others live", format_args!("one died")));
}
