//! Scheduling: threads take turns, wait, sleep and wake as they should.

use super::Test;
use crate::failure::{check, fail};
use crate::random::Random;
use crate::workload::Context;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use kernel::thread::{self, Builder, Handle, JoinHandle};
use kernel::{SpinLock, cpu, time};
use smp::CpuSet;

pub const TESTS: &[Test] = &[
    ("threads-that-never-give-way-take-turns", preemption),
    ("a-sleeper-wakes-not-too-early", sleeping),
    ("of-many-sleepers-each-wakes-when-it-is-due", many_sleepers),
    ("an-unpark-is-never-lost", parking),
    ("an-unpark-outlasts-the-kernels-waits", unpark_in_a_wait),
    ("idle-cpus-take-work-from-busy-ones", stealing),
    ("a-thread-stays-where-it-was-pinned", pinning),
    ("values-come-back-by-join", values),
];

fn preemption(context: &Context) {
    for cpu in context.cpus {
        let stop = Arc::new(AtomicBool::new(false));
        let turns: Vec<Arc<AtomicU64>> = (0..3).map(|_| Arc::default()).collect();
        let spinners: Vec<_> = turns
            .iter()
            .filter_map(|turns| {
                let (stop, turns) = (stop.clone(), turns.clone());
                let spin = move || {
                    while !stop.load(Ordering::Relaxed) {
                        turns.fetch_add(1, Ordering::Relaxed);
                        spin_loop();
                    }
                };
                Builder::new().name("spins").on(cpu).spawn(spin).ok()
            })
            .collect();
        // Until each has had a turn: an end that only preemption can bring.
        while turns.iter().any(|turns| turns.load(Ordering::Relaxed) == 0) {
            thread::sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
        spinners.into_iter().for_each(|h| check(h.join().is_ok(), "spinners live", format_args!("one died")));
    }
}

fn sleeping(_: &Context) {
    for millis in [0, 1, 7, 30] {
        sleep_for(Duration::from_millis(millis));
    }
}

fn sleep_for(asked: Duration) {
    let since = time::now();
    thread::sleep(asked);
    let slept = time::now() - since;
    check(slept >= time::cycles(asked), "a sleep is not too short", format_args!("{slept} cycles for {asked:?}"));
}

/// Many sleep on each CPU, for times of all lengths; between them are some that somebody wakes long before their time, and that
/// sleep then.
fn many_sleepers(context: &Context) {
    const EACH: u64 = 64;
    const NEVER: Duration = Duration::from_secs(1000);
    let go = Arc::new(AtomicBool::new(false));
    let (mut sleepers, mut waiters) = (Vec::new(), Vec::new());
    for (cpu, number) in context.cpus.into_iter().flat_map(|cpu| (0..EACH).map(move |number| (cpu, number))) {
        let mut random = Random::new(context.seed, cpu.index() as u64 * EACH + number);
        let sleeps = move || (0..8).for_each(|_| sleep_for(Duration::from_micros(random.below(20_000))));
        let (go, mut then) = (go.clone(), sleeps.clone());
        sleepers.push(Builder::new().name("sleeps").on(cpu).spawn(sleeps));
        let waits = move || {
            while !go.load(Ordering::Acquire) {
                thread::park_timeout(NEVER);
            }
            // Again, now that nobody wakes it: its place among the sleepers is free.
            then();
        };
        waiters.push(Builder::new().name("waits").on(cpu).spawn(waits));
    }
    go.store(true, Ordering::Release);
    waiters.iter().flatten().for_each(|waiter| waiter.thread().unpark());
    for thread in waiters.into_iter().chain(sleepers) {
        let end = thread.map(JoinHandle::join);
        check(end == Ok(Ok(())), "sleepers live", format_args!("{end:?}"));
    }
}

/// An unpark that comes while the thread waits for something of the kernel's, a time or an end, is there when it parks.
fn unpark_in_a_wait(context: &Context) {
    const A_WHILE: Duration = Duration::from_millis(20);
    fn sleeps_then_parks() {
        thread::sleep(A_WHILE);
        thread::park();
    }
    fn joins_then_parks() {
        let other = thread::spawn(sleeps_a_while);
        let end = other.map(JoinHandle::join);
        check(end == Ok(Ok(())), "a sleeper lives", format_args!("{end:?}"));
        thread::park();
    }
    fn sleeps_a_while() {
        thread::sleep(A_WHILE);
    }
    fn parks_for_a_time() {
        sleeps_a_while();
        thread::park_timeout(Duration::from_secs(1000)); // ended by what came before it
    }
    for (name, waits) in
        [("sleep", sleeps_then_parks as fn()), ("join", joins_then_parks), ("park_timeout", parks_for_a_time)]
    {
        for cpu in context.cpus {
            let Ok(waiter) = Builder::new().name("waits").on(cpu).spawn(waits) else { continue };
            thread::sleep(A_WHILE / 4);
            waiter.thread().unpark();
            match waiter.join_within(Duration::from_secs(20)) {
                Ok(end) => check(end.is_ok(), "waiters live", format_args!("{name}: {end:?}")),
                Err(error) => fail("an unpark outlasts the kernel's waits", format_args!("{name}: {error}")),
            }
        }
    }
}

/// Two threads hand a turn to and fro; one unpark that is lost stops them for ever.
fn parking(_: &Context) {
    const TURNS: u64 = 4000;
    static TURN: AtomicU64 = AtomicU64::new(0);
    static PLAYERS: [SpinLock<Option<Handle>>; 2] = [const { SpinLock::new("player", None) }; 2];
    let players: Vec<_> = (0..2usize)
        .filter_map(|me| {
            let play = move || {
                *PLAYERS[me].lock() = Some(thread::current());
                let mut turn = TURN.load(Ordering::SeqCst);
                while turn < TURNS {
                    if turn % 2 == me as u64 {
                        TURN.store(turn + 1, Ordering::SeqCst);
                        let other = *PLAYERS[1 - me].lock();
                        if let Some(other) = other {
                            other.unpark();
                        }
                    } else {
                        thread::park();
                    }
                    turn = TURN.load(Ordering::SeqCst);
                }
                let other = *PLAYERS[1 - me].lock();
                if let Some(other) = other {
                    other.unpark();
                }
            };
            Builder::new().name("plays").spawn(play).ok()
        })
        .collect();
    // The first to come may have found nobody to wake.
    while PLAYERS.iter().any(|player| player.lock().is_none()) {
        thread::yield_now();
    }
    for player in &PLAYERS {
        let player = *player.lock();
        if let Some(player) = player {
            player.unpark();
        }
    }
    players.into_iter().for_each(|h| check(h.join().is_ok(), "players live", format_args!("one died")));
}

fn stealing(context: &Context) {
    let seen = Arc::new(AtomicU64::new(0));
    let workers: Vec<_> = (0..context.cpus.len() * 4)
        .filter_map(|_| {
            let seen = seen.clone();
            let all = context.cpus.bits();
            let work = move || {
                while seen.fetch_or(1 << cpu::current_id().index(), Ordering::Relaxed) & all != all {
                    thread::yield_now();
                }
            };
            Builder::new().name("works").spawn(work).ok()
        })
        .collect();
    workers.into_iter().for_each(|h| check(h.join().is_ok(), "workers live", format_args!("one died")));
}

fn pinning(context: &Context) {
    let threads: Vec<_> = context
        .cpus
        .filter_map(|cpu| {
            let stray = move || {
                (0..200).any(|_| {
                    thread::yield_now();
                    cpu::current_id() != cpu
                })
            };
            Builder::new().name("pinned").on(cpu).spawn(stray).ok()
        })
        .collect();
    for pinned in threads {
        check(pinned.join() == Ok(false), "a pinned thread stays", format_args!("one strayed"));
    }
    let nowhere = Builder::new().affinity(CpuSet::EMPTY).spawn(|| ());
    check(nowhere.is_err(), "a thread needs a CPU", format_args!("it was started on none"));
}

fn values(_: &Context) {
    let sum: u64 = (0..100u64).filter_map(|n| thread::spawn(move || n).ok()).filter_map(|h| h.join().ok()).sum();
    check(sum == 4950, "values come back by join", format_args!("{sum}, not 4950"));
}
