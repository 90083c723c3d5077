//! Address spaces as an interface: what is mapped in one is there for its threads alone, and it ends with them.

use super::Test;
use crate::failure::check;
use crate::workload::Context;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::mem::{Access, AddressSpace, PAGE_SIZE, SpaceError, frame_counts, peek};
use kernel::thread::{self, Builder, Death};
use kernel::{cpu, misdeed};

pub const TESTS: &[Test] = &[
    ("each-space-has-its-own-memory", own_memory),
    ("wrong-ranges-of-a-space-are-errors", wrong_ranges),
    ("a-space-ends-with-its-last-thread", ends_with_its_threads),
    ("spaces-that-run-out-are-an-error", exhaustion),
    ("an-address-is-used-again-when-all-have-answered", used_again),
];

const HERE: u64 = 0x4000_0000;
const FAR: u64 = (1 << 47) - PAGE_SIZE;

fn space() -> Option<Arc<AddressSpace>> {
    let made = AddressSpace::new();
    check(made.is_ok(), "address spaces can be made", format_args!("{made:?}"));
    made.ok()
}

/// What a thread of this space reads at each of these addresses.
fn read_in(space: &Arc<AddressSpace>, addresses: [u64; 2]) -> Option<[Option<u64>; 2]> {
    let reader = Builder::new().name("reader").space(space.clone()).spawn(move || addresses.map(peek));
    reader.ok()?.join().ok()
}

fn own_memory(_: &Context) {
    let (Some(one), Some(other)) = (space(), space()) else { return };
    let mapped = [
        one.map(HERE, 3, 11, Access::ReadWrite),
        other.map(HERE, 1, 22, Access::ReadWrite),
        one.map(FAR, 1, 33, Access::Read),
    ];
    check(mapped.iter().all(Result::is_ok), "memory can be mapped", format_args!("{mapped:?}"));
    for (space, expected) in [(&one, [Some(11), Some(33)]), (&other, [Some(22), None])] {
        let found = read_in(space, [HERE, FAR]);
        check(found == Some(expected), "each space has its own memory", format_args!("{found:?}, not {expected:?}"));
    }
    let places = [&one, &other].map(|space| space.translate(HERE));
    check(places[0].is_some() && places[0] != places[1], "they are other frames", format_args!("{places:?}"));
    let end = one.unmap(HERE, 3);
    let found = read_in(&one, [HERE, HERE + 2 * PAGE_SIZE]);
    check(end.is_ok() && found == Some([None, None]), "what is unmapped is gone", format_args!("{end:?}, {found:?}"));
    let found = read_in(&other, [HERE, FAR]);
    check(found == Some([Some(22), None]), "the other space keeps its own", format_args!("{found:?}"));
}

fn wrong_ranges(_: &Context) {
    let Some(space) = space() else { return };
    let before = frame_counts().mapped;
    let expect = |end: Result<(), SpaceError>, expected| {
        check(end == Err(expected), "a wrong range is an error", format_args!("{end:?}, not {expected:?}"));
    };
    let map = |address, pages| space.map(address, pages, 1, Access::ReadWrite);
    expect(map(0, 1), SpaceError::OutOfRange(0));
    expect(map(FAR, 2), SpaceError::OutOfRange(FAR));
    expect(map(0xffff_d000_0000_0000, 1), SpaceError::OutOfRange(0xffff_d000_0000_0000));
    expect(map(HERE + 8, 1), SpaceError::Unaligned(HERE + 8));
    expect(map(HERE, 0), SpaceError::Zero);
    expect(map(HERE, 1 << 30), SpaceError::OutOfFrames);
    expect(space.unmap(HERE, 1), SpaceError::NotMapped(HERE));
    check(map(HERE, 2).is_ok(), "memory can be mapped", format_args!("it cannot"));
    expect(map(HERE - PAGE_SIZE, 2), SpaceError::InUse(HERE));
    expect(space.unmap(HERE, 3), SpaceError::NotMapped(HERE + 2 * PAGE_SIZE));
    check(space.unmap(HERE, 2).is_ok(), "what is mapped can be unmapped", format_args!("it cannot"));
    thread::quiesce();
    check(frame_counts().mapped == before, "an error changes nothing", format_args!("frames are missing"));
}

fn ends_with_its_threads(context: &Context) {
    thread::quiesce();
    let before = frame_counts();
    let Some(space) = space() else { return };
    for far in 0..8 {
        let end = space.map(HERE + (far << 39), 2, far, Access::ReadWrite);
        check(end.is_ok(), "memory can be mapped", format_args!("{end:?}"));
    }
    let (between, tables) = (frame_counts(), 1 + 8 * 3);
    check(
        between.tables == before.tables + tables && between.mapped == before.mapped + 16,
        "a space has tables of its own",
        format_args!("{between:?} after {before:?}"),
    );
    // One that returns, one that exits, one that is aborted while it runs, on each CPU.
    let mut handles = Vec::new();
    for cpu in context.cpus {
        let builder = || Builder::new().name("dweller").on(cpu).space(space.clone());
        let here = || check(peek(HERE) == Some(0), "its threads see its memory", format_args!("one does not"));
        handles.extend(builder().spawn(here).ok().map(|handle| (handle, None)));
        let exits = builder().spawn(move || {
            here();
            thread::exit()
        });
        handles.extend(exits.ok().map(|handle| (handle, Some(Death::Exited))));
        let aborted = builder().spawn(move || {
            loop {
                here();
                thread::yield_now();
            }
        });
        handles.extend(aborted.ok().map(|handle| (handle, Some(Death::Aborted))));
    }
    drop(space);
    for (handle, expected) in handles {
        if expected == Some(Death::Aborted) {
            handle.abort();
        }
        let end = handle.join().err();
        check(end == expected, "a thread's end is told as it was", format_args!("{end:?}, not {expected:?}"));
    }
    thread::quiesce();
    let after = frame_counts();
    check(
        after.tables == before.tables && after.mapped == before.mapped,
        "a space leaves nothing behind",
        format_args!("{after:?}, not {before:?}"),
    );
}

fn exhaustion(_: &Context) {
    let before = frame_counts().tables;
    let mut spaces: Vec<_> = core::iter::from_fn(|| AddressSpace::new().ok()).take(100).collect();
    let one_more = AddressSpace::new().err();
    check(one_more == Some(SpaceError::TooMany), "there is a last space", format_args!("{one_more:?}"));
    check(spaces.len() == 64, "there are as many as the documentation says", format_args!("{}", spaces.len()));
    spaces.pop();
    check(AddressSpace::new().is_ok(), "a number is used again", format_args!("it is not"));
    drop(spaces);
    thread::quiesce();
    let after = frame_counts().tables;
    check(after == before, "a space leaves nothing behind", format_args!("{after} tables, not {before}"));
}

/// Memory is unmapped while a CPU that has read it masks its interrupts, so that it cannot answer. Until it does, mapping
/// there is an error: it would read the old memory where others read the new.
fn used_again(context: &Context) {
    static HAS_READ: AtomicBool = AtomicBool::new(false);
    static MAY_ANSWER: AtomicBool = AtomicBool::new(false);
    let Some(space) = space() else { return };
    check(space.map(HERE, 1, 1, Access::ReadWrite).is_ok(), "memory can be mapped", format_args!("it cannot"));
    let masked = || {
        let found = peek(HERE);
        HAS_READ.store(true, Ordering::Release);
        while !MAY_ANSWER.load(Ordering::Acquire) {
            spin_loop();
        }
        found
    };
    let mut others = context.cpus.without(cpu::current_id());
    let (reader_at, unmapper_at) = (others.next(), others.next());
    let on = |name, cpu| Builder::new().name(name).on(cpu);
    let reader = reader_at.and_then(|cpu| {
        on("masked reader", cpu).space(space.clone()).spawn(move || misdeed::with_interrupts_masked(masked)).ok()
    });
    while reader.is_some() && !HAS_READ.load(Ordering::Acquire) {
        thread::yield_now();
    }
    let unmapper = unmapper_at.and_then(|cpu| {
        let space = space.clone();
        on("unmapper", cpu).spawn(move || space.unmap(HERE, 1)).ok()
    });
    while unmapper.as_ref().is_some_and(|unmapper| !unmapper.is_finished()) && space.translate(HERE).is_some() {
        thread::yield_now();
    }
    let early = space.map(HERE, 1, 2, Access::ReadWrite);
    MAY_ANSWER.store(true, Ordering::Release);
    check(
        early == Err(SpaceError::InUse(HERE)),
        "an address is used again when all have answered",
        format_args!("before, mapping there came to {early:?}"),
    );
    let ends = (reader.map(thread::JoinHandle::join), unmapper.map(thread::JoinHandle::join));
    check(ends == (Some(Ok(Some(1))), Some(Ok(Ok(())))), "both come to their ends", format_args!("{ends:?}"));
    let late = space.map(HERE, 1, 3, Access::ReadWrite);
    check(early.is_ok() || late.is_ok(), "then it is used again", format_args!("{late:?}"));
}
