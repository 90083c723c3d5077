//! What is unmapped and must not be used again yet: what a request holds, and the place where it waits when the protocol
//! lets nobody wait for it.
//!
//! ```text
//!   unmapped ──▶ shot down, the caller waiting ──────────────────────▶ free
//!         └────▶ deferred ──▶ quarantine ──▶ settled, seen by `collect` ─┘
//!                                  └──▶ too much of it: one request for all (`hurry`)
//! ```
//! With `oracle=on`, what is free is kept aside for a while first ([`oracle`]).

use super::frames::{self, FrameList};
use super::guarded;
use super::oracle;
use super::slots::{self, SlotList};
use super::tlb;
use crate::bug;
use crate::cpu;
use crate::perturb::{self, Point};
use crate::sync::SpinLock;
use crate::thread::{PreemptOff, Shield};
use crate::trace::{Event, emit};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use smp::reaper::Lock;
use smp::{Deferred, MayWait, Quarantine, Ranges, Unmapped};
use wire::cmdline::Bug;

/// The most unmaps that can wait. A stack each: what four CPUs leave in a few ticks.
const ROOM: usize = 128;

/// What a request holds.
pub(super) struct Held {
    pub(super) frames: FrameList,
    pub(super) slots: SlotList,
    /// When the unmapping began.
    pub(super) begun: u64,
    pub(super) pages: u32,
}

impl Held {
    #[cold]
    fn take(&mut self) -> Self {
        let nothing = Self { frames: FrameList::empty(), slots: SlotList::empty(), begun: self.begun, pages: 0 };
        core::mem::replace(self, nothing)
    }
}

static WAITING: SpinLock<Quarantine<Held, ROOM>> = SpinLock::new("custody", Quarantine::empty());
/// How many unmaps were deferred and are not free yet; those too that somebody is just freeing.
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// The most pages that may wait.
static MOST_PAGES: AtomicU32 = AtomicU32::new(1024);

/// Sets how many pages may wait.
pub(crate) fn init(most_pages: u32) {
    MOST_PAGES.store(most_pages, Ordering::Relaxed);
}

/// Has the CPUs drop what was unmapped, and frees it: at once or later, as the protocol has it. The caller may wait for other
/// CPUs. The page-table entries of `ranges` are cleared. `held` is lent to the request and empty afterwards: moving it in and out
/// would cost as much as all else.
#[inline(always)]
pub(super) fn release(ranges: &Ranges, held: &mut Held, permit: &mut MayWait) {
    if tlb::defers() {
        return defer(Unmapped::new(ranges, held.take()), permit);
    }
    let begun = held.begun;
    let _here = PreemptOff::new();
    let held = tlb::shoot_down(Unmapped::new(ranges, held), begun, permit).release();
    if oracle::is_on() {
        let by = oracle::has_asked();
        free(held.take(), by);
    } else {
        before_free(held);
        give_back(held);
    }
}

#[cold]
fn defer(unmapped: Unmapped<'_, Held>, permit: &mut MayWait) {
    match tlb::defer(unmapped) {
        Ok(deferred) => put_aside(deferred, permit),
        Err(unmapped) => {
            let begun = unmapped.held().begun;
            let _here = PreemptOff::new();
            let held = tlb::shoot_down(unmapped, begun, permit).release();
            free(held, oracle::has_asked());
        }
    }
}

/// Puts what was deferred into the quarantine; makes room in it first, if there is none.
fn put_aside(deferred: Deferred<Held>, permit: &mut MayWait) {
    collect();
    COUNT.fetch_add(1, Ordering::Relaxed);
    let mut next = Some(deferred);
    while let Some(deferred) = next {
        let (refused, pages) = WAITING.lend(permit, |waiting| (waiting.put(deferred), waiting.pages()));
        let too_much = refused.is_some() || pages > MOST_PAGES.load(Ordering::Relaxed).into();
        next = refused;
        // When it is done there is room, unless others have put more in: then again.
        if too_much {
            hurry(permit);
        }
    }
}

/// Frees what has settled meanwhile. Waits for nobody.
pub(crate) fn collect() {
    while COUNT.load(Ordering::Relaxed) > 0 {
        // Between taking it out and freeing it, this is all that knows of it.
        let _shield = Shield::new();
        let settled = tlb::take_settled(&mut WAITING.lock());
        let Some(held) = settled else { return };
        free_deferred(held);
    }
}

/// Frees all that waits, by one request with interrupts. How many unmaps it was. The caller may wait for other CPUs.
pub(crate) fn hurry(permit: &mut MayWait) -> usize {
    if COUNT.load(Ordering::Relaxed) == 0 {
        return 0;
    }
    let _shield = Shield::new();
    let _here = PreemptOff::new();
    let marked = WAITING.lend(permit, |waiting| waiting.hurry(tlb::flush_ceiling()));
    let asked = tlb::shoot_down_marked(marked, permit);
    cpu::this_racy().stats.hurried.add(1);
    let mut count = 0;
    loop {
        let taken = WAITING.lend(permit, |waiting| waiting.take_asked(&asked));
        let Some(held) = taken else { return count };
        free_deferred(held);
        count += 1;
    }
}

/// How many unmaps were deferred and are not free yet.
pub(crate) fn waiting() -> usize {
    COUNT.load(Ordering::Acquire)
}

fn free_deferred(held: Held) {
    tlb::record_deferred(held.pages, held.begun);
    free(held, oracle::By::UNKNOWN);
    // Release: whoever sees that nothing waits any more sees it freed.
    COUNT.fetch_sub(1, Ordering::Release);
}

/// Every CPU has acknowledged it.
#[inline(always)]
pub(super) fn free(held: Held, by: oracle::By) {
    before_free(&held);
    if let Some(mut held) = oracle::keep(held, by) {
        give_back(&mut held);
    }
}

#[inline(always)]
fn before_free(held: &Held) {
    perturb::in_a_thread(Point::BeforeFree);
    if bug::armed(Bug::ClearAfterFlush) {
        held.slots.iter().for_each(guarded::clear_late);
    }
}

/// It may be used again.
#[inline(always)]
pub(super) fn give_back(held: &mut Held) {
    // By count, and not by the clock, whose lowest bits may not change during a run.
    static FREED: AtomicU32 = AtomicU32::new(1);
    if bug::armed(Bug::FrameLeak) && FREED.fetch_add(1, Ordering::Relaxed).is_multiple_of(64) {
        frames::disown(held.take().frames);
    } else {
        frames::free_all(&mut held.frames);
    }
    while let Some(slot) = held.slots.pop() {
        emit(Event::Free { slot: slot.into_bits() });
        slots::free(slot);
    }
}
