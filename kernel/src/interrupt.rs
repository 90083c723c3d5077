//! Interrupt context for everybody: a function that runs in an interrupt handler on a CPU of the caller's choice.
//!
//! ```text
//!            (1) post claims it      (2) function and word are in it, interrupt sent     (3) the handler has taken them
//!   FREE ──────────────────────▶ CLAIMED ─────────────────────────────────▶ POSTED ─────────────────────────────▶ FREE
//! ```
//! Each CPU has one place for what is to run there next. [`post`] puts a function there and goes on; [`call`] waits until it has
//! run. On the caller's own CPU it is an interrupt like on any other: it interrupts the caller.
//!
//! **What may be done in a handler.** It runs on the CPU's own stack, of 16 KiB, with interrupts masked, and what it interrupted
//! stands still meanwhile, with whatever that holds. So it is short and waits for nothing that another thread or CPU has to
//! do first but with masked interrupts itself: no [`park`](crate::thread::park), no join, no sleep, no unmapping (these panic
//! or are errors there), no memory from the heap. It may use atomics, [`SpinLock`](crate::SpinLock)s, and a thread's
//! [`Handle`](crate::thread::Handle): to wake it, to look at it, to ask for its end.
//! [`thread::current`](crate::thread::current) is the thread that was interrupted; if its end is asked for, it ends when the
//! handler returns.

use crate::cpu;
use crate::cpu::apic::{self, vector};
use crate::sync::irq::IrqsOff;
use crate::sync::may_wait;
use crate::thread::{PreemptOff, Shield};
use crate::time;
use crate::trace::{Event, emit};
use crate::trap::report;
use core::cell::UnsafeCell;
use core::fmt;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use crossbeam_utils::CachePadded;
use smp::{CpuId, CpuSet, MAX_CPUS};

/// Whether this runs inside an interrupt handler.
#[must_use]
pub fn is_here() -> bool {
    cpu::in_interrupt()
}

/// Why a function does not run in a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostError {
    /// There is no such CPU, or it is not up.
    NotUp(CpuId),
    /// What was posted to this CPU before has not begun.
    Busy(CpuId),
}

impl fmt::Display for PostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUp(cpu) => write!(f, "{cpu} is not up"),
            Self::Busy(cpu) => write!(f, "{cpu} has not begun what was posted to it before"),
        }
    }
}

impl core::error::Error for PostError {}

const FREE: u8 = 0;
const CLAIMED: u8 = 1;
const POSTED: u8 = 2;

/// What is to run on a CPU next.
struct Place {
    state: AtomicU8,
    /// Who brings the state to CLAIMED writes it, and who finds it POSTED reads it.
    what: UnsafeCell<(fn(u64), u64)>,
}

// SAFETY: `what` is its writer's from (1) to (2), and its CPU's handler's from (2) to (3).
unsafe impl Sync for Place {}

static PLACES: [CachePadded<Place>; MAX_CPUS] =
    [const { CachePadded::new(Place { state: AtomicU8::new(FREE), what: UnsafeCell::new((|_| (), 0)) }) }; MAX_CPUS];

/// Has `f` run with `word` in an interrupt handler on `cpu`, soon, and does not wait for that. From a handler too.
///
/// ```no_run
/// use core::sync::atomic::{AtomicU64, Ordering};
/// use kernel::interrupt::{self, PostError};
///
/// static SUM: AtomicU64 = AtomicU64::new(0);
/// for cpu in kernel::cpu::online() {
///     match interrupt::post(cpu, |word| drop(SUM.fetch_add(word, Ordering::Relaxed)), 7) {
///         Ok(()) => {}
///         Err(PostError::Busy(cpu) | PostError::NotUp(cpu)) => kernel::println!("not on {cpu}"),
///     }
/// }
/// ```
///
/// # Errors
/// [`PostError`] if the CPU is not up, or has something to run already; then nothing runs.
pub fn post(cpu: CpuId, f: fn(u64), word: u64) -> Result<(), PostError> {
    let target = cpu::get(cpu).filter(|_| cpu::online().contains(cpu)).ok_or(PostError::NotUp(cpu))?;
    let place = &PLACES[cpu.index()];
    // Whoever claimed it and is not there to send the interrupt would leave it claimed.
    let irqs = IrqsOff::new();
    // (1) Acquire: pairs with (3); the handler has read what was there.
    if place.state.compare_exchange(FREE, CLAIMED, Ordering::Acquire, Ordering::Relaxed).is_err() {
        return Err(PostError::Busy(cpu));
    }
    // SAFETY: claimed.
    unsafe { *place.what.get() = (f, word) };
    place.state.store(POSTED, Ordering::Release); // (2)
    emit(Event::Send { vector: vector::CALL.into(), targets: 1 << cpu.index() });
    apic::send(&irqs, vector::CALL, target.apic_id.get());
    Ok(())
}

/// In the handler: runs what was posted to this CPU.
pub(crate) fn serve() {
    let place = &PLACES[cpu::current_id().index()];
    // Acquire: pairs with (2). A stray interrupt finds nothing.
    if place.state.load(Ordering::Acquire) == POSTED {
        // SAFETY: posted to this CPU.
        let (f, word) = unsafe { *place.what.get() };
        place.state.store(FREE, Ordering::Release); // (3)
        f(word);
    }
}

/// A call that is waited for, on the caller's stack.
struct Call<F, R> {
    f: UnsafeCell<Option<F>>,
    result: UnsafeCell<MaybeUninit<R>>,
    done: AtomicBool,
}

/// Runs `f` in an interrupt handler on `cpu`, and gives what it returns. Waits until it has run; aborts are held off meanwhile.
///
/// ```no_run
/// use kernel::interrupt::{self, PostError};
/// use kernel::{CpuId, thread, time};
///
/// # fn example() -> Result<(), PostError> {
/// let (there, when) = interrupt::call(CpuId::new(2), || (thread::current(), time::now()))?;
/// kernel::println!("CPU 2 ran {there:?} {} cycles ago", time::now() - when);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`PostError::NotUp`]: it has not run.
///
/// # Panics
/// Where the caller may not wait: in a handler, with a lock held, with interrupts masked. And if the CPU does not come to it within
/// the patience of the command line.
pub fn call<R: Send>(cpu: CpuId, f: impl FnOnce() -> R + Send) -> Result<R, PostError> {
    // Until it is over, the handler has references to this stack.
    let _shield = Shield::new();
    let _ = may_wait(2);
    let call = Call {
        f: UnsafeCell::new(Some(f)),
        result: UnsafeCell::new(MaybeUninit::uninit()),
        done: AtomicBool::new(false),
    };
    let (word, since) = ((&raw const call) as u64, time::now());
    loop {
        match post(cpu, trampoline(&call), word) {
            Ok(()) => break,
            Err(PostError::Busy(_)) => spin(cpu, since),
            Err(error) => return Err(error),
        }
    }
    // Acquire: pairs with the release in `run`.
    while !call.done.load(Ordering::Acquire) {
        spin(cpu, since);
    }
    // SAFETY: it is done, so the result is there, and nobody else looks at it.
    Ok(unsafe { call.result.into_inner().assume_init() })
}

fn spin(cpu: CpuId, since: u64) {
    core::hint::spin_loop();
    if time::now().saturating_sub(since) > time::patience() {
        let _here = PreemptOff::new();
        report::unanswered("a call by interrupt", CpuSet::only(cpu));
    }
}

/// The function that runs a call of this type.
fn trampoline<F: FnOnce() -> R + Send, R: Send>(_: &Call<F, R>) -> fn(u64) {
    run::<F, R>
}

fn run<F: FnOnce() -> R + Send, R: Send>(word: u64) {
    // SAFETY: the address of a call of this type, by `call`, which waits until it is done.
    let call = unsafe { &*(word as *const Call<F, R>) };
    // SAFETY: the handler's alone until it is done.
    unsafe {
        if let Some(f) = (*call.f.get()).take() {
            (*call.result.get()).write(f());
        }
    }
    call.done.store(true, Ordering::Release);
}
