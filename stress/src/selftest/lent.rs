//! Stacks that their owners keep: lent, refused to a second thread, and given back to whom they belong.

use super::Test;
use crate::account::Account;
use crate::failure::{check, fail};
use crate::workload::{Context, expect_guard};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use kernel::mem::{MapError, Owner, PAGE_SIZE, UnmapError, frame_counts, live_slots, owner_of, peek, unmap};
use kernel::misdeed;
use kernel::thread::{self, Builder, Death, GuardedStack, JoinHandle, SpawnError, StackBusy, StackMemory};
use smp::CpuId;
use wire::record::Guard::{Front, Rear};

pub const TESTS: &[Test] = &[
    ("a-lent-stack-comes-back-and-is-refused-while-it-is-busy", lent),
    ("a-lent-stack-that-is-dropped-is-freed-when-it-is-left", dropped),
    ("a-freed-stack-is-nobodys", freed),
    ("stacks-that-run-out-are-an-error", run_out),
    ("threads-that-come-and-go-have-the-same-stack", same_address),
    ("memory-is-lent-as-a-view-between-guards", view),
    ("bare-memory-is-lent-as-it-is", bare),
    ("stacks-that-cannot-be-are-errors", wrong_sizes),
];

/// Bounds of the stack of a thread that runs there; how many times, before and after.
fn bounds_on(builder: Builder<'_>) -> Option<(u64, u64)> {
    let handle = builder.spawn(thread::stack_bounds);
    let end = handle.map(JoinHandle::join);
    check(matches!(end, Ok(Ok(_))), "a stack can be used", format_args!("{end:?}"));
    end.ok().and_then(Result::ok)
}

static GO: AtomicBool = AtomicBool::new(false);

/// A thread that stays until it is told to go.
fn stays(builder: Builder<'_>, cpu: CpuId) -> Option<JoinHandle<()>> {
    GO.store(false, Ordering::SeqCst);
    let handle = builder.name("stays").on(cpu).spawn(|| {
        while !GO.load(Ordering::SeqCst) {
            thread::yield_now();
        }
    });
    handle.map_err(|error| fail("a stack can be used again at once", format_args!("{error}"))).ok()
}

fn refused(builder: Builder<'_>) {
    let end = builder.spawn(|| ()).map(JoinHandle::join).err();
    check(end == Some(SpawnError::StackInUse), "a busy stack is refused", format_args!("{end:?}"));
}

fn lent(context: &Context) {
    let Ok(mut stack) = GuardedStack::new(3, 2) else { return fail("stacks can be made", format_args!("not")) };
    let own = (stack.start(), stack.end());
    check(own.1 - own.0 == 3 * PAGE_SIZE, "a stack is as large as was asked for", format_args!("{own:x?}"));
    for cpu in context.cpus {
        for _ in 0..5 {
            let seen = bounds_on(Builder::new().on(cpu).on_stack(&stack));
            check(seen == Some(own), "a thread runs on what was lent", format_args!("{seen:x?}, not {own:x?}"));
            check(!stack.is_busy(), "a joined thread's stack is back", format_args!("it is busy"));
        }
        let handle = stays(Builder::new().on_stack(&stack), cpu);
        refused(Builder::new().on_stack(&stack));
        stack = match stack.free() {
            Err(StackBusy(stack)) => stack,
            Ok(()) => return fail("a busy stack is not freed", format_args!("it is")),
        };
        GO.store(true, Ordering::SeqCst);
        check(handle.is_some_and(|h| h.join().is_ok()), "its thread is not disturbed", format_args!("it died"));
        // Guarded on both sides; and good again afterwards.
        for (guard, deed) in [(Front, misdeed::write_below_stack as fn(u64)), (Rear, misdeed::write_above_stack)] {
            if let Ok(handle) = Builder::new().on(cpu).quiet().on_stack(&stack).spawn(move || deed(1)) {
                expect_guard(handle, guard);
            }
        }
        let aborted = stays(Builder::new().on_stack(&stack), cpu);
        aborted.iter().for_each(JoinHandle::abort);
        let end = aborted.map(JoinHandle::join);
        check(end == Some(Err(Death::Aborted)), "a lent stack's thread can be aborted", format_args!("{end:?}"));
        check(!stack.is_busy(), "an aborted thread's stack is back", format_args!("it is busy"));
    }
    let end = stack.free();
    check(end == Ok(()), "a stack that is back can be freed", format_args!("{end:?}"));
    check(peek(own.0).is_none(), "what is freed is not mapped", format_args!("it can be read"));
}

/// The account says whether it is.
fn dropped(context: &Context) {
    for cpu in context.cpus {
        let before = Account::now();
        let Ok(stack) = GuardedStack::new(2, 1) else { return };
        let (start, handle) = (stack.start(), stays(Builder::new().on_stack(&stack), cpu));
        drop(stack);
        check(peek(start).is_some(), "a stack in use stays", format_args!("it is gone"));
        GO.store(true, Ordering::SeqCst);
        check(handle.is_some_and(|h| h.join().is_ok()), "its thread lives", format_args!("it died"));
        let after = Account::now();
        check(after == before, "a stack that was dropped is freed", format_args!("{after:?}, not {before:?}"));
        check(peek(start).is_none(), "what is freed is not mapped", format_args!("it can be read"));
    }
}

/// Neither its owner's, nor a thread's: only an address is left of it, and that is good for nothing.
fn freed(_: &Context) {
    let Ok(stack) = GuardedStack::new(2, 1) else { return };
    let start = stack.start();
    let end = unmap(start);
    check(end == Err(UnmapError::IsStack(start)), "a stack is not unmapped by its address", format_args!("{end:?}"));
    check(stack.free() == Ok(()), "a stack that nobody has can be freed", format_args!("it cannot"));
    thread::quiesce();
    let there = owner_of(start);
    check(matches!(there, Some(Owner::Vacant(_))), "what is freed is nobody's", format_args!("{there:?}"));
    let end = unmap(start);
    check(end == Err(UnmapError::NotMapped(start)), "what is freed is not freed again", format_args!("{end:?}"));
}

fn run_out(_: &Context) {
    let mut rounds = [0; 3];
    for round in &mut rounds {
        let mut all = Vec::with_capacity(2048);
        let error = loop {
            match GuardedStack::new(1, 8191) {
                Ok(stack) => all.push(stack),
                Err(error) => break error,
            }
        };
        check(error == MapError::OutOfAddresses, "stacks that run out are an error", format_args!("{error:?}"));
        let thread = Builder::new().guard_pages(8191).spawn(|| ()).map(JoinHandle::join).err();
        let right = thread == Some(SpawnError::Stack(error));
        check(right, "a thread without a stack is an error", format_args!("{thread:?}"));
        *round = all.len();
        drop(all);
        thread::quiesce();
    }
    check(rounds[0] > 100 && rounds == [rounds[0]; 3], "all come back", format_args!("{rounds:?}"));
}

fn same_address(context: &Context) {
    static PLACE: AtomicU64 = AtomicU64::new(0);
    let mut places = Vec::new();
    thread::quiesce();
    for (_, cpu) in (0..32).zip(context.cpus.into_iter().cycle()) {
        PLACE.store(0, Ordering::SeqCst);
        let victim = Builder::new().name("comes and goes").stack_pages(7).on(cpu).spawn(|| {
            PLACE.store(thread::stack_bounds().0, Ordering::SeqCst);
            loop {
                thread::yield_now();
            }
        });
        while victim.is_ok() && PLACE.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        victim.iter().for_each(JoinHandle::abort);
        let end = victim.map(|victim: JoinHandle<()>| victim.join());
        check(end == Ok(Err(Death::Aborted)), "a thread's end is told as it was", format_args!("{end:?}"));
        thread::quiesce();
        places.push(PLACE.load(Ordering::SeqCst));
    }
    let same = places.iter().all(|place| *place == places[0]);
    check(same && places.len() == 32, "the same addresses are used again", format_args!("{places:x?}"));
}

static VIEWED: StackMemory<3> = StackMemory::new();
static BARE: StackMemory<4> = StackMemory::new();

fn view(context: &Context) {
    for cpu in context.cpus {
        let before = (live_slots(), frame_counts().mapped);
        let builder = || Builder::new().on(cpu).quiet().on_view_of(&VIEWED);
        for (guard, deed) in [(Front, misdeed::write_below_stack as fn(u64)), (Rear, misdeed::write_above_stack)] {
            if let Ok(handle) = builder().spawn(move || deed(1)) {
                expect_guard(handle, guard);
            }
        }
        // Each at once after the one before, whose view waits to be taken down.
        for _ in 0..20 {
            let seen = bounds_on(builder());
            let right = seen.is_some_and(|(start, end)| end - start == 3 * PAGE_SIZE && start != VIEWED.start());
            check(right, "a view is mapped elsewhere", format_args!("{seen:x?}"));
        }
        let handle = stays(builder(), cpu);
        refused(builder());
        refused(misdeed::on_bare(Builder::new(), &VIEWED));
        check(VIEWED.is_busy(), "memory that is lent is busy", format_args!("it is not"));
        let writable = misdeed::can_rewrite(VIEWED.start());
        check(writable, "the source stays writable", format_args!("it is not"));
        GO.store(true, Ordering::SeqCst);
        check(handle.is_some_and(|h| h.join().is_ok()), "its thread is not disturbed", format_args!("it died"));
        thread::quiesce();
        check(!VIEWED.is_busy(), "memory comes back", format_args!("it does not"));
        let after = (live_slots(), frame_counts().mapped);
        check(after == before, "a view leaves nothing", format_args!("{after:?}, not {before:?}"));
    }
}

fn bare(context: &Context) {
    let own = (BARE.start(), BARE.start() + 4 * PAGE_SIZE);
    for cpu in context.cpus {
        thread::quiesce();
        let before = (live_slots(), frame_counts().mapped);
        for _ in 0..10 {
            let inside = misdeed::on_bare(Builder::new().on(cpu), &BARE).spawn(|| {
                let (start, end) = thread::stack_bounds();
                // No guards: what lies beside it is mapped.
                let beside = peek(start - 8).is_some() && peek(end).is_some();
                (start, end, beside, live_slots(), frame_counts().mapped)
            });
            let end = inside.map(JoinHandle::join);
            let right = end == Ok(Ok((own.0, own.1, true, before.0, before.1)));
            check(right, "bare memory is used as it is", format_args!("{end:x?}, not {own:x?}, {before:?}"));
            check(!BARE.is_busy(), "bare memory is back at once", format_args!("it is busy"));
        }
        let handle = stays(misdeed::on_bare(Builder::new(), &BARE), cpu);
        refused(misdeed::on_bare(Builder::new(), &BARE));
        refused(Builder::new().on_view_of(&BARE));
        handle.iter().for_each(JoinHandle::abort);
        let end = handle.map(JoinHandle::join);
        check(end == Some(Err(Death::Aborted)), "its thread can be aborted", format_args!("{end:?}"));
        check(!BARE.is_busy(), "bare memory is back at once", format_args!("it is busy"));
    }
}

fn wrong_sizes(_: &Context) {
    for (pages, guard) in [(0, 1), (1, 0), (0, 0)] {
        let stack = GuardedStack::new(pages, guard).err();
        check(stack == Some(MapError::Zero), "a stack has a page and guards", format_args!("{stack:?}"));
        let thread = Builder::new().stack_pages(pages).guard_pages(guard).spawn(|| ()).err();
        let right = thread == Some(SpawnError::Stack(MapError::Zero));
        check(right, "a stack has a page and guards", format_args!("{thread:?}"));
    }
    let view = Builder::new().on_view_of(&VIEWED).guard_pages(0).spawn(|| ()).err();
    let right = view == Some(SpawnError::Stack(MapError::Zero)) && !VIEWED.is_busy();
    check(right, "a view has guards", format_args!("{view:?}"));
    for pages in [1 << 20, 1 << 40, u64::MAX] {
        let too_large = |error| matches!(error, Some(MapError::OutOfAddresses | MapError::OutOfFrames));
        let stack = GuardedStack::new(pages, 1).err();
        check(too_large(stack), "a stack that is too large is an error", format_args!("{pages} pages: {stack:?}"));
        let thread = Builder::new().stack_pages(pages).spawn(|| ()).err();
        let right = matches!(thread, Some(SpawnError::Stack(error)) if too_large(Some(error)));
        check(right, "a stack that is too large is an error", format_args!("{pages} pages: {thread:?}"));
    }
}
