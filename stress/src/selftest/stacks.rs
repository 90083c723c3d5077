//! Stacks of every kind: exact to the byte, told by what they are, measured; and what any address belongs to.

use super::Test;
use crate::failure::check;
use crate::workload::{Context, expect_guard};
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use kernel::mem::{Access, Fill, GuardedMapping, Owner, PAGE_SIZE, Region, StackKind, owner_of, peek, translate};
use kernel::misdeed::{self, Deed};
use kernel::thread::{self, Builder, Death, Fault, FaultKind, JoinHandle, NoWatermark, Watermark};
use smp::CpuId;
use wire::record::Guard::{self, Front, Rear};

pub const TESTS: &[Test] = &[
    ("threads-stacks-of-all-sizes-are-exact-to-the-byte", all_sizes),
    ("the-cpus-own-stacks-are-exact-to-the-byte", own_stacks),
    ("who-touches-another-stacks-guard-has-not-overflowed", others_guards),
    ("a-worker-faults-twice-and-works-in-between", faults_twice),
    ("nmis-rain-on-threads-that-overflow", nmis),
    ("nmis-rain-on-a-broken-frame-pointer", nmis_on_broken_frame),
    ("every-address-has-its-owner", owners),
    ("every-mapped-address-has-its-physical-one", physical),
    ("watermarks-tell-what-was-used", watermarks),
    ("without-watermarks-there-is-a-bound", no_watermarks),
    ("an-overflow-of-the-interrupt-stack", |context| on_own_stack(context, StackKind::Interrupt, Deed::Overflow)),
    ("an-overflow-of-the-nmi-stack", |context| on_own_stack(context, StackKind::Nmi, Deed::Overflow)),
    ("an-overflow-of-the-double-fault-stack", |context| on_own_stack(context, StackKind::DoubleFault, Deed::Overflow)),
    ("an-overflow-of-the-machine-check-stack", |context| {
        on_own_stack(context, StackKind::MachineCheck, Deed::Overflow)
    }),
    ("an-overflow-of-the-idle-stack", |context| on_own_stack(context, StackKind::Idle, Deed::Overflow)),
    ("a-write-below-the-interrupt-stack", |context| on_own_stack(context, StackKind::Interrupt, Deed::WriteBelow)),
    ("a-write-below-the-nmi-stack", |context| on_own_stack(context, StackKind::Nmi, Deed::WriteBelow)),
    ("a-write-below-the-double-fault-stack", |context| on_own_stack(context, StackKind::DoubleFault, Deed::WriteBelow)),
    ("a-write-below-the-machine-check-stack", |context| {
        on_own_stack(context, StackKind::MachineCheck, Deed::WriteBelow)
    }),
    ("a-write-below-the-idle-stack", |context| on_own_stack(context, StackKind::Idle, Deed::WriteBelow)),
    ("a-write-above-the-interrupt-stack", |context| on_own_stack(context, StackKind::Interrupt, Deed::WriteAbove)),
    ("a-write-above-the-nmi-stack", |context| on_own_stack(context, StackKind::Nmi, Deed::WriteAbove)),
    ("a-write-above-the-double-fault-stack", |context| on_own_stack(context, StackKind::DoubleFault, Deed::WriteAbove)),
    ("a-write-above-the-machine-check-stack", |context| {
        on_own_stack(context, StackKind::MachineCheck, Deed::WriteAbove)
    }),
    ("a-write-above-the-idle-stack", |context| on_own_stack(context, StackKind::Idle, Deed::WriteAbove)),
];

/// What the thread that `f` runs in died of.
fn fault_of(builder: Builder<'_>, f: impl FnOnce() + Send + 'static) -> Option<Fault> {
    let end = builder.quiet().spawn(f).map(JoinHandle::join);
    let fault = match end {
        Ok(Err(Death::Fault(fault))) => Some(fault),
        _ => None,
    };
    check(fault.is_some(), "a fault ends its thread", format_args!("{end:?}"));
    fault
}

fn expect_fault(builder: Builder<'_>, expected: FaultKind, f: impl FnOnce() + Send + 'static) {
    let fault = fault_of(builder, f);
    let right = fault.is_some_and(|fault| fault.kind == expected);
    check(right, "a fault is told as it was", format_args!("{fault:?}, not {expected:?}"));
}

fn all_sizes(context: &Context) {
    for (round, pages) in [1, 2, 3, 4, 5, 8, 15, 16, 31, 64].into_iter().enumerate() {
        for (turn, guard) in [1, 2, 3, 5, 8].into_iter().enumerate() {
            let cpu = CpuId::new((round + turn) % context.cpus.len());
            let builder = || Builder::new().name("edge").on(cpu).stack_pages(pages).guard_pages(guard);
            for distance in [1, guard * PAGE_SIZE] {
                expect_fault(builder(), FaultKind::Guard(Front, distance), move || {
                    misdeed::write_to_guard(thread::stack_bounds().0 - distance);
                });
                expect_fault(builder(), FaultKind::Guard(Rear, distance), move || {
                    misdeed::write_to_guard(thread::stack_bounds().1 + distance - 1);
                });
            }
            let inside = builder().spawn(misdeed::can_write_own_edges).map(JoinHandle::join);
            check(inside == Ok(Ok(true)), "the edge itself is no guard", format_args!("{inside:?}, {pages} pages"));
        }
    }
}

/// From a thread's view, in which they are somebody else's: never an overflow, and told as what they are.
fn own_stacks(context: &Context) {
    let mut seen = [0; StackKind::ALL.len()];
    misdeed::for_each_cpu_stack(|cpu, kind, start, end| {
        seen[kind as usize] += 1;
        for (address, guard) in [(start - 1, Front), (end, Rear)] {
            let fault = fault_of(Builder::new(), move || misdeed::write_to_guard(address));
            let right = fault.is_some_and(|fault| fault.kind == FaultKind::Page && lies_in(&fault, cpu, kind, guard));
            check(right, "a guard is told as what it is", format_args!("{kind} stack of {cpu}, {guard:?}: {fault:?}"));
        }
        let mapped = peek(start).is_some() && peek(end - 8).is_some();
        check(mapped, "the edge itself is no guard", format_args!("the {kind} stack of {cpu}"));
        if matches!(kind, StackKind::MachineCheck | StackKind::Boot) {
            let writable = misdeed::can_write_edges(kind, start, end);
            check(writable, "a stack can be written", format_args!("the {kind} stack of {cpu}"));
        }
    });
    let cpus = context.cpus.len();
    check(seen == [0, cpus, cpus, cpus, cpus, cpus, 1], "every CPU has its stacks", format_args!("{seen:?}"));
}

fn lies_in(fault: &Fault, cpu: CpuId, kind: StackKind, guard: Guard) -> bool {
    match fault.there {
        Some(Owner::Cpu { cpu: c, kind: k, hit }) => (c, k, hit.region) == (cpu, kind, Region::Guard(guard, 1)),
        _ => false,
    }
}

fn others_guards(context: &Context) {
    static START: AtomicU64 = AtomicU64::new(0);
    static END: AtomicU64 = AtomicU64::new(0);
    static DONE: AtomicBool = AtomicBool::new(false);
    for cpu in context.cpus {
        DONE.store(false, Ordering::Relaxed);
        START.store(0, Ordering::Relaxed);
        let other = Builder::new().name("bystander").on(cpu).spawn(|| {
            let (start, end) = thread::stack_bounds();
            END.store(end, Ordering::Relaxed);
            START.store(start, Ordering::Release);
            while !DONE.load(Ordering::Acquire) {
                thread::yield_now();
            }
        });
        while START.load(Ordering::Acquire) == 0 {
            thread::yield_now();
        }
        for (place, guard) in [(START.load(Ordering::Relaxed) - 1, Front), (END.load(Ordering::Relaxed), Rear)] {
            let fault = fault_of(Builder::new(), move || misdeed::write_to_guard(place));
            let right = fault.is_some_and(|fault| fault.kind == FaultKind::Page && lies_in_bystanders(&fault, guard));
            check(right, "another's guard is no overflow", format_args!("{fault:?}"));
        }
        DONE.store(true, Ordering::Release);
        let lives = other.is_ok_and(|handle| handle.join().is_ok());
        check(lives, "whose guard it was lives on", format_args!("the bystander died"));
    }
    for address in [0xffff_d000_0000_0000 + (12 << 36), 0xffff_c000_0000_0000 + (63 << 30), 0xffff_ffff_ffff_fff8] {
        expect_fault(Builder::new(), FaultKind::Page, move || misdeed::read_nowhere(address));
    }
}

fn lies_in_bystanders(fault: &Fault, guard: Guard) -> bool {
    let told = format!("{fault}").contains("guard of the stack of thread 'bystander'#");
    match fault.there {
        Some(Owner::Thread { name, hit, .. }) => {
            told && name.as_str() == "bystander" && hit.region == Region::Guard(guard, 1)
        }
        _ => false,
    }
}

fn faults_twice(context: &Context) {
    for cpu in context.cpus {
        for _ in 0..3 {
            let worker = || Builder::new().name("worker").on(cpu).quiet();
            if let Ok(handle) = worker().spawn(misdeed::recurse_for_ever) {
                expect_guard(handle, Front);
            }
            let sum = worker().spawn(|| (1..=100u64).map(|n| *Box::new(n)).sum::<u64>()).map(JoinHandle::join);
            check(sum == Ok(Ok(5050)), "a thread works where one faulted", format_args!("{sum:?}"));
            expect_fault(worker(), FaultKind::Page, misdeed::read_null);
        }
    }
}

/// NMIs come at any instruction of the fault's way, each on a stack of its own.
fn nmis(context: &Context) {
    static DONE: AtomicBool = AtomicBool::new(false);
    let cpus = context.cpus;
    let rain = Builder::new().name("rain").on(CpuId::new(0)).spawn(move || {
        while !DONE.load(Ordering::Acquire) {
            cpus.for_each(misdeed::nmi);
        }
    });
    for _ in 0..20 {
        let overflow = |cpu| Builder::new().name("overflows").on(cpu).quiet().spawn(misdeed::recurse_for_ever).ok();
        let mut handles = cpus.map(overflow).collect::<Vec<_>>();
        handles.drain(..).flatten().for_each(|handle| expect_guard(handle, Front));
    }
    DONE.store(true, Ordering::Release);
    check(rain.is_ok_and(|handle| handle.join().is_ok()), "the rain ends", format_args!("it does not"));
}

/// The NMI's own look at the stack finds no chain, and does not fault over it.
fn nmis_on_broken_frame(context: &Context) {
    let cpu = CpuId::new(context.cpus.len() - 1);
    for rbp in [0x1234_5678_9abc_def0, 0xffff_d000_0000_0000, 0xffff_ffff_ffff_fff8] {
        let spins = Builder::new().name("broken").on(cpu).spawn(move || misdeed::spin_with_frame_pointer(rbp));
        let Ok(spins) = spins else { return };
        thread::sleep(Duration::from_millis(20));
        let rain = move || (0..20_000).for_each(|_| misdeed::nmi(cpu));
        let clouds = context.cpus.without(cpu).map(|from| Builder::new().name("rain").on(from).spawn(rain));
        clouds.collect::<Vec<_>>().into_iter().flatten().for_each(|cloud| {
            let _ = cloud.join();
        });
        spins.abort();
        let end = spins.join();
        check(end == Err(Death::Aborted), "an NMI leaves all as it was", format_args!("{end:?}"));
    }
}

fn owners(_: &Context) {
    let expect = |what: &str, owner: Option<Owner>, right: bool| {
        check(right, "an address belongs to its owner", format_args!("{what}: {owner:?}"));
    };
    let (start, end) = thread::stack_bounds();
    for (at, region) in [
        (start - 1, Region::Guard(Front, 1)),
        (start, Region::Mapped),
        (end - 1, Region::Mapped),
        (end, Region::Guard(Rear, 1)),
    ] {
        let owner = owner_of(at);
        let right =
            matches!(owner, Some(Owner::Thread { name, hit, .. }) if name.as_str() == "main" && hit.region == region);
        expect("own stack", owner, right);
    }
    misdeed::for_each_cpu_stack(|cpu, kind, start, _| {
        let owner = owner_of(start);
        expect(kind.name(), owner, matches!(owner, Some(Owner::Cpu { cpu: c, kind: k, .. }) if (c, k) == (cpu, kind)));
    });
    if let Ok(mapping) = GuardedMapping::anonymous(2, 1, Fill::Zeros, Access::ReadWrite) {
        let at = mapping.start();
        for (at, region) in [(at, Region::Mapped), (at - 1, Region::Guard(Front, 1))] {
            let owner = owner_of(at);
            expect("mapping", owner, matches!(owner, Some(Owner::Mapping(hit)) if hit.region == region));
        }
        let memory = hhdm_of(at);
        expect("all memory", owner_of(memory), owner_of(memory) == Some(Owner::Memory));
        drop(mapping);
        expect("what was a mapping", owner_of(at), matches!(owner_of(at), Some(Owner::Vacant(_))));
    }
    let boxed = Box::new(1u64);
    expect("heap", owner_of(&raw const *boxed as u64), owner_of(&raw const *boxed as u64) == Some(Owner::Heap));
    let (code, constant) = (owners as *const () as u64, TESTS.as_ptr() as u64);
    for at in [code, constant] {
        expect("image", owner_of(at), owner_of(at) == Some(Owner::Image));
    }
    let registers =
        (0..1u64 << 20).map(|page| 0xffff_e000_0000_0000 + page * PAGE_SIZE).find(|at| translate(*at).is_some());
    let devices = registers.is_none_or(|at| owner_of(at) == Some(Owner::Devices));
    expect("devices", registers.and_then(owner_of), devices);
    for nobody in [0, 64, 0x1234_5678_9abc_def0, 0xffff_c000_0000_0000 + (63 << 30), u64::MAX] {
        expect("nobody's", owner_of(nobody), owner_of(nobody).is_none());
    }
}

/// Where all memory is mapped, the address of what is behind `address`: found by its contents.
fn hhdm_of(address: u64) -> u64 {
    let physical = translate(address).map_or(0, |physical| physical.0);
    (0..512)
        .map(|at| 0xffff_8000_0000_0000 + (at << 30) + physical)
        .find(|at| translate(*at).map(|p| p.0) == Some(physical))
        .unwrap_or(0)
}

fn physical(_: &Context) {
    let promise = "a mapped address has a physical one";
    let Ok(mapping) = GuardedMapping::anonymous(3, 1, Fill::Zeros, Access::ReadWrite) else { return };
    for offset in [0, 8, PAGE_SIZE - 1, PAGE_SIZE, 2 * PAGE_SIZE + 123] {
        let (own, general) = (mapping.translate(offset), translate(mapping.start() + offset));
        check(own.is_some() && own == general, promise, format_args!("{own:?} and {general:?} at {offset}"));
        // The same by the map of all memory, which has large pages.
        let through = hhdm_of(mapping.start() + offset);
        check(through != 0 && translate(through) == own, promise, format_args!("{through:#x}, {own:?}"));
    }
    let _ = mapping.write(8, 0x5afe_5afe);
    let seen = peek(hhdm_of(mapping.start()) + 8);
    check(seen == Some(0x5afe_5afe), "it is the same memory", format_args!("{seen:?}"));
    let code = physical as *const () as u64;
    check(translate(code).is_some(), promise, format_args!("code has none"));
    let gone = mapping.start();
    drop(mapping);
    for nowhere in [0, 0x1234_5678_9abc_def0, gone, gone - PAGE_SIZE, u64::MAX] {
        check(translate(nowhere).is_none(), "where nothing is mapped there is none", format_args!("{nowhere:#x}"));
    }
}

fn watermarks(context: &Context) {
    static READY: AtomicBool = AtomicBool::new(false);
    static GO: AtomicBool = AtomicBool::new(false);
    let promise = "a watermark is what was used";
    let within =
        |mark: Watermark, low: u64, high: u64| matches!(mark, Watermark::Bytes(n) if (low..=high).contains(&n));
    for cpu in context.cpus {
        READY.store(false, Ordering::Relaxed);
        GO.store(false, Ordering::Relaxed);
        let handle = Builder::new().name("deep").on(cpu).stack_pages(16).spawn(|| {
            let before = thread::watermark();
            misdeed::call_with_frame::<{ 8 * 4096 }>();
            let after = thread::watermark();
            READY.store(true, Ordering::Release);
            while !GO.load(Ordering::Acquire) {
                thread::yield_now();
            }
            (before, after)
        });
        let Ok(handle) = handle else { return };
        while !READY.load(Ordering::Acquire) {
            thread::yield_now();
        }
        let seen = handle.thread().watermark();
        let right = seen.is_ok_and(|mark| within(mark, 8 * PAGE_SIZE, 10 * PAGE_SIZE));
        check(right, promise, format_args!("from outside {seen:?}"));
        let mut listed = None;
        thread::for_each_watermark(|number, name, mark| {
            if number == handle.thread().id() {
                check(name.as_str() == "deep", "threads are listed by their names", format_args!("{name}"));
                listed = Some(mark);
            }
        });
        check(listed == Some(seen), promise, format_args!("in the list {listed:?}"));
        GO.store(true, Ordering::Release);
        while !handle.is_finished() {
            thread::yield_now();
        }
        let gone = handle.thread().watermark();
        check(gone == Err(NoWatermark::NoStack), "who has left its stack has no watermark", format_args!("{gone:?}"));
        let end = handle.join();
        let right = end.is_ok_and(|(b, a)| within(b, 1, 2 * PAGE_SIZE) && within(a, 8 * PAGE_SIZE, 10 * PAGE_SIZE));
        check(right, promise, format_args!("from inside {end:?}"));
        let fault = fault_of(Builder::new().on(cpu), misdeed::recurse_for_ever);
        let right = fault.is_some_and(|fault| fault.used == Watermark::Bytes(fault.stack_bytes.into()));
        check(right, "an overflow has used it all", format_args!("{fault:?}"));
        let fault = fault_of(Builder::new().on(cpu).stack_pages(16), || {
            misdeed::call_with_frame::<{ 8 * 4096 }>();
            misdeed::read_null();
        });
        let right = fault.is_some_and(|fault| within(fault.used, 8 * PAGE_SIZE, 10 * PAGE_SIZE));
        check(right, "a fault tells what was used before", format_args!("{fault:?}"));
    }
}

fn no_watermarks(_: &Context) {
    let mark = thread::watermark();
    check(matches!(mark, Watermark::AtLeast(n) if n > 0), "there is a bound", format_args!("{mark:?}"));
    static SEEN: AtomicBool = AtomicBool::new(false);
    let handle = Builder::new().spawn(|| {
        while !SEEN.load(Ordering::Relaxed) {
            thread::yield_now();
        }
    });
    let other = handle.as_ref().map(|handle| handle.thread().watermark());
    SEEN.store(true, Ordering::Relaxed);
    check(other == Ok(Err(NoWatermark::NotKept)), "what is not kept is not told", format_args!("{other:?}"));
    let _ = handle.map(JoinHandle::join);
    let fault = fault_of(Builder::new(), misdeed::recurse_for_ever);
    let right = fault.is_some_and(|fault| fault.used == Watermark::AtLeast(fault.stack_bytes.into()));
    check(right, "an overflow has used it all", format_args!("{fault:?}"));
}

/// On the last CPU. The machine panics, which the host expects.
fn on_own_stack(context: &Context, kind: StackKind, deed: Deed) {
    let cpu = CpuId::new(context.cpus.len() - 1);
    let _ = Builder::new().name("ambush").on(cpu).spawn(move || misdeed::ambush(kind, cpu, deed)).map(JoinHandle::join);
    thread::sleep(Duration::from_secs(5));
    check(false, "what hits a guard of a CPU's own stack is a panic", format_args!("{cpu} goes on"));
}
