//! Where dead stacks wait to be reaped: the policy that `reaping=` chooses.
//!
//! ```text
//!   handoff   one list under one spinlock. Whoever ends takes all that the ones before have left, then leaves its own.
//!   per-cpu   a list for each CPU. A CPU takes its own when that is full, eight stacks for one shootdown, and shares no
//!             lock with others. Idle CPUs, and whoever lacks memory, take from all.
//! ```
//! Either way a list is a [`Reaper`]: stacks get in as [`OffStack`] and come out by value, exactly once. And either way
//! there is room: preemption is off from [`take_before_leaving`] to [`leave`].

use crate::cpu;
use crate::mem::slots::{SlotId, SlotList};
use crate::sync::SpinLock;
use core::sync::atomic::{AtomicBool, Ordering};
use crossbeam_utils::CachePadded;
use smp::reaper::Pending;
use smp::{MAX_CPUS, MayWait, OffStack, Reaper};
use wire::cmdline::Reaping;

/// A stack whose thread has ended; still mapped, and its slot names the thread as owner. For readers outside it is the address of
/// what begins with the slot's number.
#[repr(transparent)]
pub(super) struct DeadStack(pub(super) SlotId);

/// Unmaps stacks, and says how many they were.
pub(super) type Reap = fn(SlotList, &mut MayWait) -> usize;

/// Stacks that a CPU keeps for itself: as many as one request lists.
const KEPT: usize = smp::ranges::MAX_RANGES;

type Stacks<const N: usize> = SpinLock<Pending<DeadStack, N>>;
type List<const N: usize> = Reaper<Stacks<N>, N>;

static HANDOFF: List<MAX_CPUS> = Reaper::new(SpinLock::new("reaper", Pending::none()));
static PER_CPU: [CachePadded<List<KEPT>>; MAX_CPUS] =
    [const { CachePadded::new(Reaper::new(SpinLock::new("reaper", Pending::none()))) }; MAX_CPUS];
static IS_PER_CPU: AtomicBool = AtomicBool::new(false);

/// Chooses the policy. Before any thread ends.
pub(crate) fn init(reaping: Reaping) {
    IS_PER_CPU.store(reaping == Reaping::PerCpu, Ordering::Relaxed);
}

fn is_per_cpu() -> bool {
    IS_PER_CPU.load(Ordering::Relaxed)
}

fn own() -> &'static List<KEPT> {
    &PER_CPU[cpu::current_id().index()]
}

fn online() -> impl Iterator<Item = &'static List<KEPT>> {
    cpu::all().map(|cpu| &*PER_CPU[cpu.id().index()])
}

/// Leaves a stack. In the switch epilogue.
pub(super) fn leave(stack: OffStack<DeadStack>) {
    let left = if is_per_cpu() { own().leave(stack).is_ok() } else { HANDOFF.leave(stack).is_ok() };
    assert!(left, "more stacks are pending than there is room for");
}

/// Stacks that wait, at a glance.
pub(super) fn count() -> usize {
    if is_per_cpu() { online().map(|list| list.count()).sum() } else { HANDOFF.count() }
}

/// Whether something has to be reaped before this CPU leaves one more. Preemption is off.
#[inline(always)]
pub(super) fn has_to_be_taken() -> bool {
    if is_per_cpu() { own().count() >= KEPT } else { HANDOFF.count() > 0 }
}

/// Gives `reap` what has to be reaped before this CPU leaves one more. Preemption is off.
#[inline(always)]
pub(super) fn take_before_leaving(permit: &mut MayWait, reap: Reap) -> usize {
    if is_per_cpu() { take(own(), permit, reap) } else { take(&HANDOFF, permit, reap) }
}

/// Gives `reap` all that wait, list by list. Preemption is off.
pub(super) fn take_all(permit: &mut MayWait, reap: Reap) -> usize {
    if is_per_cpu() { online().map(|list| take(list, permit, reap)).sum() } else { take(&HANDOFF, permit, reap) }
}

#[inline(always)]
fn take<const N: usize>(list: &List<N>, permit: &mut MayWait, reap: Reap) -> usize {
    let mut taken = SlotList::empty();
    #[cfg(feature = "seeded-bugs")]
    if crate::bug::armed(wire::cmdline::Bug::ShootdownUnderLock) {
        let taken = core::cell::RefCell::new(taken);
        let keep = |dead: DeadStack| taken.borrow_mut().push(dead.0);
        list.take_all_under_lock(keep, || _ = reap(taken.replace(SlotList::empty()), permit));
        return 0;
    }
    if list.count() == 0 {
        return 0;
    }
    list.take_all(permit, |dead: DeadStack| taken.push(dead.0));
    reap(taken, permit)
}

/// For readers outside: the first list's stacks and their number, how many lists there are, and how far apart.
pub(crate) fn table() -> [u64; 4] {
    fn places<const N: usize>(list: &List<N>) -> (u64, u64) {
        list.with_pending(|pending| {
            let (stacks, count) = pending.places();
            (stacks as u64, count as u64)
        })
    }
    let (stacks, count) = if is_per_cpu() { places(&PER_CPU[0]) } else { places(&HANDOFF) };
    let (lists, apart) = if is_per_cpu() { (MAX_CPUS, size_of::<CachePadded<List<KEPT>>>()) } else { (1, 0) };
    [stacks, count, lists as u64, apart as u64]
}
