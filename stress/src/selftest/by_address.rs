//! Guarded mappings by address: what is mapped is as the flags say, wrong arguments and addresses of others are errors, and
//! of those who unmap the same at once one succeeds.

use super::Test;
use crate::barrier::Barrier;
use crate::failure::check;
use crate::workload::Context;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use kernel::cpu;
use kernel::mem::{
    Access, Fill, GuardedMapping, MapError, MapFlags, PAGE_SIZE, PhysAddr, UnmapError, Window, frame_counts,
    live_slots, map_anonymous_guarded, map_guarded, peek, unmap,
};
use kernel::misdeed::{self, execute_at, read_at, write_at};
use kernel::thread::{self, Builder, Death, Fault, FaultKind};
use smp::CpuSet;

pub const TESTS: &[Test] = &[
    ("mapped-memory-is-not-executed-unless-asked-for", not_executed),
    ("a-source-stays-writable-when-it-is-mapped-read-only", source_stays_writable),
    ("what-is-unmapped-faults", unmapped_faults),
    ("both-guards-of-a-mapping-fault", both_guards),
    ("the-same-address-is-handed-out-again", same_address),
    ("fresh-memory-is-cleared", cleared),
    ("wrong-flags-and-ranges-are-errors", wrong_arguments),
    ("addresses-of-others-are-not-unmapped", addresses_of_others),
    ("of-those-who-unmap-at-once-one-succeeds", at_once),
];

/// A frame of memory that no allocator owns: the firmware's first page, of which this half is nobody's.
const FRAME: PhysAddr = PhysAddr(0);
const HALF: u64 = PAGE_SIZE / 2;
/// No address: bits 47 to 63 differ.
const NO_ADDRESS: u64 = 0x1234_5678_9abc_d000;

/// The address, or a broken promise.
fn mapped(made: Result<u64, MapError>) -> Option<u64> {
    check(made.is_ok(), "memory can be mapped", format_args!("{made:?}"));
    made.ok()
}

fn unmapped(address: u64) {
    let end = unmap(address);
    check(end.is_ok(), "what is mapped can be unmapped", format_args!("{address:#x}: {end:?}"));
}

/// Runs `f` on the address in a thread, which has to die of a page fault there, or live.
fn in_thread(f: fn(u64), address: u64, lives: bool, promise: &'static str) {
    on(cpu::online(), f, address, lives, promise);
}

/// As [`in_thread`], on one of these CPUs.
fn on(cpus: CpuSet, f: fn(u64), address: u64, lives: bool, promise: &'static str) {
    let thread = Builder::new().quiet().affinity(cpus);
    let end = thread.spawn(move || f(address)).map(|handle| handle.join());
    let right = match end {
        Ok(Ok(())) => lives,
        Ok(Err(Death::Fault(Fault { kind: FaultKind::Page, address: at, .. }))) => !lives && at == address,
        _ => false,
    };
    check(right, promise, format_args!("{address:#x}: {end:?}"));
}

/// The frame's own mapping, with instructions to return in it.
fn source() -> Option<GuardedMapping> {
    let made = misdeed::map_physical(FRAME, 1, 1, Access::ReadWrite);
    let returns = u64::from_ne_bytes([misdeed::RETURN; 8]);
    let filled = made.as_ref().is_ok_and(|source| source.write(HALF, returns) && source.read(HALF) == Some(returns));
    check(filled, "a given frame is mapped", format_args!("{made:?}"));
    made.ok()
}

fn not_executed(_: &Context) {
    let Some(source) = source() else { return };
    for (flags, executed) in [(MapFlags::empty(), false), (MapFlags::WRITE, false), (MapFlags::EXECUTE, true)] {
        let Some(address) = mapped(map_guarded(FRAME, PAGE_SIZE, flags)) else { return };
        in_thread(execute_at, address + HALF, executed, "memory is executed only if the flags say so");
        let written = flags.contains(MapFlags::WRITE);
        in_thread(write_at, address + HALF, written, "memory is written only if the flags say so");
        unmapped(address);
    }
    let fresh = GuardedMapping::anonymous(1, 1, Fill::Zeros, Access::ReadWrite);
    let filled = fresh.as_ref().is_ok_and(|fresh| fresh.write(0, misdeed::RETURN.into()));
    check(filled, "fresh memory can be written", format_args!("{fresh:?}"));
    if let Ok(fresh) = &fresh {
        in_thread(execute_at, fresh.start(), false, "fresh memory is not executed");
    }
    drop(source);
}

fn source_stays_writable(_: &Context) {
    let Some(source) = source() else { return };
    let Some(address) = mapped(map_guarded(FRAME, PAGE_SIZE, MapFlags::empty())) else { return };
    in_thread(write_at, address + HALF, false, "what is mapped read-only is not written");
    let written = source.write(HALF, 77);
    let seen = peek(address + HALF);
    check(written && seen == Some(77), "the source stays writable", format_args!("{written}, then {seen:?}"));
    unmapped(address);
    check(source.write(HALF, 78), "the source stays writable after it", format_args!("it is not"));
}

/// On every CPU, after it was read there: none may know it any more.
fn unmapped_faults(context: &Context) {
    let each = || context.cpus.map(CpuSet::only);
    for flags in [MapFlags::empty(), MapFlags::WRITE] {
        let Some(address) = mapped(map_anonymous_guarded(2 * PAGE_SIZE, flags)) else { return };
        let both = [address, address + PAGE_SIZE];
        let of_each = || each().flat_map(|cpu| both.map(|at| (cpu, at)));
        of_each().for_each(|(cpu, at)| on(cpu, read_at, at, true, "what is mapped can be read"));
        unmapped(address);
        for (cpu, at) in of_each() {
            on(cpu, read_at, at, false, "what is unmapped faults");
            on(cpu, write_at, at, false, "what is unmapped faults");
        }
    }
}

fn both_guards(_: &Context) {
    for guard in [1, 3, 8] {
        let flags = MapFlags::WRITE | MapFlags::guard(guard);
        let ranges =
            [map_anonymous_guarded(2 * PAGE_SIZE, flags), map_guarded(PhysAddr(0xb8000), 2 * PAGE_SIZE, flags)];
        for address in ranges.into_iter().filter_map(mapped) {
            let (end, last) = (address + 2 * PAGE_SIZE, u64::from(guard - 1) * PAGE_SIZE);
            in_thread(write_at, address, true, "the first word is mapped");
            in_thread(write_at, end - 8, true, "the last word is mapped");
            for at in [address - 8, address - PAGE_SIZE - last, end, end + last] {
                in_thread(read_at, at, false, "both guards fault");
                in_thread(write_at, at, false, "both guards fault");
            }
            unmapped(address);
        }
    }
}

fn same_address(_: &Context) {
    let cycles = |count, map: &dyn Fn() -> Result<u64, MapError>| {
        let mut first = None;
        for cycle in 0..count {
            let Some(address) = mapped(map()) else { return };
            let same = *first.get_or_insert(address) == address;
            check(same, "the same address is handed out again", format_args!("{address:#x} in cycle {cycle}"));
            unmapped(address);
        }
    };
    cycles(32, &|| map_guarded(FRAME, PAGE_SIZE, MapFlags::WRITE));
    cycles(10, &|| map_anonymous_guarded(5 * PAGE_SIZE, MapFlags::WRITE));
}

fn cleared(_: &Context) {
    const PATTERN: u64 = 0x5a5a_1234_5678_a5a5;
    const PAGES: u64 = 40;
    let dirty = || {
        let Ok(mapping) = GuardedMapping::anonymous(PAGES, 1, Fill::AsIs, Access::ReadWrite) else { return };
        (0..PAGES * 512)
            .for_each(|word| check(mapping.write(word * 8, PATTERN), "it can be written", format_args!("")));
    };
    let words = |flags| {
        let address = mapped(map_anonymous_guarded(PAGES * PAGE_SIZE, flags))?;
        let count = |wanted| (0..PAGES * 512).filter(|word| peek(address + word * 8) == Some(wanted)).count() as u64;
        let found = (count(0), count(PATTERN));
        unmapped(address);
        Some(found)
    };
    dirty();
    let as_is = words(MapFlags::AS_IS);
    check(as_is.is_some_and(|(_, left)| left > 0), "frames are used again at once", format_args!("{as_is:?}"));
    dirty();
    let fresh = words(MapFlags::empty());
    check(fresh == Some((PAGES * 512, 0)), "fresh memory is cleared", format_args!("{fresh:?}"));
}

fn wrong_arguments(_: &Context) {
    let (frames, slots) = (frame_counts(), live_slots());
    let expect = |made: Result<u64, MapError>, expected| {
        check(made == Err(expected), "a wrong argument is an error", format_args!("{made:?}, not {expected:?}"));
    };
    let none = MapFlags::empty();
    let both = MapFlags::WRITE | MapFlags::EXECUTE;
    let physical = |physical, bytes, flags| map_guarded(PhysAddr(physical), bytes, flags);
    for map in [&|bytes, flags| physical(0xb8000, bytes, flags), &map_anonymous_guarded as &dyn Fn(_, _) -> _] {
        expect(map(0, none), MapError::Zero);
        for bytes in [1, PAGE_SIZE - 1, PAGE_SIZE + 1, u64::MAX] {
            expect(map(bytes, none), MapError::UnalignedSize(bytes));
        }
        for bit in (4..16).map(|n| 1 << n) {
            let flags = MapFlags::from_bits_retain(bit) | MapFlags::WRITE | MapFlags::guard(2);
            expect(map(PAGE_SIZE, flags), MapError::UnknownFlags(bit));
        }
        expect(map(PAGE_SIZE, both), MapError::WriteExecute(both));
        expect(map(PAGE_SIZE, MapFlags::guard(u16::MAX)), MapError::OutOfAddresses);
    }
    expect(physical(0xb8000, PAGE_SIZE, MapFlags::AS_IS), MapError::UnfitFlags(MapFlags::AS_IS));
    expect(map_anonymous_guarded(PAGE_SIZE, MapFlags::UNCACHED), MapError::UnfitFlags(MapFlags::UNCACHED));
    for bytes in [1 << 40, u64::MAX - (PAGE_SIZE - 1)] {
        expect(map_anonymous_guarded(bytes, none), MapError::OutOfAddresses);
    }
    for address in [1, 0xb8001, u64::MAX] {
        expect(physical(address, PAGE_SIZE, none), MapError::Unaligned(address));
    }
    let top = u64::MAX - (PAGE_SIZE - 1);
    for (address, bytes) in [(top, PAGE_SIZE), (1 << 52, PAGE_SIZE), ((1 << 52) - PAGE_SIZE, 2 * PAGE_SIZE), (0, top)] {
        expect(physical(address, bytes, none), MapError::Overflow(address));
    }
    // How many physical addresses there are is the processor's to say: what can be mapped can be read.
    for address in (36..52).map(|bit| 1 << bit) {
        match physical(address, PAGE_SIZE, MapFlags::UNCACHED) {
            Ok(mapped) => {
                check(peek(mapped).is_some(), "what is mapped can be read", format_args!("{address:#x} cannot"));
                unmapped(mapped);
            }
            error => expect(error, MapError::Overflow(address)),
        }
    }
    let fresh = GuardedMapping::anonymous(1, 1, Fill::Zeros, Access::ReadWrite);
    if let Some(PhysAddr(ours)) = fresh.as_ref().ok().and_then(|fresh| fresh.translate(0)) {
        expect(physical(ours, PAGE_SIZE, none), MapError::InUse(ours));
        expect(physical(ours, 1 << 30, none), MapError::InUse(ours));
    }
    drop(fresh);
    thread::quiesce();
    let now = frame_counts();
    check(now.mapped == frames.mapped && live_slots() == slots, "an error changes nothing", format_args!("{now:?}"));
}

fn addresses_of_others(_: &Context) {
    let expect = |address, expected| {
        let end = unmap(address);
        check(end == Err(expected), "others' addresses are not unmapped", format_args!("{end:?}, not {expected:?}"));
    };
    let on_heap = alloc::vec![0u8; 3 * PAGE_SIZE as usize];
    let heap = (on_heap.as_ptr() as u64).next_multiple_of(PAGE_SIZE);
    let image = (addresses_of_others as *const () as u64) & !(PAGE_SIZE - 1);
    let all_of_memory = 0xffff_8000_0010_0000;
    for address in [0, PAGE_SIZE, NO_ADDRESS, heap, image, all_of_memory, u64::MAX - (PAGE_SIZE - 1)] {
        expect(address, UnmapError::Foreign(address));
    }
    let (stack, _) = thread::stack_bounds();
    expect(stack, UnmapError::IsStack(stack));
    misdeed::for_each_cpu_stack(|_, _, start, _| expect(start, UnmapError::IsStack(start)));
    let owned = GuardedMapping::anonymous(2, 1, Fill::Zeros, Access::ReadWrite);
    if let Ok(owned) = &owned {
        expect(owned.start(), UnmapError::IsOwned(owned.start()));
        expect(owned.end(), UnmapError::NotMapped(owned.end()));
    }
    if let Ok(mut window) = Window::new(2) {
        expect(window.start(), UnmapError::NotMapped(window.start()));
        check(window.map(1).is_ok(), "a window can be mapped", format_args!("it cannot"));
        expect(window.start(), UnmapError::IsOwned(window.start()));
    }
    let Some(address) = mapped(map_anonymous_guarded(3 * PAGE_SIZE, MapFlags::WRITE)) else { return };
    for at in [address + 1, address - 1, address + PAGE_SIZE + 8, heap + 1, 1] {
        expect(at, UnmapError::Unaligned(at));
    }
    for at in [address + PAGE_SIZE, address + 2 * PAGE_SIZE] {
        expect(at, UnmapError::Inside(at, address));
    }
    for guard in [address - PAGE_SIZE, address + 3 * PAGE_SIZE] {
        expect(guard, UnmapError::NotMapped(guard));
    }
    let all = (0..3).all(|page| peek(address + page * PAGE_SIZE) == Some(0));
    check(all, "what was not unmapped is there", format_args!("a page of {address:#x} is not"));
    unmapped(address);
    expect(address, UnmapError::NotMapped(address));
}

/// However many unmap the same at once, and however often: one succeeds, and the others are told.
fn at_once(context: &Context) {
    const ROUNDS: usize = 100;
    static ADDRESS: [AtomicUsize; ROUNDS] = [const { AtomicUsize::new(0) }; ROUNDS];
    static DONE: [AtomicUsize; ROUNDS] = [const { AtomicUsize::new(0) }; ROUNDS];
    let together = Arc::new(Barrier::new());
    let parties = context.cpus.len();
    let drivers: Vec<_> = context
        .cpus
        .enumerate()
        .filter_map(|(who, cpu)| {
            let together = together.clone();
            let drive = move || {
                for round in 0..ROUNDS {
                    if who == 0 {
                        let made = mapped(map_anonymous_guarded(PAGE_SIZE, MapFlags::WRITE));
                        ADDRESS[round].store(made.unwrap_or(0) as usize, Ordering::Relaxed);
                    }
                    together.wait(parties);
                    let address = ADDRESS[round].load(Ordering::Relaxed) as u64;
                    match unmap(address) {
                        Ok(()) => _ = DONE[round].fetch_add(1, Ordering::Relaxed),
                        end => check(
                            end == Err(UnmapError::NotMapped(address)),
                            "who comes late is told",
                            format_args!("{end:?}"),
                        ),
                    }
                    together.wait(parties);
                }
            };
            Builder::new().name("unmaps").on(cpu).spawn(drive).ok()
        })
        .collect();
    check(drivers.len() == parties, "threads can be started", format_args!("{} were", drivers.len()));
    drivers.into_iter().for_each(|h| check(h.join().is_ok(), "drivers live", format_args!("one died")));
    for done in &DONE {
        let done = done.load(Ordering::Relaxed);
        check(done == 1, "of those who unmap at once one succeeds", format_args!("{done} did"));
    }
}
