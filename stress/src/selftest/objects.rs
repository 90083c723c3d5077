//! Thread objects that their owner keeps: used again at once, refused while they live, and good after any end of their threads.

use super::Test;
use crate::failure::{check, fail};
use crate::programs::{process, started};
use crate::workload::{Context, expect_guard};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use kernel::misdeed;
use kernel::thread::{self, Builder, Death, Fault, FaultKind, JoinHandle, Mode, Object, SpawnError};
use smp::CpuId;
use wire::record::Guard::{self, Front};

pub const TESTS: &[Test] = &[
    ("an-object-is-used-again-at-once", again),
    ("an-object-in-use-is-refused", refused),
    ("the-object-of-an-aborted-thread-that-nobody-joins-is-used-again", detached),
    ("a-thread-overflows-twice-in-a-row-in-one-object", kernel_thread),
    ("a-user-thread-overflows-twice-in-a-row-in-one-object", user_thread),
];

/// An object between words that nobody changes.
struct Between {
    before: [AtomicU64; 8],
    object: Object,
    after: [AtomicU64; 8],
}

const SENTINEL: u64 = 0x5e27_13e1_5e27_13e1;

impl Between {
    const fn new() -> Self {
        Self {
            before: [const { AtomicU64::new(SENTINEL) }; 8],
            object: Object::new(),
            after: [const { AtomicU64::new(SENTINEL) }; 8],
        }
    }

    fn check(&self) {
        let intact = self.before.iter().chain(&self.after).all(|word| word.load(Ordering::Relaxed) == SENTINEL);
        check(intact, "what lies around an object stays", format_args!("it does not"));
    }
}

/// Its last thread's stack waits to be reaped then, mostly: it is first.
fn again(context: &Context) {
    static OBJECT: Object = Object::new();
    for (round, cpu) in context.cpus.into_iter().cycle().take(200).enumerate() {
        let thread = Builder::new().name("again").object(&OBJECT).on(cpu);
        let thread = thread.spawn(move || if round % 3 == 0 { thread::exit() } else { round });
        let end = thread.map(|thread| {
            if round % 3 == 1 {
                thread.abort();
            }
            thread.join()
        });
        let right = match end {
            Ok(Ok(value)) => value == round && round % 3 > 0,
            Ok(Err(Death::Exited)) => round % 3 == 0,
            Ok(Err(Death::Aborted)) => round % 3 == 1,
            _ => false,
        };
        check(right, "a joined object can be used at once", format_args!("round {round}: {end:?}"));
    }
    thread::quiesce();
    check(OBJECT.is_free(), "an object is free in the end", format_args!("it is not"));
}

fn refused(context: &Context) {
    static OBJECT: Object = Object::new();
    static GO: AtomicBool = AtomicBool::new(false);
    for cpu in context.cpus {
        GO.store(false, Ordering::SeqCst);
        let first = Builder::new().object(&OBJECT).on(cpu).spawn(|| {
            while !GO.load(Ordering::SeqCst) {
                thread::yield_now();
            }
        });
        let in_use = || {
            let end = Builder::new().object(&OBJECT).spawn(|| ()).map(JoinHandle::join).err();
            check(end == Some(SpawnError::ObjectInUse), "an object in use is refused", format_args!("{end:?}"));
        };
        in_use();
        GO.store(true, Ordering::SeqCst);
        while !first.as_ref().is_ok_and(JoinHandle::is_finished) {
            thread::yield_now();
        }
        // Dead, but somebody may still ask how it ended.
        in_use();
        let end = first.map(JoinHandle::join);
        check(end == Ok(Ok(())), "the first is not disturbed", format_args!("{end:?}"));
    }
}

/// Overwritten, as it were: who starts the next waits for the end that was asked for.
fn detached(context: &Context) {
    static OBJECT: Object = Object::new();
    for (round, cpu) in context.cpus.into_iter().cycle().take(80).enumerate() {
        let lives = Builder::new().object(&OBJECT).on(cpu).spawn_detached(move || {
            loop {
                if round % 2 == 0 { thread::park() } else { core::hint::spin_loop() }
            }
        });
        let Ok(handle) = lives else { return fail("the object is used again", format_args!("{lives:?}")) };
        let end = Builder::new().object(&OBJECT).spawn(|| ()).err();
        check(end == Some(SpawnError::ObjectInUse), "who lives is not overwritten", format_args!("{end:?}"));
        handle.abort();
        let next = Builder::new().object(&OBJECT).on(cpu).spawn(move || round).map(JoinHandle::join);
        check(next == Ok(Ok(round)), "who is aborted makes room", format_args!("{next:?}"));
    }
    thread::quiesce();
    check(OBJECT.is_free(), "an object is free in the end", format_args!("it is not"));
}

fn works(cpu: CpuId) {
    let sum = Builder::new().on(cpu).spawn(|| (1..=100u64).map(|n| *alloc::boxed::Box::new(n)).sum::<u64>());
    let sum = sum.map(JoinHandle::join);
    check(sum == Ok(Ok(5050)), "work goes on in between", format_args!("{sum:?}"));
}

fn kernel_thread(context: &Context) {
    static BETWEEN: Between = Between::new();
    for cpu in context.cpus {
        for round in 0..6 {
            let overflow = Builder::new().name("overflows").object(&BETWEEN.object).on(cpu).quiet();
            let overflow = overflow.spawn(if round % 3 == 2 {
                || misdeed::write_below_stack(1)
            } else {
                misdeed::recurse_for_ever
            });
            match overflow {
                Ok(handle) => expect_guard(handle, Front),
                Err(error) => return fail("the object is used again", format_args!("{error}")),
            }
            BETWEEN.check();
            if round % 2 == 1 {
                works(cpu);
            }
        }
    }
}

/// On either of its stacks; then floating point finds its registers as new ones, and keeps them.
fn user_thread(context: &Context) {
    static BETWEEN: Between = Between::new();
    let run = |name: &str, cpu, words| {
        let process = process(name)?;
        started(process.builder().object(&BETWEEN.object).on(cpu).quiet().arguments(words)).map(JoinHandle::join)
    };
    let hit = |cpu, words, guard: fn(FaultKind) -> Option<Guard>, expected| {
        let end = run("misdeeds", cpu, words);
        let right = matches!(end, Some(Err(Death::Fault(Fault { kind, mode, .. }))) if guard(kind) == Some(Front) && mode == expected);
        check(right, "an overflow is told as it was", format_args!("{words:?}: {end:?}"));
        BETWEEN.check();
    };
    let users = |kind| if let FaultKind::UserGuard(guard, _) = kind { Some(guard) } else { None };
    let privileged = |kind| if let FaultKind::Guard(guard, _) = kind { Some(guard) } else { None };
    for cpu in context.cpus {
        for _ in 0..2 {
            hit(cpu, [0, 0], users, Mode::User);
            hit(cpu, [0, 0], users, Mode::User);
            works(cpu);
            hit(cpu, [14, 0], privileged, Mode::SystemCall);
            hit(cpu, [14, 0], privileged, Mode::SystemCall);
            let kept = run("registers", cpu, [0x0123_4567_89ab_cdef, 10]);
            check(kept == Some(Ok(0)), "floating point works right afterwards", format_args!("{kept:?}"));
            BETWEEN.check();
            hit(cpu, [7, 0], users, Mode::User);
        }
        let lives = run("waits", cpu, [5, 3]);
        check(lives == Some(Ok(0)), "the next thread lives", format_args!("{lives:?}"));
    }
    thread::sleep(Duration::from_millis(1));
    let kept = thread::quiesce();
    check(kept == 0 && BETWEEN.object.is_free(), "an object is free in the end", format_args!("it is not"));
}
