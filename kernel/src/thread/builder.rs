//! Spawning: a builder in the shape of `std::thread::Builder`.

use super::body::OutOfMemory;
use super::join::JoinHandle;
use super::name::Name;
use super::stack::{NoStack, Source, free_what_waits};
use super::{
    GuardedStack, Handle, Held, Object, Priority, Shield, StackMemory, Thread, begin, offset, sleep, state, switch,
    table,
};
use crate::cpu;
use crate::mem::AddressSpace;
use crate::mem::slots::SlotId;
use crate::mem::{Fill, MapError};
use crate::stats;
use crate::trace::{Event, emit, emit_for};
use crate::user;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};
use smp::{CpuId, CpuSet};

/// Pages of a stack and of each guard when the builder is not told.
static DEFAULT_STACK: AtomicU32 = AtomicU32::new(4);
static DEFAULT_GUARD: AtomicU32 = AtomicU32::new(1);

/// Why a thread could not be started. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpawnError {
    /// There is no stack for it.
    Stack(MapError),
    /// The stack that it was to have is another thread's.
    StackInUse,
    /// The object that it was to have is another thread's.
    ObjectInUse,
    /// No heap memory is left for its object, or for what it is to run.
    OutOfMemory,
    /// None of the CPUs that it may run on is up.
    NoCpu(CpuSet),
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stack(error) => write!(f, "no stack for a thread: {error}"),
            Self::StackInUse => f.write_str("the stack is another thread's"),
            Self::ObjectInUse => f.write_str("the thread object is another thread's"),
            Self::OutOfMemory => f.write_str("no heap memory is left for a thread"),
            Self::NoCpu(cpus) => write!(f, "none of the CPUs {cpus:?} is up"),
        }
    }
}

impl core::error::Error for SpawnError {}

impl From<NoStack> for SpawnError {
    fn from(why: NoStack) -> Self {
        match why {
            NoStack::Map(error) => Self::Stack(error),
            NoStack::InUse => Self::StackInUse,
        }
    }
}

impl From<OutOfMemory> for SpawnError {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

/// Sets what the command line says of stacks.
pub(crate) fn set_defaults(stack_pages: u32, guard_pages: u32) {
    DEFAULT_STACK.store(stack_pages, Ordering::Relaxed);
    DEFAULT_GUARD.store(guard_pages, Ordering::Relaxed);
}

/// Whether these are a stack's and a guard's pages when the builder is not told.
#[inline(always)]
pub(super) fn are_default(pages: u64, guard: u64) -> bool {
    pages == DEFAULT_STACK.load(Ordering::Relaxed).into() && guard == DEFAULT_GUARD.load(Ordering::Relaxed).into()
}

/// Whether the stack in this slot is one that a builder gets that was not told.
#[inline(always)]
pub(super) fn is_default(slot: SlotId) -> bool {
    slot.is_own_stack()
        && slot.sizes() == (DEFAULT_STACK.load(Ordering::Relaxed), DEFAULT_GUARD.load(Ordering::Relaxed))
}

/// How a thread is to be.
///
/// ```no_run
/// use kernel::thread::{Builder, Death, FaultKind, Priority, SpawnError};
/// use kernel::CpuId;
///
/// # fn example() -> Result<(), SpawnError> {
/// let worker = Builder::new()
///     .name("worker")
///     .stack_pages(8)
///     .guard_pages(2)
///     .priority(Priority::HIGHEST)
///     .on(CpuId::new(1))
///     .spawn(|| 6 * 7)?;
/// match worker.join() {
///     Ok(value) => kernel::println!("it returned {value}"),
///     Err(Death::Fault(fault)) if matches!(fault.kind, FaultKind::Guard(..)) => kernel::println!("it overflowed: {fault}"),
///     Err(death) => kernel::println!("{death}"),
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "no thread is started before `spawn`"]
#[derive(Clone, Debug)]
pub struct Builder<'s> {
    name: Name,
    source: Source<'s>,
    fill: Option<Fill>,
    object: Option<&'static Object>,
    affinity: CpuSet,
    priority: Priority,
    quiet: bool,
    essential: bool,
    space: Option<Arc<AddressSpace>>,
    user: Option<Arc<user::Context>>,
}

impl Default for Builder<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'s> Builder<'s> {
    /// A thread without a name, with the stack and the guards that the command line says, on any CPU.
    pub fn new() -> Self {
        let (pages, guard) =
            (DEFAULT_STACK.load(Ordering::Relaxed).into(), DEFAULT_GUARD.load(Ordering::Relaxed).into());
        Self {
            name: const { Name::new("?") },
            source: Source::Fresh { pages, guard },
            fill: None,
            object: None,
            affinity: CpuSet::ALL,
            priority: Priority::NORMAL,
            quiet: false,
            essential: false,
            space: None,
            user: None,
        }
    }

    /// Its name in reports; 24 bytes are kept.
    pub const fn name(mut self, name: &str) -> Self {
        self.name = Name::new(name);
        self
    }

    /// Size of its stack, in pages of 4 KiB. No other source of a stack that was named is used.
    pub fn stack_pages(mut self, pages: u64) -> Self {
        self.source = Source::Fresh { pages, guard: self.guard() };
        self
    }

    /// Size of each guard, in pages of 4 KiB; of no use where the guards are there, or are not.
    pub const fn guard_pages(mut self, pages: u64) -> Self {
        match &mut self.source {
            Source::Fresh { guard, .. } | Source::View(_, _, guard) => *guard = pages,
            Source::Lent(_) | Source::Bare(..) => {}
        }
        self
    }

    fn guard(&self) -> u64 {
        match self.source {
            Source::Fresh { guard, .. } | Source::View(_, _, guard) => guard,
            Source::Lent(_) | Source::Bare(..) => DEFAULT_GUARD.load(Ordering::Relaxed).into(),
        }
    }

    /// Runs it on a stack that its owner has mapped between guards, and keeps.
    pub const fn on_stack(mut self, stack: &'s GuardedStack) -> Self {
        self.source = Source::Lent(stack);
        self
    }

    /// Runs it on a view of its owner's memory, mapped between guards as long as the thread has it.
    pub fn on_view_of<const PAGES: usize>(mut self, memory: &'static StackMemory<PAGES>) -> Self {
        let (lender, extent) = memory.lend();
        self.source = Source::View(lender, extent, self.guard());
        self
    }

    /// Runs it on its owner's memory as it is: **without guards**.
    ///
    /// # Safety
    /// The thread never needs more than that, interrupts' part included: an overflow would write to whatever lies below, and
    /// nobody would be told.
    pub unsafe fn on_bare<const PAGES: usize>(mut self, memory: &'static StackMemory<PAGES>) -> Self {
        let (lender, extent) = memory.lend();
        self.source = Source::Bare(lender, extent);
        self
    }

    /// What its stack holds at first. If it is not said, a fresh stack holds whatever was there, and one from the cache zeros: nothing
    /// of the thread that had it before.
    pub const fn fill(mut self, fill: Fill) -> Self {
        self.fill = Some(fill);
        self
    }

    /// Gives it this object, which is free, or is so once what its last thread left behind is cleaned up.
    pub const fn object(mut self, object: &'static Object) -> Self {
        self.object = Some(object);
        self
    }

    /// How urgent it is.
    pub const fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// The run cannot go on without it: however it ends, that is a panic.
    pub const fn essential(mut self) -> Self {
        self.essential = true;
        self
    }

    /// Runs it on this CPU only.
    pub const fn on(mut self, cpu: CpuId) -> Self {
        self.affinity = CpuSet::only(cpu);
        self
    }

    /// Runs it on these CPUs only.
    pub const fn affinity(mut self, cpus: CpuSet) -> Self {
        self.affinity = cpus;
        self
    }

    /// Runs it in this address space, which lives as long as it does at least.
    pub fn space(mut self, space: Arc<AddressSpace>) -> Self {
        self.space = Some(space);
        self
    }

    /// It goes to user code, with this, in the space that it runs in.
    pub(crate) fn user(mut self, context: Arc<user::Context>) -> Self {
        self.user = Some(context);
        self
    }

    /// Its faults are expected: they end it and are counted, but nothing is printed.
    pub const fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`SpawnError`] says what is missing; nothing has changed then.
    ///
    /// # Panics
    /// In a handler, with a lock held or interrupts masked: if memory is short, it waits for stacks to be reaped.
    pub fn spawn<F, T>(self, f: F) -> Result<JoinHandle<T>, SpawnError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let thread = self.start(f)?;
        // SAFETY: its function gives a `T`; one of its users is the handle.
        Ok(unsafe { JoinHandle::new(thread) })
    }

    /// Starts it, and lets it go on by itself: nobody can wait for its end.
    ///
    /// # Errors
    /// As for [`spawn`](Self::spawn).
    ///
    /// # Panics
    /// As [`spawn`](Self::spawn).
    pub fn spawn_detached<F>(self, f: F) -> Result<Handle, SpawnError>
    where
        F: FnOnce() + Send + 'static,
    {
        let _shield = Shield::new();
        // Joinable at first: until its number is read, the object must not go to another thread.
        self.spawn(f).map(JoinHandle::detach)
    }

    fn start<F, T>(self, f: F) -> Result<&'static Thread, SpawnError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        table::bury();
        let _shield = Shield::new();
        let thread = self.claim_object()?;
        // SAFETY: nobody else knows the thread yet, and its object came empty.
        let set = unsafe { thread.body.set(f) };
        let made = set.map_err(SpawnError::from).and_then(|()| self.stack(thread));
        if let Err(error) = made {
            // SAFETY: as above.
            unsafe { thread.drop_what_it_owns() };
            table::give_back(thread);
            return Err(error);
        }
        self.finish(thread);
        Ok(thread)
    }

    #[inline(always)]
    fn claim_object(&self) -> Result<&'static Thread, SpawnError> {
        if self.affinity.and(cpu::online()).is_empty() {
            return Err(SpawnError::NoCpu(self.affinity));
        }
        match self.object {
            Some(object) => object.claim(),
            None => table::allocate().ok_or(SpawnError::OutOfMemory),
        }
    }

    #[inline(always)]
    fn stack(&self, thread: &'static Thread) -> Result<(), SpawnError> {
        match self.source.give(thread, self.fill) {
            Ok(()) => Ok(()),
            Err(why) => self.stack_again(thread, why),
        }
    }

    /// What only waits to be reaped is not missing.
    #[cold]
    fn stack_again(&self, thread: &'static Thread, why: NoStack) -> Result<(), SpawnError> {
        match why {
            NoStack::InUse => {
                for turn in (0u32..).take_while(|_| self.source.is_leaving()) {
                    free_what_waits();
                    sleep::give_way_to_all(turn); // another thread may be at it
                }
            }
            NoStack::Map(MapError::OutOfFrames | MapError::OutOfAddresses) if free_what_waits() > 0 => {}
            NoStack::Map(_) => return Err(why.into()),
        }
        Ok(self.source.give(thread, self.fill)?)
    }

    /// It has all that it needs: it may run.
    #[inline(always)]
    fn finish(self, thread: &'static Thread) {
        thread.name.set(&self.name);
        thread.set_space(self.space.as_ref().map(|space| space.id()));
        if let Some(space) = self.space {
            thread.set_user(self.user.as_ref().map_or(core::ptr::null(), Arc::as_ptr));
            // SAFETY: nobody else knows the thread yet.
            unsafe { *thread.held.get() = Some(Held { _space: space, _user: self.user }) };
        }
        let slot = thread.stack().map_or(0, SlotId::into_bits);
        thread.slot_bits.store(slot, Ordering::Relaxed);
        emit(Event::Spawn { thread: thread.number(), slot: slot.into() });
        let (head, rest) = self.name.for_trace();
        emit_for(thread.number(), Event::Name { head, rest });
        thread.quiet.store(self.quiet, Ordering::Relaxed);
        thread.essential.store(self.essential, Ordering::Relaxed);
        thread.affinity.store(self.affinity.bits(), Ordering::Relaxed);
        thread.priority.store(self.priority.level(), Ordering::Relaxed);
        thread.users.store(2, Ordering::Relaxed); // the handle and the stack
        thread.is_joinable.store(true, Ordering::Relaxed);
        begin::set_frame(thread, begin::begin, offset::of(thread));
        thread.last_cpu.store(switch::first_home(self.affinity).index() as u32, Ordering::Relaxed);
        thread.state.store(state::READY, Ordering::Relaxed); // (1)
        stats::count(stats::SPAWNED);
        switch::make_ready(thread);
    }
}

/// Starts a thread with [`Builder::new`]'s defaults.
///
/// ```no_run
/// use kernel::thread::{self, SpawnError};
///
/// # fn example() -> Result<(), SpawnError> {
/// let sum = thread::spawn(|| (1..=100).sum::<u64>())?;
/// assert_eq!(sum.join(), Ok(5050));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As for [`Builder::spawn`].
///
/// # Panics
/// As [`Builder::spawn`].
pub fn spawn<F, T>(f: F) -> Result<JoinHandle<T>, SpawnError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    Builder::new().spawn(f)
}
