//! The stress workloads, one a file. Each does its work in rounds; a round leaves nothing behind.

mod abort_storm;
mod cross_abort;
mod latency;
mod many;
mod overflow;
mod space_storm;
mod trace_cost;
mod unmap_storm;
mod user_storm;

pub use abort_storm::touch_whole_stack;
pub use many::send as send_cost_of_many;
pub use overflow::expect_guard;
pub use trace_cost::send as send_trace_cost;
pub use unmap_storm::run as change_under_all_eyes;

use crate::failure;
use alloc::vec::Vec;
use kernel::cpu;
use kernel::thread::{Builder, Death, JoinHandle, SpawnError};
use smp::CpuSet;
use wire::cmdline::Workload;

/// What all workloads need to know.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Where all pseudo-random choices start.
    pub seed: u64,
    /// The CPUs that are up.
    pub cpus: CpuSet,
}

impl Context {
    /// For this machine.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, cpus: cpu::online() }
    }
}

/// What `mixed` is made of.
const MIXED: [Workload; 6] = [
    Workload::AbortStorm,
    Workload::CrossAbort,
    Workload::UnmapStorm,
    Workload::SpaceStorm,
    Workload::Overflow,
    Workload::UserStorm,
];

/// One round.
pub fn round(workload: Workload, context: &Context, round: u64) {
    match workload {
        Workload::Mixed => mixed(context, round),
        Workload::AbortStorm => abort_storm::round(context, round),
        Workload::CrossAbort => cross_abort::round(context, round),
        Workload::UnmapStorm => unmap_storm::round(context, round),
        Workload::Overflow => overflow::round(context, round),
        Workload::SpaceStorm => space_storm::round(context, round),
        Workload::UserStorm => user_storm::round(context, round),
        Workload::Many => many::round(context, round),
        Workload::Latency => latency::round(context, round),
        Workload::TraceCost => trace_cost::round(context, round),
    }
}

/// Each of the others by itself, then all at once.
fn mixed(context: &Context, at: u64) {
    let turn = (at % (MIXED.len() as u64 + 1)) as usize;
    if let Some(one) = MIXED.get(turn) {
        return round(*one, context, at);
    }
    let drivers: Vec<_> = MIXED
        .iter()
        .filter_map(|workload| {
            let context = *context;
            spawned(Builder::new().name(workload.name()).stack_pages(4).spawn(move || round(*workload, &context, at)))
        })
        .collect();
    drivers.into_iter().for_each(expect_end);
}

/// The handle, or a broken promise.
fn spawned<T>(handle: Result<JoinHandle<T>, SpawnError>) -> Option<JoinHandle<T>> {
    handle.map_err(|error| failure::fail("threads can be started", format_args!("{error}"))).ok()
}

/// Joins a thread that should have returned.
fn expect_end<T>(handle: JoinHandle<T>) {
    if let Err(death) = handle.join() {
        failure::fail("a thread that does nothing wrong lives", format_args!("{death}"));
    }
}

/// Joins a thread that should have ended by itself, or by another.
fn expect_death(handle: JoinHandle<()>, expected: Death) {
    let end = handle.join();
    failure::check(end == Err(expected), "a thread's end is told as it was", format_args!("{end:?}, not {expected:?}"));
}
