//! The machine that the shootdown protocols run on: this one. And the bare interrupt round trip to compare with.

use super::{PAGE_SIZE, broadcast, oracle, paging, space, tags};
use crate::cpu::apic::{self, vector};
use crate::cpu::{self, Cpu, REACHABLE};
use crate::perturb::{self, Point};
use crate::stats::{self, Latency};
use crate::sync::irq::IrqsOff;
use crate::thread::{PreemptOff, Shield};
use crate::time;
use crate::trace::{Event, emit};
use crate::trap::report;
use alloc::boxed::Box;
use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use crossbeam_utils::CachePadded;
use smp::quarantine::{Asked, Marked};
use smp::space::{Loaded, Space, SpaceId};
use smp::{
    Acked, AtomicCpuSet, CpuId, CpuSet, Deferred, MAX_CPUS, Machine, MayWait, PageRange, Quarantine, Step, Unmapped,
    shootdown,
};
use spin::Once;
use wire::cmdline::{Options, Protocol};
use x86_64::instructions::interrupts;

/// The calling CPU, as the protocols see it.
pub(crate) struct Hardware;

static PROTOCOL: Once<Box<dyn shootdown::Protocol<Hardware> + Send>> = Once::new();
/// CPUs that sleep and are not asked.
static ASLEEP: AtomicCpuSet = AtomicCpuSet::new();
static LAZY_IDLE: AtomicBool = AtomicBool::new(false);
static CEILING: AtomicU32 = AtomicU32::new(33);
/// The protocol can leave it to the CPUs to flush when they pass.
static DEFERS: AtomicBool = AtomicBool::new(false);
/// There is something to do when a CPU passes.
static PASSES: AtomicBool = AtomicBool::new(false);

impl Machine for Hardware {
    fn cpu(&self) -> CpuId {
        cpu::current_id()
    }

    fn reachable(&self) -> CpuSet {
        REACHABLE.load(Ordering::Acquire)
    }

    fn asleep(&self) -> CpuSet {
        ASLEEP.load(Ordering::Acquire)
    }

    fn interrupt(&self, targets: CpuSet) {
        perturb::at(Point::BeforeIpi);
        let commands = send_to(vector::SHOOTDOWN, targets);
        let stats = &cpu::this_racy().stats;
        stats.shootdown_ipis.add(targets.len() as u64);
        stats.ipi_commands.add(commands);
    }

    fn flush(&self, range: PageRange) {
        perturb::at(Point::BeforeFlush);
        oracle::look();
        let mut address = range.start;
        for _ in 0..range.pages {
            // SAFETY: dropping a translation changes nothing but time. The compiler takes it for an access to any memory.
            unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack, preserves_flags)) }
            address = address.wrapping_add(PAGE_SIZE);
        }
        oracle::speculate();
        perturb::at(Point::AfterFlush);
    }

    fn flush_all(&self) {
        cpu::this_racy().stats.full_flushes.add_shared(1);
        emit(Event::FlushAll {});
        perturb::at(Point::BeforeFlush);
        paging::reload();
        oracle::speculate();
        perturb::at(Point::AfterFlush);
    }

    fn space(&self, id: SpaceId) -> &Space {
        space::known(id)
    }

    fn loaded(&self) -> &Loaded {
        &cpu::this_racy().space
    }

    fn tags(&self) -> usize {
        tags::count()
    }

    fn flush_under(&self, tag: usize, range: PageRange) -> bool {
        tags::flush_under(tag, range)
    }

    fn broadcast_flush(&self, range: Option<PageRange>) {
        broadcast::flush(range);
    }

    fn await_broadcasts(&self) {
        broadcast::wait();
    }

    fn load_space(&self, id: Option<SpaceId>, tag: usize, keep: bool) {
        perturb::at(Point::SpaceSwitch);
        if !keep {
            emit(Event::FlushAll {});
        }
        space::load(id, tag, keep);
        oracle::speculate();
        perturb::at(Point::SpaceSwitch);
    }

    fn interrupts_on(&self) -> bool {
        interrupts::are_enabled()
    }

    fn relax(&self) {
        core::hint::spin_loop();
    }

    fn now(&self) -> u64 {
        time::now()
    }

    fn patience(&self) -> u64 {
        time::patience()
    }

    fn unanswered(&self, missing: CpuSet) {
        report::unanswered("a TLB shootdown", missing);
    }

    #[inline(always)]
    fn note(&self, step: Step) {
        if matches!(step, Step::Answered { .. }) {
            perturb::at(Point::BeforeAck);
        }
        oracle::note(step);
        let cpu = cpu::this_racy();
        match step {
            Step::Requested { generation, targets } => {
                cpu.request_targets.set(targets.bits());
                cpu.request.set(1 << 32 | u64::from(generation));
            }
            Step::Completed { .. } => cpu.request.set(0),
            Step::Answered { .. } | Step::Deferred { .. } => {}
        }
        emit(match step {
            Step::Requested { generation, targets } => Event::Request { generation, targets: targets.bits() },
            Step::Answered { initiator, generation } => Event::Ack { generation, initiator: initiator.index() as u64 },
            Step::Completed { generation } => Event::Done { generation },
            Step::Deferred { generation, targets } => Event::Defer { generation, targets: targets.bits() },
        });
    }
}

/// Sends `vector` to each CPU of the set, by one command if these are all the others. How many commands it took.
fn send_to(vector: u8, targets: CpuSet) -> u64 {
    let irqs = IrqsOff::new();
    emit(Event::Send { vector: vector.into(), targets: targets.bits() });
    let others = REACHABLE.load(Ordering::Relaxed).without(irqs.cpu().id());
    if targets == others && targets.len() > 1 && !crate::boot::has_parked_cpus() {
        apic::send_to_all_others(&irqs, vector);
        return 1;
    }
    apic::send_to_each(&irqs, vector, targets.filter_map(cpu::get).map(|target| target.apic_id.get()))
}

/// Sets the protocol up, before the second CPU comes up.
///
/// # Errors
/// What the command line asks for and this processor lacks.
pub(crate) fn init(options: &Options, cpus: usize) -> Result<(), &'static str> {
    tags::init(options.pcid, options.invpcid)?;
    if options.protocol == Protocol::Invlpgb {
        broadcast::init()?;
    }
    CEILING.store(options.flush_ceiling, Ordering::Relaxed);
    LAZY_IDLE.store(options.lazy_idle, Ordering::Relaxed);
    let defers = options.protocol == Protocol::Quiescent;
    DEFERS.store(defers, Ordering::Relaxed);
    PASSES.store(defers || options.oracle, Ordering::Relaxed);
    // Generations start near their wrap, so that every run goes through it.
    let made = shootdown::by_name(options.protocol.name(), cpus, u32::MAX - 1000);
    PROTOCOL.call_once(|| made.expect("every name on the command line is a protocol's"));
    Ok(())
}

fn protocol() -> &'static (dyn shootdown::Protocol<Hardware> + Send) {
    &**PROTOCOL.get().expect("set up before anything is unmapped")
}

/// The name of the protocol in use.
#[must_use]
pub fn protocol_name() -> &'static str {
    protocol().name()
}

/// Above this many pages a request flushes everything.
pub(crate) fn flush_ceiling() -> u32 {
    CEILING.load(Ordering::Relaxed)
}

/// Puts the calling CPU among those that are asked. It has the kernel's own tables loaded.
pub(crate) fn came_online() {
    tags::enable();
    smp::presence::came_online(&Hardware, &REACHABLE);
}

/// Has every CPU drop what was unmapped; when it returns, all have. Waits for other CPUs, so the caller holds no lock.
/// The unmapping began at `start`; that is where the latency is counted from.
#[inline(always)]
pub(crate) fn shoot_down<R>(unmapped: Unmapped<'_, R>, start: u64, permit: &mut MayWait) -> Acked<R> {
    let _ = crate::sync::may_wait(0); // still
    let _here = PreemptOff::new();
    let pages = unmapped.pages();
    oracle::will_ask(unmapped.ranges());
    let acked = unmapped.shoot_down(protocol(), &Hardware, permit);
    let took = time::now().saturating_sub(start);
    stats::count(stats::SHOOTDOWNS);
    stats::add(stats::PAGES_FLUSHED, pages.into());
    stats::record(kind(pages), took);
    acked
}

/// Whether the protocol leaves it to the CPUs to drop what was unmapped when they pass.
#[inline(always)]
pub(super) fn defers() -> bool {
    DEFERS.load(Ordering::Relaxed)
}

/// Leaves it to the CPUs to drop what was unmapped when they pass, if the protocol has that.
pub(super) fn defer<R>(unmapped: Unmapped<'_, R>) -> Result<Deferred<R>, Unmapped<'_, R>> {
    let _here = PreemptOff::new();
    let pages = u64::from(unmapped.pages());
    let deferred = unmapped.defer(protocol(), &Hardware)?;
    let stats = &cpu::this_racy().stats;
    stats.deferred.add(1);
    stats.pages_flushed.add(pages);
    Ok(deferred)
}

/// Something that waited and that no CPU can use any more.
pub(super) fn take_settled<R, const N: usize>(waiting: &mut Quarantine<R, N>) -> Option<R> {
    waiting.take_settled(protocol(), &Hardware)
}

/// Has every CPU drop all that was marked, at once. Waits for other CPUs, so the caller holds no lock; preemption is off.
pub(super) fn shoot_down_marked(marked: Marked, permit: &mut MayWait) -> Asked {
    let _ = crate::sync::may_wait(0); // still
    marked.shoot_down(protocol(), &Hardware, permit)
}

/// What was deferred since `begun` is free now.
pub(super) fn record_deferred(pages: u32, begun: u64) {
    let _here = PreemptOff::new();
    stats::record(kind(pages), time::now().saturating_sub(begun));
}

const fn kind(pages: u32) -> Latency {
    if pages == 1 { Latency::OnePageShootdown } else { Latency::Shootdown }
}

/// This CPU switches threads, or its timer ticks. Interrupts are off.
#[inline(always)]
pub(crate) fn passes() {
    if PASSES.load(Ordering::Relaxed) {
        does_what_was_left();
    }
}

#[cold]
fn does_what_was_left() {
    protocol().passes(&Hardware);
    oracle::look();
    oracle::speculate();
}

/// This CPU halts, and is not asked until it wakes; with `lazy-idle=on`. Interrupts are off.
pub(crate) fn falls_asleep(cpu: &Cpu) {
    if LAZY_IDLE.load(Ordering::Relaxed) {
        emit(Event::Asleep {});
        cpu.asleep.set(true);
        smp::presence::falls_asleep(&Hardware, &ASLEEP);
    }
}

/// This CPU goes on, if it slept: the first thing that it does, in a handler or after the halt.
pub(crate) fn wakes(cpu: &Cpu) {
    if cpu.asleep.get() {
        let _irqs = IrqsOff::new();
        perturb::at(Point::IdleExit);
        smp::presence::wakes(&Hardware, &ASLEEP);
        cpu.asleep.set(false);
    }
}

/// The shootdown interrupt's handler.
pub(crate) fn serve() {
    cpu::this_racy().stats.shootdowns_served.add(1);
    perturb::at(Point::HandlerEntry);
    oracle::look();
    protocol().serve(&Hardware);
    perturb::at(Point::AfterAck);
}

/// One round trip of bare interrupts at a time.
static PINGING: AtomicBool = AtomicBool::new(false);
static PING: CachePadded<AtomicU32> = CachePadded::new(AtomicU32::new(0));
static PONG: [CachePadded<AtomicU32>; MAX_CPUS] = [const { CachePadded::new(AtomicU32::new(0)) }; MAX_CPUS];

/// Interrupts all other CPUs, and waits until each has stored an answer: the least that any shootdown by interrupt can
/// cost. The cycles it took, or `None` if another CPU is at it.
pub fn ping_all() -> Option<u64> {
    let _shield = Shield::new();
    let _ = crate::sync::may_wait(1);
    let _here = PreemptOff::new();
    if PINGING.swap(true, Ordering::Acquire) {
        return None;
    }
    let start = time::now();
    let generation = PING.load(Ordering::Relaxed).wrapping_add(1);
    PING.store(generation, Ordering::Release);
    let mut waiting = REACHABLE.load(Ordering::Relaxed).without(cpu::current_id());
    send_to(vector::PING, waiting);
    let mut turns = 0u32;
    while let Some(cpu) = waiting.lowest() {
        if PONG[cpu.index()].load(Ordering::Acquire) == generation {
            waiting.next();
            continue;
        }
        core::hint::spin_loop();
        turns = turns.wrapping_add(1);
        if turns.is_multiple_of(256) && time::now().saturating_sub(start) > time::patience() {
            report::unanswered("a bare interrupt", waiting);
        }
    }
    let took = time::now().saturating_sub(start);
    PINGING.store(false, Ordering::Release);
    stats::record(Latency::BareIpi, took);
    Some(took)
}

/// The bare interrupt's handler.
pub(crate) fn pong() {
    PONG[cpu::current_id().index()].store(PING.load(Ordering::Acquire), Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::Hardware;

    #[test]
    fn every_name_on_the_command_line_is_a_protocols() {
        let names = wire::cmdline::Protocol::ALL.iter().map(|protocol| protocol.name());
        assert!(
            names.clone().all(|name| smp::shootdown::by_name::<Hardware>(name, 2, 1).is_some_and(|p| p.name() == name))
        );
        assert_eq!(names.collect::<Vec<_>>(), smp::shootdown::NAMES);
    }
}
