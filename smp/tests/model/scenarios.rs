//! What the simulated CPUs do. Each function is one run; the checker repeats it with every interleaving, or with many.

use super::checker::{CheckedLock, thread};
use super::machine::{Cpu, World};
use smp::primitive::{AtomicU32, Ordering};
use smp::reaper::{Lock, Pending};
use smp::space::SpaceId;
use smp::{CpuId, CpuSet, Machine, MayWait, OffStack, Quarantine, Ranges, Reaper, Unmapped};
use std::sync::Arc;

/// Runs one closure a CPU, the first on the thread that calls.
pub fn run(cpus: Vec<Box<dyn FnOnce() + Send>>) {
    let mut cpus = cpus.into_iter();
    let first = cpus.next();
    let others: Vec<_> = cpus.map(|cpu| thread::spawn(cpu)).collect();
    if let Some(cpu) = first {
        cpu();
    }
    others.into_iter().for_each(|cpu| cpu.join().unwrap());
}

fn on(world: &Arc<World>, me: usize, f: impl FnOnce(&Cpu) + Send + 'static) -> Box<dyn FnOnce() + Send> {
    let world = world.clone();
    Box::new(move || {
        let cpu = world.cpu(me);
        f(&cpu);
        cpu.finish();
    })
}

/// Unmaps `page`, waits until no CPU can use it, and frees its frame.
pub fn unmap(cpu: &Cpu, page: usize, ceiling: u32) {
    let mut ranges = Ranges::new(ceiling);
    ranges.push(cpu.clear(page));
    Unmapped::new(&ranges, ()).shoot_down(cpu.protocol(), cpu, &mut MayWait::checked()).release();
    cpu.happened();
    cpu.world.frames[page].free();
    cpu.touch();
}

/// The same in an address space.
fn unmap_in(cpu: &Cpu, space: SpaceId, page: usize, ceiling: u32) {
    let mut ranges = Ranges::new(ceiling);
    ranges.push(cpu.clear(page));
    Unmapped::in_space(cpu, space, &mut ranges, ()).shoot_down(cpu.protocol(), cpu, &mut MayWait::checked()).release();
    cpu.happened();
    cpu.world.frames[page].free();
    cpu.touch();
}

/// CPUs 0 to `initiators` - 1 unmap a page each, `masked` or not; the rest answer.
pub fn initiators_and_targets(protocol: &str, cpus: usize, initiators: usize, masked: bool, ceiling: u32) {
    let world = World::new(protocol, cpus, initiators, 0);
    run((0..cpus)
        .map(|me| {
            on(&world, me, move |cpu| {
                cpu.comes_online();
                cpu.touch();
                if me < initiators {
                    cpu.mask(masked);
                    unmap(cpu, me, ceiling);
                    cpu.mask(false);
                }
            })
        })
        .collect());
}

/// CPU 1 interrupts CPU 2 for nothing while CPU 0 unmaps.
pub fn stray_interrupt(protocol: &str) {
    let world = World::new(protocol, 2, 1, 0);
    run(vec![
        on(&world, 0, |cpu| {
            cpu.comes_online();
            cpu.interrupt(CpuSet::only(CpuId::new(1)));
            unmap(cpu, 0, 33);
        }),
        on(&world, 1, |cpu| {
            cpu.comes_online();
            cpu.touch();
            cpu.poll();
            cpu.touch();
        }),
    ]);
}

/// CPU 1 sleeps and wakes while CPU 0 unmaps.
pub fn sleeper(protocol: &str) {
    let world = World::new(protocol, 2, 1, 0);
    run(vec![
        on(&world, 0, |cpu| {
            cpu.comes_online();
            unmap(cpu, 0, 33);
        }),
        on(&world, 1, |cpu| {
            cpu.comes_online();
            cpu.touch();
            cpu.sleep();
            cpu.poll();
            cpu.wake();
            cpu.touch();
        }),
    ]);
}

/// CPU 0 unmaps and does not wait: the quarantine gives out what has settled. CPU 1 sleeps in between if `sleeps`.
pub fn deferred(sleeps: bool) {
    let world = World::new("quiescent", 2, 1, 0);
    run(vec![
        on(&world, 0, |cpu| {
            cpu.comes_online();
            let mut ranges = Ranges::new(33);
            ranges.push(cpu.clear(0));
            let deferred = Unmapped::new(&ranges, 0usize).defer(cpu.protocol(), cpu).expect("'quiescent' defers");
            let mut quarantine = Quarantine::<usize, 1>::empty();
            assert!(quarantine.put(deferred).is_none());
            loop {
                if let Some(page) = quarantine.take_settled(cpu.protocol(), cpu) {
                    break cpu.world.frames[page].free();
                }
                cpu.relax();
            }
            cpu.touch();
        }),
        on(&world, 1, move |cpu| {
            cpu.comes_online();
            cpu.touch();
            if sleeps {
                cpu.sleep();
                cpu.wake();
            }
            cpu.touch();
        }),
    ]);
}

/// CPU 0 defers, and then too much waits: one request for all.
pub fn hurried() {
    let world = World::new("quiescent", 2, 2, 0);
    run(vec![
        on(&world, 0, |cpu| {
            cpu.comes_online();
            let mut quarantine = Quarantine::<usize, 2>::empty();
            for page in 0..2 {
                let mut ranges = Ranges::new(33);
                ranges.push(cpu.clear(page));
                let deferred = Unmapped::new(&ranges, page).defer(cpu.protocol(), cpu).expect("'quiescent' defers");
                assert!(quarantine.put(deferred).is_none());
            }
            let asked = quarantine.hurry(33).shoot_down(cpu.protocol(), cpu, &mut MayWait::checked());
            while let Some(page) = quarantine.take_asked(&asked) {
                cpu.world.frames[page].free();
            }
            assert_eq!(quarantine.count(), 0);
            cpu.touch();
        }),
        on(&world, 1, |cpu| {
            cpu.comes_online();
            cpu.touch();
        }),
    ]);
}

/// CPU 1 switches to a space, away, and back, while CPU 0 unmaps a page of it.
pub fn switches(protocol: &str, goes_lazy: bool) {
    let world = World::new(protocol, 2, 1, 1);
    let space = SpaceId(0);
    run(vec![
        on(&world, 0, move |cpu| {
            cpu.comes_online();
            unmap_in(cpu, space, 0, 33);
        }),
        on(&world, 1, move |cpu| {
            cpu.comes_online();
            cpu.switch_to(Some(space));
            cpu.touch();
            if goes_lazy {
                cpu.switch_to(None);
                cpu.poll();
                cpu.touch();
                cpu.switch_to(Some(space));
                cpu.touch();
            }
        }),
    ]);
}

/// CPU 1, whose TLB has two tags, goes from space 0 to another and back, while CPU 0 unmaps a page of space 0 or of the
/// kernel.
pub fn comes_back_under_a_tag(protocol: &str, kernels: usize, flushes_under: bool) {
    let world = World::tagged(protocol, 2, (1, kernels), 2, 2, flushes_under);
    run(vec![
        on(&world, 0, move |cpu| {
            cpu.comes_online();
            if kernels == 1 { unmap(cpu, 0, 33) } else { unmap_in(cpu, SpaceId(0), 0, 33) }
        }),
        on(&world, 1, move |cpu| {
            cpu.comes_online();
            for space in [SpaceId(0), SpaceId(1), SpaceId(0)] {
                cpu.switch_to(Some(space));
                cpu.touch();
                cpu.poll();
            }
            cpu.touch();
        }),
    ]);
}

/// CPUs 0 and 1 change the space that CPU 2 runs in: one flushes everything, one a page.
pub fn overtaking(protocol: &str) {
    let world = World::new(protocol, 3, 2, 1);
    let space = SpaceId(0);
    run((0..3)
        .map(|me| {
            on(&world, me, move |cpu| {
                cpu.comes_online();
                match me {
                    0 => unmap_in(cpu, space, 0, 33),
                    1 => unmap_in(cpu, space, 1, 0),
                    _ => {
                        cpu.switch_to(Some(space));
                        cpu.touch();
                        cpu.poll();
                        cpu.touch();
                    }
                }
            })
        })
        .collect());
}

/// CPU 0 frees the tables of a space that CPU 1 has loaded and uses no more.
pub fn destroyed(protocol: &str) {
    let world = World::new(protocol, 2, 0, 1);
    let lazy = Arc::new(AtomicU32::new(0));
    let seen = lazy.clone();
    run(vec![
        on(&world, 0, move |cpu| destroy(cpu, SpaceId(0), &seen)),
        on(&world, 1, move |cpu| {
            cpu.comes_online();
            cpu.switch_to(Some(SpaceId(0)));
            cpu.touch();
            cpu.switch_to(None);
            lazy.store(1, Ordering::Release);
            cpu.touch();
        }),
    ]);
}

/// The same, where CPU 1 was in another space before, whose tag that one took over: it goes back to it.
pub fn destroyed_under_a_tag(protocol: &str) {
    let world = World::tagged(protocol, 2, (1, 0), 2, 1, false);
    let lazy = Arc::new(AtomicU32::new(0));
    let (seen, gone) = (lazy.clone(), lazy.clone());
    run(vec![
        on(&world, 0, move |cpu| {
            destroy(cpu, SpaceId(0), &seen);
            seen.store(2, Ordering::Release);
            cpu.happened();
        }),
        on(&world, 1, move |cpu| {
            cpu.comes_online();
            cpu.switch_to(Some(SpaceId(1)));
            cpu.switch_to(Some(SpaceId(0)));
            cpu.touch();
            cpu.switch_to(None);
            lazy.store(1, Ordering::Release);
            cpu.happened();
            while gone.load(Ordering::Acquire) == 1 {
                cpu.relax();
            }
            cpu.switch_to(Some(SpaceId(1)));
            cpu.touch();
        }),
    ]);
}

/// Frees the tables of a space, once another CPU uses them no more.
fn destroy(cpu: &Cpu, space: SpaceId, unused: &AtomicU32) {
    cpu.comes_online();
    while unused.load(Ordering::Acquire) == 0 {
        cpu.relax();
    }
    let mut ranges = Ranges::new(0);
    ranges.free_tables();
    Unmapped::in_space(cpu, space, &mut ranges, ()).shoot_down(cpu.protocol(), cpu, &mut MayWait::checked()).release();
    cpu.world.tables[space.0 as usize].free();
}

/// Each CPU takes what is pending and leaves a stack, `rounds` times: none is lost, none comes out twice, there is always
/// room.
pub fn reaping<const N: usize>(rounds: u32) {
    let reaper: Arc<Reaper<CheckedLock<Pending<u32, N>>, N>> = Arc::new(Reaper::new(CheckedLock::new(Pending::none())));
    let taken: Arc<CheckedLock<Vec<u32>>> = Arc::new(CheckedLock::new(Vec::new()));
    run((0..N as u32)
        .map(|me| {
            let (reaper, taken) = (reaper.clone(), taken.clone());
            Box::new(move || {
                for round in 0..rounds {
                    let batch = take_all(&reaper);
                    taken.with(|taken| taken.extend(batch));
                    assert!(reaper.leave(OffStack::from_epilogue(me * rounds + round)).is_ok(), "no room");
                }
            }) as Box<dyn FnOnce() + Send>
        })
        .collect());
    let last = take_all(&reaper);
    taken.with(|taken| {
        taken.extend(last);
        taken.sort_unstable();
        assert_eq!(*taken, (0..N as u32 * rounds).collect::<Vec<_>>(), "stacks that came out");
    });
}

/// All that is pending.
fn take_all<const N: usize>(reaper: &Reaper<CheckedLock<Pending<u32, N>>, N>) -> Vec<u32> {
    let mut taken = Vec::new();
    reaper.take_all(&mut MayWait::checked(), |stack| taken.push(stack));
    taken
}

/// CPU 0 unmaps three pages, one after the other: the generations wrap in between.
pub fn unmaps_past_the_wrap(protocol: &str) {
    let world = World::new(protocol, 2, 3, 0);
    run(vec![
        on(&world, 0, |cpu| {
            cpu.comes_online();
            (0..3).for_each(|page| unmap(cpu, page, 33));
        }),
        on(&world, 1, |cpu| {
            cpu.comes_online();
            cpu.touch();
        }),
    ]);
}

/// All CPUs unmap pages of their own, masked or not, as the checker's dice fall; they sleep and wake, interrupt each other for
/// nothing, and half of them come online while the others are at it.
#[cfg(feature = "shuttle")]
pub fn storm(protocol: &str, cpus: usize, unmaps: usize) {
    use shuttle::rand::{Rng, thread_rng};
    let world = World::new(protocol, cpus, cpus * unmaps, 0);
    run((0..cpus)
        .map(|me| {
            on(&world, me, move |cpu| {
                cpu.comes_online();
                for page in me * unmaps..(me + 1) * unmaps {
                    cpu.touch();
                    match thread_rng().gen_range(0..4) {
                        0 => cpu.mask(true),
                        1 => {
                            cpu.sleep();
                            cpu.poll();
                            cpu.wake();
                        }
                        2 => cpu.interrupt(CpuSet::only(CpuId::new(thread_rng().gen_range(0..cpus)))),
                        _ => cpu.poll(),
                    }
                    unmap(cpu, page, if thread_rng().gen_range(0..4) == 0 { 0 } else { 33 });
                    cpu.mask(false);
                    cpu.poll();
                }
            })
        })
        .collect());
}

/// All CPUs switch between a space and none, and change it, as the dice fall.
#[cfg(feature = "shuttle")]
pub fn space_storm(protocol: &str, cpus: usize, changes: usize) {
    use shuttle::rand::{Rng, thread_rng};
    let world = World::new(protocol, cpus, cpus * changes, 1);
    run((0..cpus)
        .map(|me| {
            on(&world, me, move |cpu| {
                cpu.comes_online();
                for page in me * changes..(me + 1) * changes {
                    let space = [None, Some(SpaceId(0))][thread_rng().gen_range(0..2)];
                    cpu.switch_to(space);
                    cpu.touch();
                    cpu.poll();
                    unmap_in(cpu, SpaceId(0), page, if thread_rng().gen_range(0..4) == 0 { 0 } else { 33 });
                }
            })
        })
        .collect());
}
