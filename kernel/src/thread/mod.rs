//! Threads: preemptive, each on a stack between guard pages, in the shape of `std::thread`.
//!
//! ```text
//!            (1) spawn          (2) switch to it            (4) exit, abort, fault
//!   (free) ───────────▶ READY ────────────────▶ RUNNING ───────────────────────────▶ DEAD ──▶ (free)
//!                         ▲  ▲                   │   │                                 (5) joined, and its
//!                         │  └──(3) preempted ───┘   │ (6) park                            stack reaped
//!                         └────────(7) unpark ─── PARKED
//! ```
//! Every move out of RUNNING is made in the epilogue of the switch, on the CPU's own stack (`switch`), so no other
//! CPU ever sees a READY, PARKED or DEAD thread whose stack is still in use. A thread that is aborted by another is
//! made to end itself: there is one way out, (4), whoever asks.
//!
//! Aborting is asynchronous, like `pthread_cancel`: what the victim owns through its stack is not dropped. A
//! [`Shield`] holds an abort off while something must not be lost; every kernel function that owns something midway
//! has one.

mod builder;
mod exit;
mod idle;
mod join;
pub(crate) mod pending;
pub(crate) mod queue;
mod shield;
mod sleep;
pub(crate) mod switch;
mod table;

pub use builder::{Builder, SpawnError, spawn};
pub use exit::{exit, pending_stacks, quiesce, reap, set_exit_delay};
pub use join::{Death, Fault, FaultKind, JoinHandle, Mode};
pub(crate) use shield::HEADROOM;
pub use shield::{PreemptOff, Shield};
pub use sleep::sleep;
pub use switch::{park, yield_now};
pub use table::{for_each, live};

pub(crate) use builder::set_defaults;
/// CPUs that say that they have nothing to run.
pub(crate) fn idle_cpus() -> smp::CpuSet {
    switch::IDLE.load(Ordering::SeqCst)
}

pub(crate) use exit::{Left, divert};
pub(crate) use idle::prepare as prepare_idle;
pub(crate) use table::{first_of_all_address, pooled, register};

use crate::cpu;
use crate::cpu::cell::Own;
use crate::cpu::entry::Frame;
use crate::mem::slots::SlotId;
use crate::sync::SpinLock;
use crate::user;
use alloc::boxed::Box;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};

use smp::space::SpaceId;
use wire::debug::NAME;

/// The states in the picture above.
pub(crate) mod state {
    pub(crate) const FREE: u8 = 0;
    pub(crate) const READY: u8 = 1;
    pub(crate) const RUNNING: u8 = 2;
    pub(crate) const PARKED: u8 = 3;
    pub(crate) const DEAD: u8 = 4;
}

/// A thread. The objects are never deallocated, only used again, so a reference to one stays good; which thread it
/// stands for is known by who holds the reference: a handle, a queue, or the stack that names its owner.
pub struct Thread {
    state: AtomicU8,
    /// Which thread the object stands for at present: counts up, never 0 in a thread that was spawned. Idle threads have
    /// the number of their CPU + 1.
    number: AtomicU32,
    /// An unpark that has not been used up; see [`switch::park`].
    token: AtomicBool,
    /// Somebody wants it to end.
    abort: AtomicBool,
    /// Guard hits are expected: count them, print nothing.
    quiet: AtomicBool,
    /// How many guards keep it from being preempted. Only the thread itself, and its CPU's handlers, look.
    preempt_off: Own<u32>,
    /// How many guards hold an abort off. As above.
    shields: Own<u32>,
    /// Its registers, on its stack, while it does not run.
    frame: AtomicPtr<Frame>,
    /// The stack's slot, 0 if none.
    stack: AtomicU32,
    /// The number of the address space that it runs in plus one, 0 for none. What it runs holds the space.
    space: AtomicU32,
    /// What it is in user code, if it goes there. What it runs holds it.
    user: AtomicPtr<user::Context>,
    /// CPUs that it may run on.
    affinity: AtomicU64,
    /// CPU that it ran on last.
    last_cpu: AtomicU32,
    /// The next thread of the list that it is in: a run queue, the free ones, the dead ones.
    link: AtomicPtr<Thread>,
    /// The next of the sleepers, and when it wants to wake, in cycles.
    sleep_link: AtomicPtr<Thread>,
    wake_at: AtomicU64,
    join: SpinLock<join::Join>,
    /// What it runs; see [`builder::Payload`].
    payload: UnsafeCell<Option<Box<dyn builder::Payload>>>,
    /// Who still needs the object: the handle, and the stack until it is reaped.
    users: AtomicU32,
    name: SpinLock<([u8; NAME], usize)>,
    /// The next of all thread objects.
    all_link: AtomicPtr<Thread>,
}

// SAFETY: everything but `payload` is atomic or locked. `payload` is set by the spawner before the thread is READY, used
// by the thread while it lives, and dropped by the last user when it is DEAD.
unsafe impl Sync for Thread {}
// SAFETY: as above; a payload is `Send`.
unsafe impl Send for Thread {}

impl Thread {
    pub(crate) const fn new() -> Self {
        Self {
            state: AtomicU8::new(state::FREE),
            number: AtomicU32::new(0),
            token: AtomicBool::new(false),
            abort: AtomicBool::new(false),
            quiet: AtomicBool::new(false),
            preempt_off: Own::<u32>::new(0),
            shields: Own::<u32>::new(0),
            frame: AtomicPtr::new(core::ptr::null_mut()),
            stack: AtomicU32::new(0),
            space: AtomicU32::new(0),
            user: AtomicPtr::new(core::ptr::null_mut()),
            affinity: AtomicU64::new(u64::MAX),
            last_cpu: AtomicU32::new(0),
            link: AtomicPtr::new(core::ptr::null_mut()),
            sleep_link: AtomicPtr::new(core::ptr::null_mut()),
            wake_at: AtomicU64::new(0),
            join: SpinLock::new("join", join::Join::new()),
            payload: UnsafeCell::new(None),
            users: AtomicU32::new(0),
            name: SpinLock::new("thread name", ([0; NAME], 0)),
            all_link: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    /// Offsets of fields, for readers outside: next object, number, state, guards, shields, stack, last CPU.
    pub(crate) const OFFSETS: [u64; 7] = [
        core::mem::offset_of!(Self, all_link) as u64,
        core::mem::offset_of!(Self, number) as u64,
        core::mem::offset_of!(Self, state) as u64,
        core::mem::offset_of!(Self, preempt_off) as u64,
        core::mem::offset_of!(Self, shields) as u64,
        core::mem::offset_of!(Self, stack) as u64,
        core::mem::offset_of!(Self, last_cpu) as u64,
    ];

    /// Offsets of the bytes of the name and of their number.
    pub(crate) fn name_offsets(&self) -> (u64, u64) {
        let name = self.name.lock();
        let from = |field: *const u8| (field as u64) - core::ptr::from_ref(self) as u64;
        (from((&raw const name.0).cast()), from((&raw const name.1).cast()))
    }

    /// The number by which traces know it.
    #[inline(always)]
    pub(crate) fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed)
    }

    fn set_number(&self, number: u32) {
        self.number.store(number, Ordering::Relaxed);
    }

    /// Its stack's slot, while it has one.
    pub(crate) fn stack(&self) -> Option<SlotId> {
        SlotId::from_bits(self.stack.load(Ordering::Relaxed))
    }

    /// The address space that it runs in.
    fn space(&self) -> Option<SpaceId> {
        self.space.load(Ordering::Relaxed).checked_sub(1).map(SpaceId)
    }

    fn set_space(&self, space: Option<SpaceId>) {
        self.space.store(space.map_or(0, |space| space.0 + 1), Ordering::Relaxed);
    }

    /// What it is in user code, if it goes there.
    pub(crate) fn user(&self) -> Option<&user::Context> {
        // SAFETY: null, or what the thread's payload holds: only the thread itself, and who switches from or to it, ask.
        unsafe { self.user.load(Ordering::Relaxed).as_ref() }
    }

    fn set_user(&self, context: *const user::Context) {
        self.user.store(context.cast_mut(), Ordering::Relaxed);
    }

    /// Whether it may run on `cpu`.
    fn may_run_on(&self, cpu: smp::CpuId) -> bool {
        self.affinity.load(Ordering::Relaxed) >> cpu.index() & 1 == 1
    }

    /// Whether it can be ended here and now without losing anything of the kernel's: asked on its CPU, inside an
    /// interrupt or exception that interrupted it.
    pub(crate) fn can_be_ended(&self) -> bool {
        self.stack().is_some() && self.shields.get() == 0 && self.preempt_off.get() == 0
    }

    pub(crate) fn preempt_count(&self) -> u32 {
        self.preempt_off.get()
    }

    pub(crate) fn shield_count(&self) -> u32 {
        self.shields.get()
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }

    /// Whether somebody has asked for its end.
    fn abort_pending(&self) -> bool {
        self.abort.load(Ordering::SeqCst)
    }

    fn set_name(&self, name: &str) {
        let mut kept = self.name.lock();
        let length = (0..=name.len().min(NAME)).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
        kept.0[..length].copy_from_slice(&name.as_bytes()[..length]);
        kept.1 = length;
    }

    /// Its name, by value: for use where no lock may be held.
    pub(crate) fn name_bytes(&self) -> ([u8; NAME], usize) {
        *self.name.lock()
    }

    /// Runs `f` on its name.
    pub(crate) fn with_name<R>(&self, f: impl FnOnce(&str) -> R) -> R {
        let (bytes, length) = *self.name.lock();
        f(core::str::from_utf8(&bytes[..length]).unwrap_or("?"))
    }

    /// Its name when locks cannot be relied on: a CPU has panicked and stopped all others.
    pub(crate) fn with_name_in_panic<R>(&self, f: impl FnOnce(&str) -> R) -> R {
        // SAFETY: no other CPU runs; a name that was being written is still bytes.
        let (bytes, length) = unsafe { *self.name.steal() };
        f(core::str::from_utf8(&bytes[..length.min(NAME)]).unwrap_or("?"))
    }
}

/// Bytes left between the stack pointer and the front guard, on the thread that calls.
#[must_use]
pub fn stack_left() -> u64 {
    let start = cpu::current().stack().map_or(0, SlotId::start);
    shield::stack_pointer().saturating_sub(start)
}

/// The calling thread's stack: first byte, and first byte past the end.
#[must_use]
pub fn stack_bounds() -> (u64, u64) {
    cpu::current().stack().map_or((0, 0), |stack| (stack.start(), stack.end()))
}

/// A reference to a thread that can unpark it. Kept by whoever will, for no longer than the thread lives.
#[derive(Clone, Copy, Debug)]
pub struct Unparker(&'static Thread);

impl Unparker {
    /// Of the thread that calls.
    #[must_use]
    pub fn current() -> Self {
        Self(cpu::current())
    }

    /// Lets the thread go on from [`park`], now or the next time it gets there. A thread that has ended since is not
    /// there to mind; one that uses its object again may wake for nothing, which `park` allows for.
    pub fn unpark(self) {
        let _shield = Shield::new();
        switch::unpark(self.0);
    }
}
