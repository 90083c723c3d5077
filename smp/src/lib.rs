//! Palisade's protocols, free of hardware: TLB shootdown and the hand-over of dead stacks.
//!
//! The code here is what the kernel runs; host tests run the same code on simulated CPUs. It meets the machine through
//! one small trait, [`Machine`], and makes the wrong order not compile where it can: what was unmapped comes out of an
//! [`Unmapped`] only by a completed shootdown, and only a stack wrapped in [`OffStack`] can be given to the [`Reaper`].
#![cfg_attr(not(any(test, feature = "loom", feature = "shuttle")), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod bug;
pub mod cpu_set;
pub mod generation;
pub mod machine;
pub mod permit;
pub mod presence;
pub mod primitive;
pub mod quarantine;
pub mod ranges;
pub mod reaper;
pub mod request;
pub mod shootdown;
pub mod space;

pub use cpu_set::{AtomicCpuSet, CpuId, CpuSet};
pub use machine::{Machine, Step};
pub use permit::MayWait;
pub use quarantine::Quarantine;
pub use ranges::{PageRange, Ranges};
pub use reaper::{OffStack, Reaper};
pub use request::{Acked, Deferred, Unmapped};
pub use shootdown::Protocol;

/// The most CPUs that Palisade is built for: one machine word of set.
pub const MAX_CPUS: usize = 64;
