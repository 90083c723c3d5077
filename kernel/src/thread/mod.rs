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
//! What is not as in `std`:
//!
//! - A panic ends the machine, with a report, and not the thread. [`JoinHandle::join`] gives [`Death`] where a thread
//!   [exits](exit()), is [aborted](Handle::abort), or faults.
//! - There is no memory without end: [`spawn`] has an error, and a thread's closure and result are part of what it takes.
//! - No scoped threads: a thread that is aborted does not come back to whoever lent it something.
//! - The number of CPUs is [`crate::cpu::online`]`().len()`; threads have [priorities](Priority) and may be
//!   [pinned](Builder::on).
//!
//! Aborting is asynchronous, like `pthread_cancel`: what the victim owns through its stack is not dropped. A
//! [`Shield`] holds an abort off while something must not be lost; every kernel function that owns something midway
//! has one.

mod begin;
mod body;
mod builder;
mod cache;
mod circle;
mod death;
mod end;
mod exit;
mod handle;
mod idle;
mod join;
mod local;
pub(crate) mod name;
mod object;
pub(crate) mod offset;
mod park;
pub(crate) mod pending;
mod priority;
pub(crate) mod queue;
mod shield;
mod sleep;
pub(crate) mod sleepers;
mod stack;
pub(crate) mod switch;
mod table;
mod token;
pub(crate) mod watermark;

pub use builder::{Builder, SpawnError, spawn};
pub use cache::{kept as cached_stacks, set_size as set_stack_cache};
pub use death::{Death, Fault, FaultKind, Mode};
pub use exit::{exit, pending_stacks, quiesce, reap, set_exit_delay};
pub use handle::{Handle, State, current, for_each_handle, set_data};
pub use join::{JoinError, JoinHandle};
pub use local::{Local, TooManyLocals};
pub use name::Name;
pub use object::Object;
pub use park::park;
pub use priority::Priority;
pub(crate) use shield::HEADROOM;
pub use shield::{PreemptOff, Shield};
pub use sleep::{park_timeout, sleep};
pub use stack::{GuardedStack, StackBusy, StackMemory};
pub use switch::yield_now;
pub use table::live;
pub use watermark::{NoWatermark, Threshold, Watermark, for_each_watermark, watermark};

pub(crate) use builder::set_defaults;
pub(crate) use cache::Cache as StackCache;
pub(crate) use end::{Cause, How};
pub(crate) use exit::{divert, divert_for};
pub(crate) use idle::prepare as prepare_idle;
pub(crate) use sleep::give_way_to_all;
pub(crate) use table::{Home, first_of_all_address, pooled, register};

use crate::cpu;
use crate::cpu::cell::Own;
use crate::cpu::entry::Frame;
use crate::mem::AddressSpace;
use crate::mem::slots::SlotId;
use crate::user;
use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};
use name::NameCell;
use smp::space::SpaceId;

/// CPUs that say that they have nothing to run.
#[cfg(feature = "misdeeds")]
pub(crate) fn idle_cpus() -> smp::CpuSet {
    switch::IDLE.load(Ordering::SeqCst)
}

/// The states in the picture above.
pub(crate) mod state {
    pub(crate) const FREE: u8 = 0;
    pub(crate) const READY: u8 = 1;
    pub(crate) const RUNNING: u8 = 2;
    pub(crate) const PARKED: u8 = 3;
    pub(crate) const DEAD: u8 = 4;
}

/// What a thread holds besides what it runs. Whoever drops it may wait, so a thread does.
struct Held {
    /// Where it runs.
    _space: Arc<AddressSpace>,
    /// What it is in user code.
    _user: Option<Arc<user::Context>>,
}

/// A thread. The objects are never deallocated, only used again, so a reference to one stays good; which thread it
/// stands for is known by who holds the reference: a handle, a queue, or the stack that names its owner.
pub(crate) struct Thread {
    state: AtomicU8,
    /// Which thread the object stands for at present: counts up, never 0 in a thread that was spawned, 0 in an object that is
    /// free. Idle threads have the number of their CPU + 1.
    number: AtomicU32,
    /// What lets it go on when it parks.
    token: token::Token,
    /// The number of the thread whose end somebody wants: of no other that has the object before or after it.
    abort: AtomicU32,
    /// Guard hits are expected: count them, print nothing.
    quiet: AtomicBool,
    /// The run cannot go on without it: its end is a panic.
    essential: AtomicBool,
    /// How many guards keep it from being preempted. Only the thread itself, and its CPU's handlers, look.
    preempt_off: Own<u32>,
    /// How many guards hold an abort off. As above.
    shields: Own<u32>,
    /// Its registers, on its stack, while it does not run.
    frame: AtomicPtr<Frame>,
    /// The stack's slot as a number, 0 if it has none, for readers outside; and the stack itself.
    slot_bits: AtomicU32,
    stack: stack::Current,
    /// The number of the address space that it runs in plus one, 0 for none.
    space: AtomicU32,
    /// What it is in user code, if it goes there: what `held` holds.
    user: AtomicPtr<user::Context>,
    /// What has to be there as long as the thread may run.
    held: UnsafeCell<Option<Held>>,
    /// CPUs that it may run on.
    affinity: AtomicU64,
    priority: AtomicU8,
    /// CPU that it ran on last.
    last_cpu: AtomicU32,
    /// Times that it was given a CPU.
    turns: Own<u64>,
    /// A word of its users.
    data: AtomicU64,
    /// Words of its own.
    locals: local::Words,
    /// The next thread of the list that it is in: a run queue, the free ones, the dead ones.
    link: AtomicPtr<Thread>,
    /// Its place among the sleepers, and when it wants to wake, in cycles.
    place: sleepers::Place,
    wake_at: AtomicU64,
    join: join::Join,
    /// Whose end it waits for.
    waits_for: AtomicPtr<Thread>,
    end: end::End,
    body: body::Body,
    /// Who still needs the object: the handle, and the stack until it is reaped.
    users: AtomicU32,
    /// The handle is one of them.
    is_joinable: AtomicBool,
    name: NameCell,
    /// Where the object came from, and goes when it is free.
    home: table::Home,
    /// It is one of those that readers outside find.
    is_registered: AtomicBool,
    /// The next of all thread objects.
    all_link: AtomicPtr<Thread>,
}

// SAFETY: everything but `body` and `held` is atomic, or says itself why it is sound. Those two are set by the spawner
// before the thread is READY, used by the thread while it lives, and emptied by the last user when it is DEAD.
unsafe impl Sync for Thread {}
// SAFETY: as above; what is in the body is `Send`.
unsafe impl Send for Thread {}

impl Thread {
    pub(crate) const fn new(home: table::Home) -> Self {
        Self {
            state: AtomicU8::new(state::FREE),
            number: AtomicU32::new(0),
            token: token::Token::none(),
            abort: AtomicU32::new(0),
            quiet: AtomicBool::new(false),
            essential: AtomicBool::new(false),
            preempt_off: Own::<u32>::new(0),
            shields: Own::<u32>::new(0),
            frame: AtomicPtr::new(core::ptr::null_mut()),
            slot_bits: AtomicU32::new(0),
            stack: stack::Current::none(),
            space: AtomicU32::new(0),
            user: AtomicPtr::new(core::ptr::null_mut()),
            held: UnsafeCell::new(None),
            affinity: AtomicU64::new(u64::MAX),
            priority: AtomicU8::new(Priority::NORMAL.level()),
            last_cpu: AtomicU32::new(0),
            turns: Own::<u64>::new(0),
            data: AtomicU64::new(0),
            locals: local::Words::none(),
            link: AtomicPtr::new(core::ptr::null_mut()),
            place: sleepers::Place::none(),
            wake_at: AtomicU64::new(0),
            join: join::Join::new(),
            waits_for: AtomicPtr::new(core::ptr::null_mut()),
            end: end::End::new(),
            body: body::Body::none(),
            users: AtomicU32::new(0),
            is_joinable: AtomicBool::new(false),
            name: NameCell::new(),
            home,
            is_registered: AtomicBool::new(false),
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
        core::mem::offset_of!(Self, slot_bits) as u64,
        core::mem::offset_of!(Self, last_cpu) as u64,
    ];

    /// Offsets of the bytes of the name and of their number.
    pub(crate) const NAME_OFFSETS: (u64, u64) = {
        let name = core::mem::offset_of!(Self, name) as u64;
        (name + NameCell::OFFSETS.0, name + NameCell::OFFSETS.1)
    };

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
        self.stack.slot()
    }

    /// Its stack: first byte, and first byte past the end. Zeros while it has none.
    #[inline]
    pub(crate) fn stack_bounds(&self) -> (u64, u64) {
        self.stack.bounds()
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
        self.stack.is_there() && self.shields.get() == 0 && self.preempt_off.get() == 0
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
    #[inline]
    fn abort_pending(&self) -> bool {
        self.abort.load(Ordering::SeqCst) == self.number()
    }

    /// Asks for the end of the thread with this number; false if the object is not, or not any more, that thread's.
    fn ask_to_end(&self, number: u32) -> bool {
        // What was asked of the object's former threads is overwritten, however long ago that was; what is asked of the one that has
        // it now stays.
        let stays = |old: u32| old == self.number();
        let _ = self.abort.try_update(Ordering::SeqCst, Ordering::SeqCst, |old| (!stays(old)).then_some(number));
        self.number() == number
    }

    /// Whether something of it has to be dropped by a thread.
    fn owns_something(&self) -> bool {
        // SAFETY: its last user asks.
        self.body.holds() || unsafe { (*self.held.get()).is_some() }
    }

    /// # Safety
    /// The object has no user.
    unsafe fn drop_what_it_owns(&self) {
        // SAFETY: by the caller's promise.
        unsafe {
            self.body.clear();
            self.set_user(core::ptr::null());
            drop((*self.held.get()).take());
        }
    }

    fn priority(&self) -> Priority {
        Priority::of_level(self.priority.load(Ordering::Relaxed))
    }

    fn waits_for(&self) -> Option<&'static Self> {
        // SAFETY: null, or set from a `&'static`.
        unsafe { self.waits_for.load(Ordering::SeqCst).as_ref() }
    }

    fn set_waits_for(&self, thread: Option<&'static Self>) {
        self.waits_for
            .store(thread.map_or(core::ptr::null_mut(), |t| core::ptr::from_ref(t).cast_mut()), Ordering::SeqCst);
    }

    fn set_name(&self, name: &str) {
        self.name.set(&Name::new(name));
    }

    /// Its name, by value. Takes no lock.
    pub(crate) fn name(&self) -> Name {
        self.name.get()
    }
}

/// Bytes left between the stack pointer and the front guard, on the thread that calls.
#[must_use]
pub fn stack_left() -> u64 {
    shield::stack_pointer().saturating_sub(stack_bounds().0)
}

/// The calling thread's stack: first byte, and first byte past the end.
#[must_use]
pub fn stack_bounds() -> (u64, u64) {
    cpu::current().stack_bounds()
}
