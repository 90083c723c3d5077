//! Switch torture: on every CPU threads are started, woken, parked and aborted without pause, with all priorities, pinned or not,
//! and nothing is lost or left.

use super::Test;
use crate::failure::{check, fail};
use crate::random::Random;
use crate::workload::Context;
use alloc::vec::Vec;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use kernel::SpinLock;
use kernel::interrupt;
use kernel::thread::{self, Builder, Death, JoinHandle, Priority};
use smp::{CpuId, CpuSet};

pub const TESTS: &[Test] = &[("switches-under-torture-lose-nothing", torture)];

/// Workers at a time; they are everybody's.
const PLACES: usize = 24;
static WORKERS: [SpinLock<Option<JoinHandle<u64>>>; PLACES] = [const { SpinLock::new("worker", None) }; PLACES];

static BEGUN: AtomicU64 = AtomicU64::new(0);
static RETURNED: AtomicU64 = AtomicU64::new(0);

/// What a driver does; `rounds=` says how often.
fn drive(context: &Context, seed: u64, rounds: u64) -> [u64; 3] {
    let mut random = Random::new(context.seed, seed);
    let mut ends = [0; 3];
    for _ in 0..rounds {
        let place = random.below(PLACES as u64) as usize;
        let way = random.below(12);
        // A handle that is taken out is this driver's: it is joined here, or put back.
        if let 0..=3 = way {
            let former = WORKERS[place].lock().take();
            if let Some(former) = former {
                former.abort();
                ends[end_of(former)] += 1;
            }
            let worker = start(context, &mut random, place);
            let rival = core::mem::replace(&mut *WORKERS[place].lock(), worker);
            if let Some(rival) = rival {
                rival.abort();
                ends[end_of(rival)] += 1;
            }
            continue;
        }
        let handle = WORKERS[place].lock().as_ref().map(|worker| *worker.thread());
        let Some(handle) = handle else { continue };
        match way {
            4..=6 => handle.unpark(),
            7 => handle.abort(),
            8 => {
                let cpu = CpuId::new(random.below(context.cpus.len() as u64) as usize);
                let aborts = random.once_in(2);
                let _ = interrupt::call(cpu, move || if aborts { handle.abort() } else { handle.unpark() });
            }
            9 => (0..random.below(300)).for_each(|_| spin_loop()),
            10 => thread::sleep(Duration::from_micros(50)),
            _ => thread::yield_now(),
        }
    }
    ends
}

/// Joins a worker: 0 it returned, 1 it was aborted, 2 something else.
fn end_of(worker: JoinHandle<u64>) -> usize {
    match worker.join() {
        Ok(7) => 0,
        Err(Death::Aborted) => 1,
        other => {
            fail("a worker returns or is aborted", format_args!("{other:?}"));
            2
        }
    }
}

fn start(context: &Context, random: &mut Random, place: usize) -> Option<JoinHandle<u64>> {
    let all = context.cpus.bits();
    let cpus = match random.below(4) {
        0 => CpuSet::only(CpuId::new(random.below(context.cpus.len() as u64) as usize)),
        1 => CpuSet::from_bits(random.next() & all | 1),
        _ => context.cpus,
    };
    let level = random.below(Priority::LEVELS.into()) as u8;
    let builder = Builder::new().name("tortured").affinity(cpus).priority(Priority::new(level).unwrap_or_default());
    let (kind, turns) = (random.below(5), random.below(20));
    let worker = builder.spawn(move || work(kind, turns, place));
    worker.map_err(|error| fail("threads can be started", format_args!("{error}"))).ok()
}

/// Comes to its end by itself, however urgent it is: a park is woken by some driver, or by the end of the test.
fn work(kind: u64, turns: u64, place: usize) -> u64 {
    BEGUN.fetch_add(1, Ordering::Relaxed);
    for _ in 0..turns {
        match kind {
            0 => thread::park(),
            1 => thread::yield_now(),
            2 => (0..200).for_each(|_| spin_loop()),
            3 => thread::sleep(Duration::from_micros(20)),
            _ => {
                let neighbour = {
                    // The lock is given up before an abort can come through.
                    let _shield = thread::Shield::new();
                    WORKERS[(place + 1) % PLACES].lock().as_ref().map(|worker| *worker.thread())
                };
                neighbour.iter().for_each(thread::Handle::unpark);
                thread::park();
            }
        }
    }
    RETURNED.fetch_add(1, Ordering::Relaxed);
    7
}

fn torture(context: &Context) {
    let rounds = match kernel::options().rounds {
        0 => 1500,
        asked => asked,
    };
    let (context, turns) = (*context, thread::current().turns());
    let drivers: Vec<_> = context
        .cpus
        .filter_map(|cpu| {
            let drive = move || drive(&context, cpu.index() as u64 + 1, rounds);
            Builder::new().name("drives").on(cpu).spawn(drive).ok()
        })
        .collect();
    let mut all = [0; 3];
    for driver in drivers {
        match driver.join() {
            Ok(ends) => all.iter_mut().zip(ends).for_each(|(sum, end)| *sum += end),
            Err(death) => fail("drivers live", format_args!("{death}")),
        }
    }
    for place in &WORKERS {
        let worker = place.lock().take();
        if let Some(worker) = worker {
            worker.abort();
            all[end_of(worker)] += 1;
        }
    }
    thread::quiesce();
    let (begun, returned) = (BEGUN.load(Ordering::Relaxed), RETURNED.load(Ordering::Relaxed));
    kernel::println!("{all:?} returned, aborted, other; {begun} had begun, {returned} came to their end");
    let right = all[0] > 0 && all[1] > 0 && all[2] == 0 && begun <= all[0] + all[1] && returned >= all[0];
    check(right, "every worker's end is told once", format_args!("{all:?}, {begun} begun, {returned} returned"));
    check(turns < thread::current().turns(), "the test itself takes turns", format_args!("it does not"));
}
