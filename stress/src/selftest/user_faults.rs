//! What user threads die of: each is told as it was, and ends its thread alone.

use super::Test;
use super::user::expect_code;
use crate::failure::check;
use crate::programs::{process, started};
use crate::workload::Context;
use alloc::vec::Vec;
use core::arch::x86_64::__cpuid;
use core::sync::atomic::{AtomicU64, Ordering};
use kernel::mem::PAGE_SIZE;
use kernel::thread::{self, Builder, Death, Fault, FaultKind, JoinHandle, Mode};
use smp::CpuId;
use wire::record::Guard::{Front, Rear};
use wire::syscall::Error;

pub const TESTS: &[Test] = &[
    ("a-user-stack-is-told-from-a-privileged-one", stacks),
    ("user-code-cannot-touch-the-kernel", kernel_memory),
    ("user-code-cannot-touch-what-is-anothers", others_memory),
    ("a-program-keeps-to-its-access-rights", access_rights),
    ("privileged-instructions-end-the-thread-alone", privileged),
    ("software-interrupts-are-refused", software_interrupts),
    ("what-a-program-leaves-in-registers-does-no-harm", odd_registers),
    ("a-user-thread-overflows-and-the-run-fails", told),
];

/// Runs `misdeeds` with these words on this CPU; how it ended.
fn misdeed(cpu: CpuId, words: [u64; 2]) -> Option<Result<i32, Death>> {
    let process = process("misdeeds")?;
    started(process.builder().on(cpu).arguments(words)).map(JoinHandle::join)
}

/// The same, which has to be a fault.
fn fault(cpu: CpuId, words: [u64; 2]) -> Option<Fault> {
    as_fault(words, misdeed(cpu, words))
}

fn as_fault(words: [u64; 2], end: Option<Result<i32, Death>>) -> Option<Fault> {
    match end {
        Some(Err(Death::Fault(fault))) => Some(fault),
        end => {
            check(false, "what a program must not do is a fault", format_args!("{words:x?}: {end:?}"));
            None
        }
    }
}

fn expect(cpu: CpuId, words: [u64; 2], kind: FaultKind, mode: Mode) {
    if let Some(fault) = fault(cpu, words) {
        let right = fault.kind == kind && fault.mode == mode;
        check(right, "a fault is told as it was", format_args!("{words:x?}: {fault:?}, not {kind:?}, {mode:?}"));
    }
}

fn stacks(context: &Context) {
    for cpu in context.cpus {
        expect(cpu, [1, 0], FaultKind::UserGuard(Rear, 1), Mode::User);
        for deed in [0, 7] {
            let Some(Fault { kind, mode, address, .. }) = fault(cpu, [deed, 0]) else { continue };
            let right = matches!(kind, FaultKind::UserGuard(Front, distance) if distance <= PAGE_SIZE);
            check(
                right && mode == Mode::User,
                "a user stack's overflow is told",
                format_args!("{kind:?} at {address:#x}"),
            );
        }
        for (word, guard) in [(0, Front), (1, Front), (2, Rear), (3, Front)] {
            let Some(Fault { kind, mode, address, .. }) = fault(cpu, [14, word]) else { continue };
            let right = matches!(kind, FaultKind::Guard(found, _) if found == guard) && mode == Mode::SystemCall;
            check(
                right,
                "a privileged stack's overflow is told",
                format_args!("{word}: {kind:?}, {mode:?} at {address:#x}"),
            );
        }
        expect(cpu, [14, 4], FaultKind::Page, Mode::SystemCall);
        expect(cpu, [2, 8], FaultKind::Page, Mode::User);
    }
}

/// Reads, writes and jumps at an address: each is a page fault there; or, if the address is none, a general protection fault.
fn untouchable(cpu: CpuId, address: u64) {
    for deed in 2..5 {
        let Some(found) = fault(cpu, [deed, address]) else { continue };
        let canonical = address.cast_signed() << 16 >> 16 == address.cast_signed();
        let right = match found.kind {
            FaultKind::Page => found.address == address,
            FaultKind::Exception(13) => !canonical,
            _ => false,
        };
        let told = format_args!("deed {deed} at {address:#x}: {found:?}");
        check(right && found.mode == Mode::User, "what is not the program's is a fault", told);
    }
}

fn kernel_memory(context: &Context) {
    static CONSTANT: u64 = 0x5afe;
    static VARIABLE: AtomicU64 = AtomicU64::new(0x5afe);
    let (start, end) = thread::stack_bounds();
    let addresses = [
        &raw const CONSTANT as u64,
        &raw const VARIABLE as u64,
        kernel_memory as *const () as u64,
        kernel::misdeed::forgiven_code(),
        start,
        end - 8,
        0xffff_8000_0010_0000, // all of memory
        0xffff_c000_0000_1000, // the heap
        0xffff_e000_fee0_0000, // the local APIC
        0x0000_8000_0000_0000, // none
        0xffff_7fff_ffff_fff8,
        u64::MAX - 7,
    ];
    for (cpu, address) in context.cpus.into_iter().cycle().zip(addresses) {
        untouchable(cpu, address);
        let end = misdeed(cpu, [15, address]);
        let refused = end == Some(Ok(Error::BadAddress as i32));
        check(refused, "the kernel does not read itself for a program", format_args!("{address:#x}: {end:?}"));
    }
    check(VARIABLE.load(Ordering::Relaxed) == 0x5afe, "the kernel's memory is as it was", format_args!("it is not"));
}

/// Another thread's privileged stack and its user stack, where that thread is of another process.
fn others_memory(context: &Context) {
    static PLACE: AtomicU64 = AtomicU64::new(0);
    fn tell_place(_: u64, _: u64) -> i64 {
        PLACE.store(thread::stack_bounds().1 - 64, Ordering::SeqCst);
        0
    }
    let Some(victim) = process("waits") else { return };
    kernel::user::set_image_call(tell_place);
    // Two threads: the second one's stack is where no other process has one.
    let start = |_| started(victim.builder().arguments([2, 0]));
    let threads: Vec<_> = (0..2).filter_map(start).collect();
    while PLACE.load(Ordering::SeqCst) == 0 {
        thread::yield_now();
    }
    for cpu in context.cpus {
        untouchable(cpu, PLACE.load(Ordering::SeqCst));
        untouchable(cpu, 0x2_0000_0000 + (2 << 20) - PAGE_SIZE - 64);
    }
    for handle in threads {
        check(!handle.is_finished(), "the other lives", format_args!("it does not"));
        handle.abort();
        let end = handle.join();
        check(end == Err(Death::Aborted), "the other ends as it is told", format_args!("{end:?}"));
    }
}

fn access_rights(context: &Context) {
    for cpu in context.cpus {
        expect(cpu, [8, 0], FaultKind::Page, Mode::User);
        expect(cpu, [9, 0], FaultKind::Page, Mode::User);
        // The interface's own limits of where a program may be.
        untouchable(cpu, 0x7fff_ffff_f000);
        untouchable(cpu, 0x3ff_f000);
    }
}

/// Whether QEMU's TCG executes this: by the name that hypervisors give themselves.
fn is_tcg() -> bool {
    let name = __cpuid(0x4000_0000);
    [name.ebx, name.ecx, name.edx].map(u32::to_le_bytes).as_flattened() == b"TCGTCGTCGTCG"
}

fn privileged(context: &Context) {
    const ALL: u64 = 40;
    const CACHES: [u64; 2] = [19, 23]; // WBINVD, INVD
    for cpu in context.cpus.take(2) {
        let bystander = process("waits").and_then(|process| started(process.builder().on(cpu).arguments([9, 2_000])));
        let kernels = Builder::new().name("bystander").on(cpu).spawn(|| (0..2_000).for_each(|_| thread::yield_now()));
        for number in 0..ALL {
            let end = misdeed(cpu, [5, number]);
            // QEMU's TCG, in version 10, lets everybody write back the caches that it has not. A guest does not know which it is.
            if is_tcg() && CACHES.contains(&number) && matches!(end, Some(Ok(0))) {
                continue;
            }
            if let Some(fault) = as_fault([5, number], end) {
                // QEMU 7.2 reads what IRETQ pops as the kernel would, which SMAP forbids for the user's stack.
                let by_qemu = number == ALL - 1 && fault.kind == FaultKind::Page;
                let right = matches!(fault.kind, FaultKind::Exception(13 | 6 | 1 | 0)) || by_qemu;
                let right = right && fault.mode == Mode::User;
                check(right, "a privileged instruction is an exception", format_args!("{number}: {fault:?}"));
            }
        }
        expect_code(bystander, 0);
        let lives = kernels.is_ok_and(|handle| handle.join().is_ok());
        check(lives, "the rest go on", format_args!("a bystander died"));
    }
}

fn software_interrupts(context: &Context) {
    for cpu in context.cpus.take(2) {
        for number in 0..17 {
            expect(cpu, [6, number], FaultKind::Exception(13), Mode::User);
        }
    }
}

/// Fails on purpose, so that the host looks at how the two overflows are told.
fn told(_: &Context) {
    let (user, system_call) = (misdeed(CpuId::new(0), [0, 0]), misdeed(CpuId::new(0), [14, 0]));
    check(false, "this one breaks on purpose", format_args!("{user:?}, {system_call:?}"));
}

fn odd_registers(context: &Context) {
    let (start, end) = thread::stack_bounds();
    for cpu in context.cpus {
        for rsp in [0, 8, 0x7fff_ffff_f000, 0x8000_0000_0000, u64::MAX, start, end] {
            check(
                misdeed(cpu, [10, rsp]) == Some(Ok(0)),
                "a stack pointer is the program's affair",
                format_args!("{rsp:#x}"),
            );
        }
        for deed in [11, 12] {
            let end = misdeed(cpu, [deed, 0]);
            check(end == Some(Ok(0)), "flags and segments are the program's affair", format_args!("{deed}: {end:?}"));
        }
        expect(cpu, [13, 0], FaultKind::Exception(1), Mode::User);
    }
}
