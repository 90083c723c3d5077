//! Guarded mappings as an interface: right arguments work, wrong ones are errors, and nothing changes then.

use super::Test;
use crate::failure::check;
use crate::workload::Context;
use alloc::vec::Vec;
use kernel::mem::{
    Access, Fill, GuardedMapping, MapError, PAGE_SIZE, PhysAddr, UnmapError, frame_counts, live_slots, peek, unmap,
};
use kernel::{misdeed, thread};

pub const TESTS: &[Test] = &[
    ("a-mapping-lies-between-guards", between_guards),
    ("wrong-arguments-are-errors-and-change-nothing", wrong_arguments),
    ("memory-that-runs-out-is-an-error", exhaustion),
    ("memory-that-is-free-is-left-alone", write_after_free),
];

/// Physical memory that is there and that no allocator owns: the video memory's hole.
const FOREIGN: PhysAddr = PhysAddr(0xb8000);

fn between_guards(_: &Context) {
    for pages in [1, 2, 5, 100] {
        let made = GuardedMapping::anonymous(pages, 1, Fill::Zeros, Access::ReadWrite);
        let Ok(mapping) = made else {
            return check(false, "memory can be mapped", format_args!("{made:?}"));
        };
        let (start, end) = (mapping.start(), mapping.end());
        check(end - start == pages * PAGE_SIZE, "a mapping has its size", format_args!("{start:#x} to {end:#x}"));
        let zeros = (0..pages * 512).all(|word| mapping.read(word * 8) == Some(0));
        check(zeros, "cleared memory is cleared", format_args!("it is not"));
        check(mapping.write(0, 7) && mapping.read(0) == Some(7), "memory remembers", format_args!("it does not"));
        check(peek(start - 8).is_none() && peek(end).is_none(), "guards are not mapped", format_args!("one is"));
        check(mapping.translate(0).is_some(), "a mapping has frames", format_args!("it has none"));
        drop(mapping);
        check(peek(start).is_none(), "what was unmapped is gone", format_args!("it can be read"));
    }
    let read_only = GuardedMapping::anonymous(1, 1, Fill::Zeros, Access::Read);
    check(read_only.is_ok_and(|m| !m.write(0, 1)), "a read-only mapping is", format_args!("it can be written"));
    let foreign = misdeed::map_physical(FOREIGN, 2, 1, Access::ReadWrite);
    let right = foreign.as_ref().is_ok_and(|m| m.translate(PAGE_SIZE) == Some(PhysAddr(FOREIGN.0 + PAGE_SIZE)));
    check(right, "a given range is mapped as given", format_args!("{foreign:?}"));
}

fn wrong_arguments(_: &Context) {
    let (frames, slots) = (frame_counts(), live_slots());
    let map = |physical, pages, guard| misdeed::map_physical(PhysAddr(physical), pages, guard, Access::Read).err();
    let expect = |error: Option<MapError>, expected| {
        check(error == Some(expected), "a wrong argument is an error", format_args!("{error:?}, not {expected:?}"));
    };
    expect(map(FOREIGN.0, 0, 1), MapError::Zero);
    expect(map(FOREIGN.0, 1, 0), MapError::Zero);
    expect(map(FOREIGN.0 + 1, 1, 1), MapError::Unaligned(FOREIGN.0 + 1));
    expect(map(1 << 52, 1, 1), MapError::Overflow(1 << 52));
    expect(map(FOREIGN.0, u64::MAX, 1), MapError::Overflow(FOREIGN.0));
    let kernels_own = map(FOREIGN.0, 1 << 16, 1);
    let refused = matches!(kernels_own, Some(MapError::InUse(_)));
    check(refused, "the kernel's memory is not mapped by others", format_args!("{kernels_own:?}"));
    expect(GuardedMapping::anonymous(0, 1, Fill::AsIs, Access::Read).err(), MapError::Zero);
    expect(GuardedMapping::anonymous(1 << 30, 1, Fill::AsIs, Access::Read).err(), MapError::OutOfAddresses);

    let expect = |address, expected| {
        let end = unmap(address);
        check(end == Err(expected), "only mappings are unmapped", format_args!("{end:?}, not {expected:?}"));
    };
    expect(0, UnmapError::Foreign(0));
    expect(1 << 40, UnmapError::Foreign(1 << 40));
    let address =
        GuardedMapping::anonymous(2, 1, Fill::AsIs, Access::ReadWrite).map_or(0, GuardedMapping::into_address);
    expect(address + PAGE_SIZE, UnmapError::Inside(address + PAGE_SIZE, address));
    check(unmap(address).is_ok(), "a mapping is unmapped by its address", format_args!("it is not"));
    expect(address, UnmapError::NotMapped(address));
    let (stack, _) = thread::stack_bounds();
    let end = unmap(stack);
    check(end == Err(UnmapError::IsStack(stack)), "stacks are not unmapped by hand", format_args!("{end:?}"));

    let now = frame_counts();
    check(now.mapped == frames.mapped && live_slots() == slots, "an error changes nothing", format_args!("{now:?}"));
}

fn exhaustion(_: &Context) {
    let before = frame_counts();
    let mut taken = Vec::new();
    let error = loop {
        match GuardedMapping::anonymous(64, 1, Fill::AsIs, Access::Read) {
            Ok(mapping) => taken.push(mapping),
            Err(error) => break error,
        }
    };
    check(error == MapError::OutOfFrames, "memory that runs out is an error", format_args!("{error:?}"));
    // The heap may have the last word: it must still work for small things.
    let spawned = thread::Builder::new().stack_pages(100).spawn(|| ());
    check(spawned.is_err(), "a thread without memory is an error", format_args!("it was started"));
    drop(taken);
    check(frame_counts().mapped == before.mapped, "all comes back", format_args!("{:?}", frame_counts()));
    check(thread::spawn(|| ()).is_ok_and(|h| h.join().is_ok()), "then threads start again", format_args!("not"));
}

/// With the oracle, this has to be noticed.
fn write_after_free(_: &Context) {
    let made = GuardedMapping::anonymous(1, 1, Fill::Zeros, Access::ReadWrite);
    let frame = made.as_ref().ok().and_then(|mapping| mapping.translate(0));
    drop(made);
    check(frame.is_some(), "a mapping has frames", format_args!("it has none"));
    misdeed::write_to_freed(frame.unwrap_or(FOREIGN));
}
