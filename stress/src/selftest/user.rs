//! User threads: what programs may and may not do, and that what they do is their own affair. `user_faults` has what they
//! die of.

use super::Test;
use crate::failure::{check, fail};
use crate::programs::{ARRIVED, process, started};
use crate::workload::Context;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use kernel::stats::Totals;
use kernel::thread::{self, Builder, Death, Fault, FaultKind, JoinHandle, Mode};
use kernel::user::{Process, Program, ProgramError};
use kernel::{misdeed, time};
use smp::CpuId;
use wire::syscall::Error;

pub const TESTS: &[Test] = &[
    ("a-program-prints-and-ends-with-its-code", prints),
    ("no-cpu-reads-what-a-program-unmapped", unmaps),
    ("an-unmap-asks-only-the-cpus-of-its-process", asks_few),
    ("system-calls-with-any-arguments-are-answered", fuzz),
    ("a-user-thread-can-be-aborted-wherever-it-is", aborts),
    ("processes-leave-nothing-behind", leave_nothing),
    ("a-process-has-its-limits", limits),
    ("registers-are-kept-and-are-nobody-elses", registers),
    ("nmis-hit-user-threads-anywhere", nmis),
];

/// Joins a thread that should have ended with this code.
pub fn expect_code(handle: Option<JoinHandle<i32>>, code: i32) {
    let end = handle.map(JoinHandle::join);
    check(end == Some(Ok(code)), "a program ends with its code", format_args!("{end:?}, not {code}"));
}

fn wait_for(what: &'static str, done: impl Fn() -> bool) {
    let until = time::now() + time::cycles(Duration::from_secs(20));
    while !done() {
        if time::now() > until {
            return fail("user threads come to where they go", format_args!("they do not: {what}"));
        }
        thread::yield_now();
    }
}

fn prints(context: &Context) {
    let Some(process) = process("hello") else { return };
    for (cpu, code) in context.cpus.zip([0, 1, -1, i32::MAX, i32::MIN, 42, 7, 9]) {
        expect_code(started(process.builder().on(cpu).arguments([code as u64, 0])), code);
        check(process.printed_last("hello from ring 3\n"), "what is printed arrives", format_args!("it did not"));
    }
    let missing = Program::named("nothing").err();
    check(missing == Some(ProgramError::NotFound), "a missing program is an error", format_args!("{missing:?}"));
}

fn unmaps(context: &Context) {
    for rounds in [1, 20, 100] {
        let Some(process) = process("maps") else { return };
        let words = context.cpus.len() as u64 | rounds << 32;
        let start = |(cpu, me): (CpuId, u64)| started(process.builder().on(cpu).quiet().arguments([me, words]));
        let threads: Vec<_> = context.cpus.zip(0..).map(start).collect();
        for (me, handle) in threads.into_iter().enumerate() {
            let end = handle.map(JoinHandle::join);
            let right = match end {
                Some(Ok(0)) => me == 0,
                Some(Err(Death::Fault(Fault { kind: FaultKind::Page, mode: Mode::User, .. }))) => me > 0,
                _ => false,
            };
            check(right, "no CPU reads what a program unmapped", format_args!("thread {me}: {end:?}"));
        }
        check(
            process.mapped_pages() == 0,
            "what is unmapped is not counted",
            format_args!("{}", process.mapped_pages()),
        );
    }
}

/// One process maps and unmaps on CPU 0; another runs on all others. Then a second thread of the first is on CPU 1.
fn asks_few(context: &Context) {
    let (Some(one), Some(other)) = (process("waits"), process("waits")) else { return };
    let spin = |process: &Arc<Process>, cpu| started(process.builder().on(cpu).arguments([0, 0]));
    let mut all: Vec<_> = context.cpus.skip(1).map(|cpu| spin(&other, cpu)).collect();
    all.push(started(one.builder().on(CpuId::new(0)).arguments([3, 0])));
    for targets in [0, 1] {
        if targets == 1 {
            // The other process's thread leaves CPU 1.
            abort(all.remove(0));
            all.insert(0, spin(&one, CpuId::new(1)));
        }
        let expected = context.cpus.len() as u64 + targets;
        wait_for("to spin", || ARRIVED.load(Ordering::SeqCst) >= expected);
        thread::sleep(Duration::from_millis(50)); // the thread on CPU 1 has gone on to user code, and stacks are reaped
        let before = Totals::now();
        thread::sleep(Duration::from_millis(300));
        let after = Totals::now();
        let (requests, ipis) = (after.shootdowns - before.shootdowns, after.shootdown_ipis - before.shootdown_ipis);
        check(requests > 0, "the program unmaps", format_args!("{requests} requests"));
        // One may be between its request and the count of it.
        let right = ipis.abs_diff(requests * targets) <= 1;
        check(right, "only the CPUs of the process are asked", format_args!("{requests} requests, {ipis} interrupts"));
    }
    all.into_iter().for_each(abort);
}

/// Aborts a thread and checks that it ended so.
fn abort(handle: Option<JoinHandle<i32>>) {
    let Some(handle) = handle else { return };
    handle.abort();
    let end = handle.join();
    check(end == Err(Death::Aborted), "an abort ends a user thread", format_args!("{end:?}"));
}

fn fuzz(context: &Context) {
    for round in 0..4 {
        let Some(process) = process("fuzz") else { return };
        let start = |(cpu, number)| {
            let seed = context.seed << 16 | round << 8 | number;
            started(process.builder().on(cpu).quiet().arguments([seed, 2_000]))
        };
        let threads: Vec<_> = context.cpus.zip(0..).map(start).collect();
        threads.into_iter().for_each(|handle| expect_code(handle, 0));
    }
}

fn aborts(context: &Context) {
    for cpu in context.cpus {
        for way in 0..4 {
            let Some(process) = process("waits") else { return };
            let before = ARRIVED.load(Ordering::SeqCst);
            let handle = started(process.builder().on(cpu).quiet().arguments([way, 0]));
            wait_for("to wait", || ARRIVED.load(Ordering::SeqCst) > before);
            thread::sleep(Duration::from_millis(way * 3));
            abort(handle);
        }
        // In the kernel, for the program; and before it has begun.
        let Some(process) = process("misdeeds") else { return };
        let handle = started(process.builder().on(cpu).quiet().arguments([14, 5]));
        thread::sleep(Duration::from_millis(3));
        abort(handle);
        abort(started(process.builder().on(cpu).quiet().arguments([14, 5])));
    }
}

/// The account at the end of every test says whether it is so.
fn leave_nothing(context: &Context) {
    for round in 0..40 {
        let Some(process) = process(if round % 2 == 0 { "waits" } else { "misdeeds" }) else { return };
        let threads: Vec<_> = context
            .cpus
            .zip(0..)
            .filter_map(|(cpu, number): (_, u64)| {
                let way = (round + number) % 4;
                let words = if round % 2 == 0 { [way, 0] } else { [[0, 1, 2, 14][way as usize], number % 4] };
                started(process.builder().on(cpu).quiet().arguments(words))
            })
            .collect();
        if round % 2 == 0 {
            threads.iter().for_each(JoinHandle::abort);
        }
        let all = threads.into_iter().all(|handle| handle.join().is_err());
        check(all, "all are aborted, or die", format_args!("one has lived"));
    }
    // As many at a time as there can be, and never run.
    let Ok(program) = Program::named("hello") else { return };
    let all: Vec<_> = (0..100).map_while(|_| Process::load(&program).ok()).collect();
    check((20..=64).contains(&all.len()), "processes run out at some time", format_args!("{} are there", all.len()));
}

fn limits(_: &Context) {
    let Some(process) = process("waits") else { return };
    expect_code(started(process.builder().arguments([4, 0])), Error::OverLimit as i32);
    for pages in [0, 255, 256, u64::MAX] {
        let end = process.builder().stack_pages(pages).spawn();
        check(end.is_err(), "absurd stacks are errors", format_args!("{pages} pages"));
    }
    let all: Vec<_> = (0..100).map_while(|_| process.builder().quiet().arguments([2, 0]).spawn().ok()).collect();
    check(all.len() == 64, "threads of a process are counted", format_args!("{} are there", all.len()));
    all.into_iter().for_each(|handle| abort(Some(handle)));
}

fn registers(context: &Context) {
    for round in 1..4 {
        let Some(process) = process("registers") else { return };
        let start = |(cpu, number): (CpuId, u64)| {
            let word = 0x0123_4567_89ab_cdef_u64.wrapping_mul(round << 8 | number);
            started(process.builder().on(cpu).arguments([word, 40]))
        };
        let threads: Vec<_> = [0, 100, 200].into_iter().flat_map(|more| context.cpus.zip(more..)).map(start).collect();
        threads.into_iter().for_each(|handle| expect_code(handle, 0));
    }
}

/// From two CPUs at once, so that one hits another that is at it.
fn nmis(context: &Context) {
    static DONE: AtomicBool = AtomicBool::new(false);
    let storm = |cpu| {
        Builder::new().name("nmis").on(cpu).spawn(|| {
            while !DONE.load(Ordering::Relaxed) {
                misdeed::interrupt_all_others_by_nmi();
                (0..1_000).for_each(|_| core::hint::spin_loop());
            }
        })
    };
    let storms: Vec<_> = context.cpus.take(2).filter_map(|cpu| storm(cpu).ok()).collect();
    for program in ["registers", "fuzz", "registers"] {
        let Some(process) = process(program) else { break };
        let start = |(cpu, number)| started(process.builder().on(cpu).quiet().arguments([number, 60]));
        let threads: Vec<_> = context.cpus.zip(1..).map(start).collect();
        threads.into_iter().for_each(|handle| expect_code(handle, 0));
    }
    aborts(context);
    DONE.store(true, Ordering::Relaxed);
    for storm in storms {
        check(storm.join().is_ok(), "who sends NMIs lives", format_args!("it died"));
    }
}
