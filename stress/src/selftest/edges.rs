//! What goes on where it is narrow: at a stack's edge, with broken registers, in the hands of an owner that is gone.

use super::{Test, until_parked};
use crate::failure::check;
use crate::workload::Context;
use alloc::vec::Vec;
use core::hint::{black_box, spin_loop};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;
use kernel::mem::{Access, Fill, GuardedMapping, MapError, PhysAddr, UnmapError, Window, peek, ping_all, unmap};
use kernel::thread::{self, Builder, Death, FaultKind, JoinError, Shield};
use kernel::{misdeed, print, record, time};
use smp::CpuId;

pub const TESTS: &[Test] = &[
    ("kernel-calls-at-every-distance-from-the-edge", every_distance),
    ("a-fault-with-a-broken-frame-pointer-ends-its-thread-alone", broken_frame_pointer),
    ("a-panic-stops-cpus-with-broken-frame-pointers", panic_with_broken_frame_pointer),
    ("what-is-owned-is-not-unmapped-by-its-address", owned_mapping),
    ("the-kernels-own-memory-is-not-mapped", own_memory),
    ("absurd-sizes-are-errors", absurd_sizes),
    ("what-a-thread-owned-is-dropped-where-it-may-wait", drops_that_wait),
    ("a-join-under-a-shield-outlasts-an-abort", shielded_join),
    ("a-cpu-that-runs-a-thread-is-not-idle", not_idle),
];

/// No address: bits 47 to 63 differ.
const NO_ADDRESS: u64 = 0x1234_5678_9abc_def0;

/// Whatever is left of the stack, the call works, or it is the caller's overflow: never the kernel's.
fn every_distance(_: &Context) {
    extern "C" fn ping() {
        black_box(ping_all());
    }
    extern "C" fn send() {
        record::send(&wire::Record::Count { name: "at the edge", value: 1 });
    }
    extern "C" fn format() {
        print!("{}", if black_box(false) { black_box(1.5e300_f64) } else { 0.25 });
        print!("{:.3}\r", black_box(1.5e300_f64));
    }
    extern "C" fn sleep() {
        thread::sleep(Duration::from_micros(1));
    }
    extern "C" fn mark() {
        kernel::trace::mark(1, 2);
    }
    for (name, call) in
        [("ping", ping as extern "C" fn()), ("send", send), ("format", format), ("sleep", sleep), ("mark", mark)]
    {
        for left in (16..3200).step_by(80) {
            let end = Builder::new()
                .quiet()
                .spawn(move || misdeed::with_stack_left(left, &mut || call()))
                .map(|handle| handle.join());
            let right = match end {
                Ok(Ok(())) => true,
                Ok(Err(Death::Fault(fault))) => matches!(fault.kind, FaultKind::Guard(..)),
                _ => false,
            };
            check(right, "a call works or is an overflow", format_args!("{name} with {left} bytes left: {end:?}"));
        }
    }
}

fn broken_frame_pointer(_: &Context) {
    for rbp in [NO_ADDRESS, 0x7fff_ffff_fff8, 0xffff_ffff_ffff_fff8, 8, u64::MAX] {
        let end =
            Builder::new().quiet().spawn(move || misdeed::fault_with_frame_pointer(rbp)).map(|handle| handle.join());
        let right = matches!(end, Ok(Err(Death::Fault(fault))) if fault.kind == FaultKind::Exception(6));
        check(right, "the thread dies of what it did", format_args!("with rbp {rbp:#x}: {end:?}"));
    }
    check(peek(NO_ADDRESS).is_none(), "what is no address cannot be read", format_args!("it can"));
}

fn panic_with_broken_frame_pointer(_: &Context) {
    static SPINS: AtomicBool = AtomicBool::new(false);
    let _ = Builder::new().name("broken").on(CpuId::new(1)).spawn(|| {
        SPINS.store(true, Ordering::Release);
        misdeed::spin_with_frame_pointer(NO_ADDRESS);
    });
    while !SPINS.load(Ordering::Acquire) {
        spin_loop();
    }
    panic!("on purpose");
}

fn owned_mapping(_: &Context) {
    let Ok(mapping) = GuardedMapping::anonymous(2, 1, Fill::Zeros, Access::ReadWrite) else { return };
    let start = mapping.start();
    let end = unmap(start);
    check(end == Err(UnmapError::IsOwned(start)), "an owned mapping stays", format_args!("{end:?}"));
    check(mapping.write(0, 7), "an owned mapping stays mapped", format_args!("it cannot be written"));
    let Ok(mut window) = Window::new(2) else { return };
    check(window.map(1).is_ok(), "a window can be mapped", format_args!("it cannot"));
    let end = unmap(window.start());
    check(end.is_err(), "a window's mapping stays", format_args!("{end:?}"));
    let address = mapping.into_address();
    check(unmap(address) == Ok(()), "what has no owner is unmapped", format_args!("it is not"));
}

fn own_memory(_: &Context) {
    let code = (own_memory as *const () as u64) & !0xfff;
    let code = [peek(code), peek(code + 2048)];
    let mut mapped = 0;
    for page in (0x10_0000..0x400_0000_u64).step_by(4096) {
        if let Ok(mapping) = misdeed::map_physical(PhysAddr(page), 1, 1, Access::Read) {
            mapped += 1;
            let same = [mapping.read(0), mapping.read(2048)] == code;
            check(!same, "the kernel's code is not mapped again", format_args!("at {page:#x}"));
        }
    }
    check(mapped == 0, "memory in use is not mapped again", format_args!("{mapped} pages were"));
}

fn absurd_sizes(_: &Context) {
    for (pages, guard) in [(1, 1 << 63), (u64::MAX, 1), (u64::MAX, u64::MAX), (1 << 52, 1)] {
        let end = GuardedMapping::anonymous(pages, guard, Fill::AsIs, Access::ReadWrite).err();
        let right = matches!(end, Some(MapError::OutOfAddresses | MapError::OutOfFrames));
        check(right, "an absurd size is an error", format_args!("{pages} pages, {guard} guard pages: {end:?}"));
    }
    let window = Window::new(u64::MAX).err();
    check(window.is_some(), "an absurd window is an error", format_args!("{window:?}"));
    let thread = Builder::new().stack_pages(u64::MAX).spawn(|| ()).err();
    check(thread.is_some(), "an absurd stack is an error", format_args!("{thread:?}"));
    for bytes in [1 << 36, 1 << 47, 1 << 62] {
        let end = Vec::<u8>::new().try_reserve_exact(bytes);
        check(end.is_err(), "an absurd piece of the heap is an error", format_args!("{bytes} bytes"));
    }
    let sleeper = thread::spawn(|| thread::sleep(Duration::from_secs(1 << 63)));
    match sleeper.map(|sleeper| sleeper.join_within(Duration::from_millis(20))) {
        Ok(Err(JoinError::Timeout(sleeper))) => {
            sleeper.abort();
            check(sleeper.join() == Err(Death::Aborted), "an abort ends a sleep", format_args!("it does not"));
        }
        other => check(false, "an absurd sleep is a long one", format_args!("{other:?}")),
    }
}

struct Waits;

static DROPPED: AtomicUsize = AtomicUsize::new(0);

impl Drop for Waits {
    fn drop(&mut self) {
        thread::yield_now();
        thread::sleep(Duration::from_micros(1));
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

fn drops_that_wait(_: &Context) {
    const THREADS: usize = 30;
    for _ in 0..THREADS {
        // Detached: its value is dropped by whoever is there.
        drop(Builder::new().spawn(|| Waits));
    }
    thread::quiesce();
    let since = time::now();
    while DROPPED.load(Ordering::Relaxed) < THREADS && time::now() - since < time::cycles(Duration::from_secs(10)) {
        thread::quiesce();
        thread::yield_now();
    }
    let dropped = DROPPED.load(Ordering::Relaxed);
    check(dropped == THREADS, "all is dropped", format_args!("{dropped} of {THREADS}"));
}

fn shielded_join(_: &Context) {
    static JOINED: AtomicBool = AtomicBool::new(false);
    static SHIELDED: AtomicBool = AtomicBool::new(false);
    static GO: AtomicBool = AtomicBool::new(false);
    let joiner = Builder::new().name("joiner").spawn(|| {
        let _shield = Shield::new();
        let other = Builder::new().spawn(|| {
            while !GO.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
            }
        });
        SHIELDED.store(true, Ordering::Relaxed);
        let end = other.map(|handle| handle.join());
        JOINED.store(end == Ok(Ok(())), Ordering::Relaxed);
    });
    let end = joiner.map(|handle| {
        while !SHIELDED.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        until_parked(*handle.thread()); // in the join
        handle.abort();
        thread::sleep(Duration::from_millis(20)); // time to do the wrong thing
        GO.store(true, Ordering::Relaxed);
        handle.join()
    });
    check(end == Ok(Err(Death::Aborted)), "the abort comes through in the end", format_args!("{end:?}"));
    check(JOINED.load(Ordering::Relaxed), "the join goes on under the shield", format_args!("it did not"));
}

fn not_idle(_: &Context) {
    static STOP: AtomicBool = AtomicBool::new(false);
    static RUNS: AtomicBool = AtomicBool::new(false);
    thread::sleep(Duration::from_millis(20)); // CPU 1 has nothing to do, and halts
    let busy = Builder::new().on(CpuId::new(1)).spawn(|| {
        RUNS.store(true, Ordering::Release);
        while !STOP.load(Ordering::Relaxed) {
            spin_loop();
        }
    });
    while !RUNS.load(Ordering::Acquire) {
        spin_loop();
    }
    for _ in 0..1000 {
        let falsely = misdeed::falsely_idle();
        check(!falsely.contains(CpuId::new(1)), "a busy CPU is not idle", format_args!("{falsely:?}"));
    }
    STOP.store(true, Ordering::Relaxed);
    check(busy.is_ok_and(|handle| handle.join().is_ok()), "the busy thread ends", format_args!("it does not"));
}
