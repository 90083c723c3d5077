//! Per-CPU data: one [`Cpu`] for each, found through the GS base.
//!
//! Most fields belong to their CPU alone: they are read and written there, by the thread that runs on it with
//! preemption off, or by its interrupt handlers. They are atomics that are used like plain cells, so that sharing the
//! struct is sound; the few that other CPUs touch say so.

pub(crate) mod apic;
pub(crate) mod cell;
pub(crate) mod descriptors;
pub(crate) mod entry;
pub(crate) mod features;
pub(crate) mod held;

use crate::stats::CpuStats;
use crate::thread::queue::RunQueue;
use crate::thread::sleepers::Sleepers;
use crate::thread::{Home, StackCache, Thread};
use crate::trace::ring::Ring;
use crate::trap::report::Snapshot;
use crate::trap::watchdog::Watchdog;
use alloc::boxed::Box;
use cell::Own;
#[cfg(target_os = "none")]
use core::arch::asm;
use core::fmt;
use core::mem::offset_of;
use core::sync::atomic::{AtomicPtr, Ordering};
use held::Held;
use smp::space::Loaded;
use smp::{AtomicCpuSet, CpuId, CpuSet, MAX_CPUS};

/// What belongs to one CPU.
#[repr(C)]
pub struct Cpu {
    /// Its own address, for `mov reg, gs:[0]`.
    this: AtomicPtr<Cpu>,
    /// Interrupt nesting, -1 on a thread's stack: the entry code switches to `stack_top` when it counts up to 0.
    pub(crate) interrupt_depth: Own<i32>,
    /// Top of the CPU's own stack, where interrupts and the scheduler run.
    pub(crate) stack_top: Own<u64>,
    /// Where system calls go on: the top of what the thread that runs leaves free of its stack while it is in user code.
    pub(crate) privileged_stack: Own<u64>,
    /// The user's stack pointer, between the entry of a system call and the frame.
    pub(crate) user_rsp: Own<u64>,
    /// It has SMAP on: the instructions that lift it exist.
    pub(crate) smap: Own<bool>,
    /// Tops of the stacks for #DF, NMI and #MC.
    pub(crate) own_stack_tops: [Own<u64>; 3],
    /// The thread that runs here.
    current: AtomicPtr<Thread>,
    /// Its number, for traces.
    pub(crate) current_number: Own<u32>,
    /// Its number. A word, to be read as one.
    id: u32,
    pub(crate) apic_id: Own<u32>,
    /// How many guards keep interrupts off.
    pub(crate) irq_off_depth: Own<u32>,
    /// The flags before the first of them.
    pub(crate) irq_flags: Own<u64>,
    /// The thread that runs should give way at the next opportunity.
    pub(crate) need_resched: Own<bool>,
    /// The first thread has been resumed: the boot is over.
    pub(crate) runs_threads: Own<bool>,
    /// Ticks left of the slice of the thread that runs.
    pub(crate) slice: Own<u32>,
    /// Interrupts taken up to now; also a clock that stands still when the CPU hangs.
    pub(crate) interrupts: Own<u64>,
    /// It halts and is not asked to flush (`lazy-idle=on`).
    pub(crate) asleep: Own<bool>,
    /// The address space that it has loaded.
    pub(crate) space: Loaded,
    /// Locks that it holds.
    pub(crate) held: Held,
    /// The shootdown request that it began and that is not done: 2^32 + generation, 0 if there is none.
    pub(crate) request: Own<u64>,
    /// Who has to acknowledge it.
    pub(crate) request_targets: Own<u64>,
    /// Where the last NMI found it.
    pub(crate) snapshot: Snapshot,
    /// Watches over the next CPU.
    pub(crate) watchdog: Watchdog,
    pub(crate) descriptors: descriptors::Descriptors,
    pub(crate) apic: apic::Slot,
    /// Threads that are ready to run here; other CPUs add to it and steal from it.
    pub(crate) run_queue: RunQueue,
    /// Threads that wait for a time.
    pub(crate) sleepers: Sleepers,
    /// Stacks that are kept mapped for the next threads.
    pub(crate) stacks: StackCache,
    /// A slot of addresses that is free, by its entry: the next that is wanted here.
    pub(crate) spare_slot: AtomicPtr<()>,
    /// A thread object that is free: the next that is wanted here.
    pub(crate) spare_thread: AtomicPtr<Thread>,
    /// Runs when nothing else does; stands in for a thread while the CPU boots.
    pub(crate) idle: Thread,
    pub(crate) stats: CpuStats,
    pub(crate) trace: Ring,
}

/// CPU 0, there from the first instruction.
static BOOT_CPU: Cpu = Cpu::new(0);
static CPUS: [AtomicPtr<Cpu>; MAX_CPUS] = [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS];
/// CPUs that are up and answer shootdowns.
pub(crate) static REACHABLE: AtomicCpuSet = AtomicCpuSet::new();

impl fmt::Debug for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.id(), f)
    }
}

impl Cpu {
    const fn new(id: u32) -> Self {
        Self {
            this: AtomicPtr::new(core::ptr::null_mut()),
            // A CPU boots as if it were inside an interrupt: on a stack that is no thread's.
            interrupt_depth: Own::<i32>::new(0),
            stack_top: Own::<u64>::new(0),
            privileged_stack: Own::<u64>::new(0),
            user_rsp: Own::<u64>::new(0),
            smap: Own::<bool>::new(false),
            own_stack_tops: [const { Own::<u64>::new(0) }; 3],
            current: AtomicPtr::new(core::ptr::null_mut()),
            current_number: Own::<u32>::new(0),
            id,
            apic_id: Own::<u32>::new(0),
            irq_off_depth: Own::<u32>::new(0),
            irq_flags: Own::<u64>::new(0),
            need_resched: Own::<bool>::new(false),
            runs_threads: Own::<bool>::new(false),
            slice: Own::<u32>::new(0),
            interrupts: Own::<u64>::new(0),
            asleep: Own::<bool>::new(false),
            space: Loaded::new(),
            held: Held::new(),
            request: Own::<u64>::new(0),
            request_targets: Own::<u64>::new(0),
            snapshot: Snapshot::new(),
            watchdog: Watchdog::new(),
            descriptors: descriptors::Descriptors::new(),
            apic: apic::Slot::new(),
            run_queue: RunQueue::new(),
            sleepers: Sleepers::new(),
            stacks: StackCache::new(),
            spare_slot: AtomicPtr::new(core::ptr::null_mut()),
            spare_thread: AtomicPtr::new(core::ptr::null_mut()),
            idle: Thread::new(Home::Cpu),
            stats: CpuStats::new(),
            trace: Ring::new(),
        }
    }

    /// Its number.
    #[must_use]
    pub const fn id(&self) -> CpuId {
        CpuId::new(self.id as usize)
    }

    pub(crate) fn set_current(&self, thread: &'static Thread) {
        self.current.store(core::ptr::from_ref(thread).cast_mut(), Ordering::Relaxed);
        self.current_number.set(thread.number());
    }

    /// The thread that runs on it: exact on that CPU, a guess from elsewhere.
    pub(crate) fn current(&self) -> &'static Thread {
        // SAFETY: set to a `&'static Thread` before the CPU's first use, and only ever to others of the kind.
        unsafe { &*self.current.load(Ordering::Relaxed) }
    }
}

/// Offsets into [`Cpu`] for the entry code.
pub(crate) mod offset {
    use super::{Cpu, offset_of};
    pub(crate) const INTERRUPT_DEPTH: usize = offset_of!(Cpu, interrupt_depth);
    pub(crate) const STACK_TOP: usize = offset_of!(Cpu, stack_top);
    pub(crate) const PRIVILEGED_STACK: usize = offset_of!(Cpu, privileged_stack);
    pub(crate) const USER_RSP: usize = offset_of!(Cpu, user_rsp);
    pub(crate) const SMAP: usize = offset_of!(Cpu, smap);
    pub(crate) const CURRENT: usize = offset_of!(Cpu, current);
    pub(crate) const IRQ_OFF_DEPTH: usize = offset_of!(Cpu, irq_off_depth);
    pub(crate) const IRQ_FLAGS: usize = offset_of!(Cpu, irq_flags);
    pub(crate) const ID: usize = offset_of!(Cpu, id);
    pub(crate) const CURRENT_NUMBER: usize = offset_of!(Cpu, current_number);
    pub(crate) const TRACE: usize = offset_of!(Cpu, trace);
    pub(crate) const NEED_RESCHED: usize = offset_of!(Cpu, need_resched);
    pub(crate) const RUNS_THREADS: usize = offset_of!(Cpu, runs_threads);
    pub(crate) const STATS: usize = offset_of!(Cpu, stats);
}

/// The CPU that this runs on, at the moment of the call: a thread that can be preempted may be elsewhere by the next
/// instruction.
#[cfg(target_os = "none")]
pub(crate) fn this_racy() -> &'static Cpu {
    let cpu: *const Cpu;
    // SAFETY: the GS base points to this CPU's `Cpu` from the first instructions on (`install`), and its first field
    // holds its own address.
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) cpu, options(nostack, preserves_flags, readonly));
        &*cpu
    }
}

/// On a host all is one CPU.
#[cfg(not(target_os = "none"))]
pub(crate) fn this_racy() -> &'static Cpu {
    &BOOT_CPU
}

/// A field of the CPU that this runs on, read by one instruction: it belongs to the CPU that executes it, while a pointer
/// from [`this_racy`] may by the next instruction be another CPU's.
macro_rules! here {
    ($(#[$meta:meta])* $visible:vis $name:ident = $offset:ident) => {
        $(#[$meta])*
        #[cfg(target_os = "none")]
        #[inline(always)]
        $visible fn $name() -> u32 {
            let value: u32;
            // SAFETY: as in `this_racy`; the field is there, and reading it has no effect.
            unsafe {
                asm!("mov {:e}, gs:[{}]", out(reg) value, const offset::$offset, options(nostack, preserves_flags, readonly));
            }
            value
        }
        $(#[$meta])*
        #[cfg(not(target_os = "none"))]
        $visible fn $name() -> u32 {
            0
        }
    };
}
here!(interrupt_depth_here = INTERRUPT_DEPTH);
here!(irq_off_depth_here = IRQ_OFF_DEPTH);
here!(need_resched_here = NEED_RESCHED);
here!(runs_threads_here = RUNS_THREADS);
here!(
    /// The number of the CPU that this runs on, at the moment of the call, as a lock keeps it.
    pub(crate) number_here = ID
);

/// Whether this runs inside an interrupt handler.
pub(crate) fn in_interrupt() -> bool {
    // In a handler the thread cannot move between the two; in a thread the first is negative wherever it runs.
    interrupt_depth_here().cast_signed() >= 0 && runs_threads_here() != 0
}

/// Whether this runs on a thread's stack, not in a handler, the scheduler, or the boot.
#[inline(always)]
pub(crate) fn on_threads_stack() -> bool {
    interrupt_depth_here().cast_signed() < 0
}

/// How many guards keep interrupts off here. Not 0 means that this cannot move.
pub(crate) fn masked_depth() -> u32 {
    irq_off_depth_here()
}

/// Whether the thread that runs this should give way.
pub(crate) fn should_give_way() -> bool {
    need_resched_here() != 0
}

/// The thread that runs this. One instruction, so it is right even where the thread can be moved.
#[cfg(target_os = "none")]
pub(crate) fn current() -> &'static Thread {
    let thread: *const Thread;
    // SAFETY: as in `this_racy`; `current` points to a `&'static Thread` whenever code runs.
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) thread, const offset::CURRENT, options(nostack, preserves_flags, readonly));
        &*thread
    }
}

/// On a host all is one thread.
#[cfg(not(target_os = "none"))]
pub(crate) fn current() -> &'static Thread {
    &BOOT_CPU.idle
}

/// Makes `cpu` the one that this runs on.
///
/// # Safety
/// Called once on each CPU, with a `Cpu` that no other CPU has, before anything else of this module.
pub(crate) unsafe fn install(cpu: &'static Cpu) {
    let address = core::ptr::from_ref(cpu);
    cpu.this.store(address.cast_mut(), Ordering::Relaxed);
    cpu.set_current(&cpu.idle);
    x86_64::registers::model_specific::GsBase::write(x86_64::VirtAddr::from_ptr(address));
    // Release: pairs with the acquire in `get`.
    CPUS[cpu.id().index()].store(address.cast_mut(), Ordering::Release);
}

/// The first CPU's data.
pub(crate) fn boot_cpu() -> &'static Cpu {
    &BOOT_CPU
}

/// Data for another CPU; needs the heap.
pub(crate) fn allocate(id: CpuId, apic_id: u32) -> &'static Cpu {
    let cpu = Box::leak(Box::new(Cpu::new(id.index() as u32)));
    cpu.apic_id.set(apic_id);
    cpu
}

/// The data of the CPU with this number, if it was started.
pub(crate) fn get(id: CpuId) -> Option<&'static Cpu> {
    // SAFETY: null, or a `&'static Cpu`.
    unsafe { CPUS[id.index()].load(Ordering::Acquire).as_ref() }
}

/// All CPUs that were started.
pub(crate) fn all() -> impl Iterator<Item = &'static Cpu> {
    (0..MAX_CPUS).filter_map(|number| get(CpuId::new(number)))
}

/// Where the table of CPUs is, for readers outside.
pub(crate) fn table_address() -> u64 {
    CPUS.as_ptr() as u64
}

/// The CPUs that are up.
#[must_use]
pub fn online() -> CpuSet {
    REACHABLE.load(Ordering::Relaxed)
}

/// The CPU that this runs on, at the moment of the call. Pinned threads stay there.
#[must_use]
pub fn current_id() -> CpuId {
    this_racy().id()
}
