//! Processes: a program in an address space of its own, and the threads that run in it.

use super::context::Context;
use super::entry;
use super::memory::{Memory, StackError, UserStack};
use super::program::Program;
use crate::cpu;
use crate::mem::fallible::try_arc;
use crate::mem::{AddressSpace, OutOfHeap, PAGE_SIZE, SpaceError, paging};
use crate::sync::SpinLock;
use crate::thread::{Builder, JoinHandle, Object, Priority, Shield, SpawnError};
use alloc::sync::Arc;
use core::fmt;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};
use smp::{CpuId, CpuSet};

/// Bytes of what was printed last that are kept.
const KEPT: usize = 64;

/// A process. It lives as long as its handle or one of its threads does; then all of its memory is given back.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    entry: u64,
    memory: Memory,
    printed: AtomicU64,
    last: SpinLock<([u8; KEPT], usize)>,
}

/// Why there is no process, or no thread in it. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessError {
    /// Its address space could not be made or filled.
    Space(SpaceError),
    /// A user stack has at least one page and guards of at least one, and all of it at most 256.
    StackSize(u64),
    /// It has as many threads as it can have.
    TooManyThreads,
    /// There is no kernel thread for it.
    Thread(SpawnError),
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Space(error) => error.fmt(f),
            Self::StackSize(pages) => write!(f, "no user stack has {pages} pages"),
            Self::TooManyThreads => f.write_str("it has as many threads as it can have"),
            Self::Thread(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ProcessError {}

impl From<SpaceError> for ProcessError {
    fn from(error: SpaceError) -> Self {
        Self::Space(error)
    }
}

impl Process {
    /// A process with this program mapped, and no thread yet.
    ///
    /// # Errors
    /// [`ProcessError`] says what is missing; nothing has changed then.
    pub fn load(program: &Program) -> Result<Arc<Self>, ProcessError> {
        let _shield = Shield::new();
        let space = AddressSpace::new()?;
        for segment in program.image().segments() {
            space.map(segment.address, segment.pages, 0, segment.access)?;
            for (at, bytes) in
                (segment.address..).step_by(PAGE_SIZE as usize).zip(segment.bytes.chunks(PAGE_SIZE as usize))
            {
                let frame = space.translate(at).expect("a page that was just mapped");
                // SAFETY: the frame is the space's alone and nothing runs there yet; it is as long as a page.
                unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), paging::hhdm(frame.0) as *mut u8, bytes.len()) }
            }
        }
        let process = Self {
            name: program.name(),
            entry: program.image().entry,
            memory: Memory::new(space),
            printed: AtomicU64::new(0),
            last: SpinLock::new("printed", ([0; KEPT], 0)),
        };
        try_arc(process).map_err(|OutOfHeap| ProcessError::Space(SpaceError::OutOfHeap))
    }

    /// A builder of threads in it.
    pub fn builder(self: &Arc<Self>) -> UserBuilder {
        UserBuilder {
            kernel: Builder::new().name(self.name),
            process: self.clone(),
            stack_pages: 4,
            guard_pages: 1,
            arguments: [0; 2],
        }
    }

    /// Bytes that its threads have printed.
    #[must_use]
    pub fn printed(&self) -> u64 {
        self.printed.load(Ordering::Relaxed)
    }

    /// Whether the last text that a thread of it printed is this one; of both the first 64 bytes count.
    #[must_use]
    pub fn printed_last(&self, text: &str) -> bool {
        let (bytes, length) = *self.last.lock();
        bytes[..length] == text.as_bytes()[..text.len().min(KEPT)]
    }

    /// Pages that it has mapped by system calls.
    #[must_use]
    pub fn mapped_pages(&self) -> u64 {
        self.memory.mapped()
    }

    pub(super) const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// One of its threads prints.
    pub(super) fn prints(&self, text: &[u8]) {
        self.printed.fetch_add(text.len() as u64, Ordering::Relaxed);
        let kept = &text[..text.len().min(KEPT)];
        let mut last = self.last.lock();
        last.0[..kept.len()].copy_from_slice(kept);
        last.1 = kept.len();
    }
}

/// How a user thread is to be: as [`Builder`] for kernel threads. One that is not told otherwise has a user stack of 4 pages between
/// guards of one, and is called as its program.
#[must_use = "no thread is started before `spawn`"]
#[derive(Clone, Debug)]
pub struct UserBuilder {
    kernel: Builder<'static>,
    process: Arc<Process>,
    stack_pages: u64,
    guard_pages: u64,
    arguments: [u64; 2],
}

impl UserBuilder {
    /// What the program's main function is given.
    pub const fn arguments(mut self, arguments: [u64; 2]) -> Self {
        self.arguments = arguments;
        self
    }

    /// Size of its user stack, in pages of 4 KiB.
    pub const fn stack_pages(mut self, pages: u64) -> Self {
        self.stack_pages = pages;
        self
    }

    /// Size of each guard of its user stack, in pages of 4 KiB.
    pub const fn guard_pages(mut self, pages: u64) -> Self {
        self.guard_pages = pages;
        self
    }

    /// Size of its privileged stack, in pages of 4 KiB.
    pub fn privileged_pages(mut self, pages: u64) -> Self {
        self.kernel = self.kernel.stack_pages(pages);
        self
    }

    /// Its name in reports, as [`Builder::name`].
    pub fn name(mut self, name: &str) -> Self {
        self.kernel = self.kernel.name(name);
        self
    }

    /// How urgent it is, as [`Builder::priority`].
    pub fn priority(mut self, priority: Priority) -> Self {
        self.kernel = self.kernel.priority(priority);
        self
    }

    /// Gives its kernel thread this object, as [`Builder::object`] does.
    pub fn object(mut self, object: &'static Object) -> Self {
        self.kernel = self.kernel.object(object);
        self
    }

    /// Runs it on this CPU only.
    pub fn on(mut self, cpu: CpuId) -> Self {
        self.kernel = self.kernel.on(cpu);
        self
    }

    /// Runs it on these CPUs only.
    pub fn affinity(mut self, cpus: CpuSet) -> Self {
        self.kernel = self.kernel.affinity(cpus);
        self
    }

    /// Its faults are expected, and what it prints is of no interest: nothing of it is shown.
    pub fn quiet(mut self) -> Self {
        self.kernel = self.kernel.quiet();
        self
    }

    /// Starts it. Its value is its exit code.
    ///
    /// # Errors
    /// [`ProcessError`] says what is missing; nothing has changed then.
    pub fn spawn(self) -> Result<JoinHandle<i32>, ProcessError> {
        let _shield = Shield::new();
        let this = self; // dropped before the shield
        let stack =
            this.process.memory.take_stack(this.stack_pages, this.guard_pages).map_err(|error| match error {
                StackError::Size(pages) => ProcessError::StackSize(pages),
                StackError::TooMany => ProcessError::TooManyThreads,
                StackError::Space(error) => ProcessError::Space(error),
            })?;
        this.start(stack).map_err(ProcessError::Thread)
    }

    fn start(self, stack: UserStack) -> Result<JoinHandle<i32>, SpawnError> {
        let (space, entry) = (self.process.memory.space().clone(), self.process.entry);
        let context = Context::new(self.process, entry, stack, self.arguments);
        let context = try_arc(context).map_err(|OutOfHeap| SpawnError::OutOfMemory)?;
        self.kernel.space(space).user(context).spawn(run)
    }
}

/// A user thread, in the kernel: owns nothing, so that nothing is lost when it is ended in user code.
fn run() -> i32 {
    let context = cpu::current().user().expect("a user thread has what it needs");
    // SAFETY: the calling thread's, held by its payload; and nothing is owned here.
    let code = unsafe { entry::enter(context) };
    code as u32 as i32
}
