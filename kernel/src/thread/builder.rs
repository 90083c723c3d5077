//! Spawning: a builder in the shape of `std::thread::Builder`.

use super::exit::Left;
use super::{JoinHandle, PreemptOff, Shield, Thread, exit, reap, state, switch, table};
use crate::cpu;
use crate::cpu::descriptors::{KERNEL_CODE, KERNEL_DATA};
use crate::cpu::entry::{Frame, RFLAGS_FIXED, RFLAGS_IF};
use crate::mem::guarded::{self, Fill, MapError};
use crate::mem::paging::Access;
use crate::mem::slots::{Kind, SlotId};
use crate::mem::{AddressSpace, custody, oracle, space};
use crate::sync::irq::IrqsOff;
use crate::sync::{SpinLock, may_wait};
use crate::trace::{Event, emit, emit_for};
use crate::user;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};
use smp::{CpuId, CpuSet};
use wire::trace::event::name_words;

/// Pages of a stack and of each guard when the builder is not told.
static DEFAULT_STACK: AtomicU32 = AtomicU32::new(4);
static DEFAULT_GUARD: AtomicU32 = AtomicU32::new(1);

/// Why a thread could not be started. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpawnError {
    /// There is no stack for it.
    Stack(MapError),
    /// None of the CPUs that it may run on is up.
    NoCpu(CpuSet),
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stack(error) => write!(f, "no stack for a thread: {error}"),
            Self::NoCpu(cpus) => write!(f, "none of the CPUs {cpus:?} is up"),
        }
    }
}

impl core::error::Error for SpawnError {}

/// What a thread runs, with the place for its value.
pub(super) trait Payload: Send {
    /// Once, on the thread's stack.
    fn run(&mut self);
}

struct Body<F, T> {
    f: Option<F>,
    value: Arc<SpinLock<Option<T>>>,
    /// Where it runs: there while it does.
    _space: Option<Arc<AddressSpace>>,
    /// What it is in user code: there while it may be switched to.
    _user: Option<Arc<user::Context>>,
}

impl<F: FnOnce() -> T + Send, T: Send> Payload for Body<F, T> {
    fn run(&mut self) {
        if let Some(f) = self.f.take() {
            let value = f();
            *self.value.lock() = Some(value);
        }
    }
}

/// Sets what the command line says of stacks.
pub(crate) fn set_defaults(stack_pages: u32, guard_pages: u32) {
    DEFAULT_STACK.store(stack_pages, Ordering::Relaxed);
    DEFAULT_GUARD.store(guard_pages, Ordering::Relaxed);
}

/// How a thread is to be.
#[derive(Clone, Debug)]
pub struct Builder<'n> {
    name: &'n str,
    stack_pages: u64,
    guard_pages: u64,
    affinity: CpuSet,
    quiet: bool,
    space: Option<Arc<AddressSpace>>,
    user: Option<Arc<user::Context>>,
}

impl Default for Builder<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'n> Builder<'n> {
    /// A thread without a name, with the stack and the guards that the command line says, on any CPU.
    #[must_use]
    pub fn new() -> Self {
        Self {
            name: "?",
            stack_pages: DEFAULT_STACK.load(Ordering::Relaxed).into(),
            guard_pages: DEFAULT_GUARD.load(Ordering::Relaxed).into(),
            affinity: CpuSet::ALL,
            quiet: false,
            space: None,
            user: None,
        }
    }

    /// Its name in reports; 24 bytes are kept.
    #[must_use]
    pub const fn name(mut self, name: &'n str) -> Self {
        self.name = name;
        self
    }

    /// Size of its stack, in pages of 4 KiB.
    #[must_use]
    pub const fn stack_pages(mut self, pages: u64) -> Self {
        self.stack_pages = pages;
        self
    }

    /// Size of each guard, in pages of 4 KiB.
    #[must_use]
    pub const fn guard_pages(mut self, pages: u64) -> Self {
        self.guard_pages = pages;
        self
    }

    /// Runs it on this CPU only.
    #[must_use]
    pub const fn on(mut self, cpu: CpuId) -> Self {
        self.affinity = CpuSet::only(cpu);
        self
    }

    /// Runs it on these CPUs only.
    #[must_use]
    pub const fn affinity(mut self, cpus: CpuSet) -> Self {
        self.affinity = cpus;
        self
    }

    /// Runs it in this address space, which lives as long as it does at least.
    #[must_use]
    pub fn space(mut self, space: Arc<AddressSpace>) -> Self {
        self.space = Some(space);
        self
    }

    /// It goes to user code, with this.
    pub(crate) fn user(mut self, context: Arc<user::Context>) -> Self {
        self.user = Some(context);
        self
    }

    /// Its faults are expected: they end it and are counted, but nothing is printed.
    #[must_use]
    pub const fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`SpawnError`] says what is missing; nothing has changed then.
    pub fn spawn<F, T>(self, f: F) -> Result<JoinHandle<T>, SpawnError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        table::bury();
        let _shield = Shield::new();
        if self.affinity.and(cpu::online()).is_empty() {
            return Err(SpawnError::NoCpu(self.affinity));
        }
        let stack = self.stack().map_err(SpawnError::Stack)?;
        let space = self.space.as_ref().map(|space| space.id());
        let value = Arc::new(SpinLock::new("value", None));
        let context = self.user.as_ref().map_or(ptr::null(), Arc::as_ptr);
        let body: Box<dyn Payload> =
            Box::new(Body { f: Some(f), value: value.clone(), _space: self.space, _user: self.user });
        let thread = table::allocate();
        thread.set_space(space);
        thread.set_user(context);
        // SAFETY: nobody else knows the thread yet.
        unsafe { *thread.payload.get() = Some(body) };
        thread.set_name(self.name);
        emit(Event::Spawn { thread: thread.number(), slot: stack.into_bits().into() });
        let (head, rest) = name_words(self.name);
        emit_for(thread.number(), Event::Name { head, rest });
        thread.quiet.store(self.quiet, Ordering::Relaxed);
        thread.affinity.store(self.affinity.bits(), Ordering::Relaxed);
        prepare(thread, stack, begin);
        thread.last_cpu.store(switch::first_home(self.affinity).index() as u32, Ordering::Relaxed);
        thread.state.store(state::READY, Ordering::Relaxed); // (1)
        {
            let _here = PreemptOff::new();
            cpu::this_racy().stats.spawned.add(1);
        }
        switch::make_ready(thread);
        Ok(JoinHandle::new(thread, value))
    }

    fn stack(&self) -> Result<SlotId, MapError> {
        let map = || guarded::map_fresh(self.stack_pages, self.guard_pages, Fill::AsIs, Access::ReadWrite, Kind::Stack);
        match map() {
            // Memory that only waits to be reaped is not missing.
            Err(MapError::OutOfFrames | MapError::OutOfAddresses)
                if reap() + custody::hurry(&mut may_wait(0)) + oracle::give_all_back() > 0 =>
            {
                map()
            }
            other => other,
        }
    }
}

/// Starts a thread with [`Builder::new`]'s defaults.
///
/// # Errors
/// As for [`Builder::spawn`].
pub fn spawn<F, T>(f: F) -> Result<JoinHandle<T>, SpawnError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    Builder::new().spawn(f)
}

/// Gives `thread` a stack, with a frame on it from which `entry` begins.
pub(super) fn prepare(thread: &'static Thread, stack: SlotId, entry: extern "C" fn() -> !) {
    let top = stack.end();
    let frame = (top - 16 - size_of::<Frame>() as u64) as *mut Frame;
    // SAFETY: inside the stack, which is mapped, and on which nothing runs.
    unsafe {
        ptr::write(
            frame,
            Frame {
                rip: entry as *const () as u64,
                cs: KERNEL_CODE.into(),
                rflags: RFLAGS_IF | RFLAGS_FIXED,
                rsp: top - 8, // as if called
                ss: KERNEL_DATA.into(),
                ..Frame::default()
            },
        );
        ptr::write((top - 8) as *mut u64, 0);
    }
    thread.frame.store(frame, Ordering::Relaxed);
    thread.stack.store(stack.into_bits(), Ordering::Relaxed);
    stack.set_owner(thread);
}

extern "C" fn begin() -> ! {
    let thread = cpu::current();
    // SAFETY: set before the thread was READY, and the thread's own while it lives.
    if let Some(body) = unsafe { &mut *thread.payload.get() } {
        body.run();
    }
    // It may be the last that holds its address space.
    {
        let _irqs = IrqsOff::new();
        thread.set_space(None);
        thread.set_user(ptr::null());
        space::enter(None);
    }
    {
        // What it owned is dropped here, where it may do what threads do, and not by whoever reaps the stack. An abort that
        // came between would lose it.
        let _shield = Shield::new();
        // SAFETY: as above.
        drop(unsafe { (*thread.payload.get()).take() });
    }
    exit::end(Left::Returned)
}
