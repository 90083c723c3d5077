//! `user-storm`: processes come and go. Their threads run off either of their two stacks, map and unmap under each other's eyes,
//! ask the kernel for nonsense, keep words in their registers, and are aborted wherever they are; each ends as it has to.

use super::Context;
use crate::failure::{check, fail};
use crate::programs::{process, started};
use crate::random::Random;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::println;
use kernel::thread::{self, Death, Fault, FaultKind, JoinHandle, Mode};
use kernel::user::{Process, programs};
use wire::cmdline::Workload;
use wire::record::Guard::{self, Front, Rear};

/// Processes in a round.
const PROCESSES: u64 = 3;

/// How a thread has to end.
#[derive(Clone, Copy, Debug)]
enum End {
    Code(i32),
    Aborted,
    UserGuard(Guard),
    Guard(Guard),
    Page(Mode),
}

type Started = (JoinHandle<i32>, End);

pub fn round(context: &Context, round: u64) {
    if programs().next().is_none() {
        return without_programs();
    }
    let mut random = Random::new(context.seed, round ^ 0xd0 << 56);
    let mut threads = Vec::new();
    for _ in 0..PROCESSES {
        match random.below(5) {
            0 => misdeeds(context, &mut random, &mut threads),
            1 => waits(context, &mut random, &mut threads),
            2 => maps(context, &mut threads),
            3 => nonsense(&mut random, &mut threads),
            _ => registers(&mut random, &mut threads),
        }
    }
    for _ in 0..random.below(20) {
        thread::yield_now();
    }
    for (handle, _) in threads.iter().filter(|(_, end)| matches!(end, End::Aborted)) {
        handle.abort();
    }
    threads.into_iter().for_each(expect);
}

/// An image that somebody started without its modules: told once, and a failure if this was what was asked for.
fn without_programs() {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if kernel::options().workload == Workload::UserStorm {
        fail("programs are there", format_args!("the image has no modules: no user programs came with the kernel"));
    } else if !TOLD.swap(true, Ordering::Relaxed) {
        println!("the image has no modules: the run goes on without user programs");
    }
}

fn start(process: &Arc<Process>, words: [u64; 2], end: End, threads: &mut Vec<Started>) {
    threads.extend(started(process.builder().quiet().arguments(words)).map(|handle| (handle, end)));
}

fn misdeeds(context: &Context, random: &mut Random, threads: &mut Vec<Started>) {
    const DEEDS: [([u64; 2], End); 9] = [
        ([0, 0], End::UserGuard(Front)),
        ([1, 0], End::UserGuard(Rear)),
        ([7, 0], End::UserGuard(Front)),
        ([2, 0xffff_ffff_8000_0000], End::Page(Mode::User)),
        ([14, 0], End::Guard(Front)),
        ([14, 1], End::Guard(Front)),
        ([14, 2], End::Guard(Rear)),
        ([14, 3], End::Guard(Front)),
        ([14, 4], End::Page(Mode::SystemCall)),
    ];
    let Some(process) = process("misdeeds") else { return };
    for _ in 0..context.cpus.len() {
        let (words, end) = DEEDS[random.below(DEEDS.len() as u64) as usize];
        start(&process, words, end, threads);
    }
}

fn waits(context: &Context, random: &mut Random, threads: &mut Vec<Started>) {
    let Some(process) = process("waits") else { return };
    for _ in 0..context.cpus.len() {
        match random.below(5) {
            4 => start(&process, [9, 10], End::Code(0), threads),
            way => start(&process, [way, 0], End::Aborted, threads),
        }
    }
}

fn maps(context: &Context, threads: &mut Vec<Started>) {
    const ROUNDS: u64 = 3;
    let Some(process) = process("maps") else { return };
    let count = context.cpus.len() as u64;
    let before = threads.len();
    for me in 0..count {
        let end = if me == 0 { End::Code(0) } else { End::Page(Mode::User) };
        start(&process, [me, count | ROUNDS << 32], end, threads);
    }
    if threads.len() < before + count as usize {
        // They would wait for each other for ever.
        threads[before..].iter_mut().for_each(|(_, end)| *end = End::Aborted);
    }
}

fn nonsense(random: &mut Random, threads: &mut Vec<Started>) {
    let Some(process) = process("fuzz") else { return };
    for _ in 0..2 {
        start(&process, [random.below(1 << 32), 100], End::Code(0), threads);
    }
}

fn registers(random: &mut Random, threads: &mut Vec<Started>) {
    let Some(process) = process("registers") else { return };
    for _ in 0..3 {
        start(&process, [random.below(u64::MAX), 4], End::Code(0), threads);
    }
}

fn expect((handle, expected): Started) {
    let end = handle.join();
    let right = match (expected, end) {
        (End::Code(wanted), Ok(code)) => wanted == code,
        (End::Aborted, Err(Death::Aborted)) => true,
        (End::UserGuard(wanted), Err(Death::Fault(Fault { kind: FaultKind::UserGuard(guard, _), .. }))) => {
            guard == wanted
        }
        (End::Guard(wanted), Err(Death::Fault(Fault { kind: FaultKind::Guard(guard, _), mode, .. }))) => {
            guard == wanted && mode == Mode::SystemCall
        }
        (End::Page(wanted), Err(Death::Fault(Fault { kind: FaultKind::Page, mode, .. }))) => mode == wanted,
        _ => false,
    };
    check(right, "a user thread ends as it has to", format_args!("{end:?}, not {expected:?}"));
}
