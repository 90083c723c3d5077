//! What runs out is an error, whichever it is: addresses, frames, the heap. And everything comes back.

use super::Test;
use crate::failure::check;
use crate::workload::Context;
use alloc::vec::Vec;
use kernel::mem::{
    Access, AddressSpace, Fill, GuardedMapping, MapError, MapFlags, PAGE_SIZE, PhysAddr, SpaceError, Window,
    frame_counts, map_anonymous_guarded, map_guarded, unmap,
};
use kernel::thread::{self, Builder, SpawnError};

pub const TESTS: &[Test] = &[
    ("addresses-that-run-out-are-an-error", addresses),
    ("frames-that-run-out-are-an-error", frames),
    ("a-heap-that-runs-out-is-an-error", heap),
];

/// More mappings than any test here can make. There is room for their addresses before anything runs out.
const MOST: usize = 20_000;

/// Maps until that is an error; calls `then` with it, and gives everything back. How many mappings there were.
fn until_error(map: &dyn Fn() -> Result<u64, MapError>, then: &dyn Fn(MapError)) -> usize {
    let mut made = Vec::with_capacity(MOST);
    let error = loop {
        match map() {
            Ok(address) if made.len() < MOST => made.push(address),
            Ok(_) => return made.len(),
            Err(error) => break error,
        }
    };
    then(error);
    for address in &made {
        let end = unmap(*address);
        check(end.is_ok(), "what is mapped can be unmapped", format_args!("{end:?}"));
    }
    thread::quiesce();
    made.len()
}

/// Guards so large that there are 1,024 ranges for such mappings, and one frame in each.
fn addresses(_: &Context) {
    let flags = MapFlags::WRITE | MapFlags::AS_IS | MapFlags::guard(8191);
    let rounds = [(); 3].map(|()| {
        until_error(&|| map_anonymous_guarded(PAGE_SIZE, flags), &|error| {
            check(error == MapError::OutOfAddresses, "addresses that run out are an error", format_args!("{error:?}"));
            let given = map_guarded(PhysAddr(0xb8000), PAGE_SIZE, MapFlags::guard(8191)).err();
            check(given == Some(error), "a given range without addresses is an error", format_args!("{given:?}"));
            let window = Window::new(16_000).err();
            check(window == Some(error), "a window without addresses is an error", format_args!("{window:?}"));
            let thread = Builder::new().stack_pages(16_000).spawn(|| ()).err();
            let right = thread == Some(SpawnError::Stack(error));
            check(right, "a thread without addresses is an error", format_args!("{thread:?}"));
            let small = map_anonymous_guarded(PAGE_SIZE, MapFlags::empty());
            let works = small.is_ok_and(|address| unmap(address).is_ok());
            check(works, "smaller ranges are not used up", format_args!("{small:?}"));
        })
    });
    check(rounds == [1024; 3], "all come back", format_args!("{rounds:?}"));
}

fn frames(_: &Context) {
    let before = frame_counts();
    let rounds = [(); 3].map(|()| {
        until_error(&|| map_anonymous_guarded(16 * PAGE_SIZE, MapFlags::AS_IS), &|error| {
            check(error == MapError::OutOfFrames, "frames that run out are an error", format_args!("{error:?}"));
            let thread = Builder::new().stack_pages(16).spawn(|| ()).err();
            let right = thread == Some(SpawnError::Stack(error));
            check(right, "a thread without a stack is an error", format_args!("{thread:?}"));
        })
    });
    check(rounds[0] > 500 && rounds == [rounds[0]; 3], "as many can be mapped again", format_args!("{rounds:?}"));
    let after = frame_counts();
    check(after.mapped == before.mapped, "all come back", format_args!("{after:?}, {before:?}"));
}

/// Takes all of the heap, in ever smaller pieces.
fn fill_heap() -> Vec<Vec<u8>> {
    let mut pieces = Vec::with_capacity(MOST);
    let mut size = 4 << 20;
    while size >= 8 {
        let mut piece = Vec::new();
        if pieces.len() < MOST && piece.try_reserve_exact(size).is_ok() {
            pieces.push(piece);
        } else {
            size /= 2;
        }
    }
    pieces
}

fn heap(_: &Context) {
    // A size of which none was ever mapped, so that its addresses have still to be noted.
    let unusual = || map_anonymous_guarded(PAGE_SIZE, MapFlags::guard(3000));
    for round in 0..2 {
        // The heap keeps the frames that it has grown by. What is looked at below needs some of its own, and its page tables stay.
        let frames = GuardedMapping::anonymous(if round == 0 { 64 } else { 16 }, 1, Fill::AsIs, Access::Read);
        check(frames.is_ok(), "memory can be mapped at first", format_args!("{frames:?}"));
        let pieces = fill_heap();
        let space = AddressSpace::new().err();
        let right = matches!(space, Some(SpaceError::OutOfHeap | SpaceError::OutOfFrames));
        check(right, "a space without heap is an error", format_args!("{space:?}"));
        if round == 0 {
            let error = unusual().err();
            check(error == Some(MapError::OutOfHeap), "a heap that runs out is an error", format_args!("{error:?}"));
        }
        check(pieces.len() < MOST, "the heap was used up", format_args!("{} pieces", pieces.len()));
        drop((pieces, frames));
        let space = AddressSpace::new().err();
        check(space.is_none(), "then spaces can be made again", format_args!("{space:?}"));
        let made = unusual();
        let works = made.is_ok_and(|address| unmap(address).is_ok());
        check(works, "then memory can be mapped again", format_args!("{made:?}"));
        check(thread::spawn(|| ()).is_ok_and(|h| h.join().is_ok()), "then threads start again", format_args!("not"));
    }
}
