//! Palisade's library kernel: all of the running machine's hardware, and the `unsafe` that it takes.
//!
//! A boot image (the crate `stress`) names its main function with [`entry!`] and gets a machine with every CPU up, its
//! own page tables, preemptive [threads](thread) on guarded stacks, and [guarded mappings](mem). The protocols, TLB
//! shootdown and the hand-over of dead stacks, are the crate `smp`; this crate gives them a machine.
#![cfg_attr(not(test), no_std)]
#![deny(missing_debug_implementations)]
#![cfg_attr(
    not(target_os = "none"),
    expect(dead_code, reason = "on the host nothing boots, and most is called by what boots")
)]

extern crate alloc;

#[macro_use]
pub mod console;
pub mod boot;
pub mod bug;
pub mod cpu;
mod debug;
pub mod inject;
mod interleave;
pub mod interrupt;
pub mod mem;
#[cfg(feature = "misdeeds")]
pub mod misdeed;
#[cfg(not(feature = "misdeeds"))]
mod misdeed {
    //! No misdeeds.
    pub(crate) const fn passes(_: crate::mem::StackKind) {}
    pub(crate) const fn recurse_for_ever() {}
}
mod perturb;
pub mod record;
pub mod stats;
mod sync;
pub mod thread;
pub mod time;
pub mod trace;
mod trap;
pub mod user;

pub use boot::{exit, options};
pub use smp::{CpuId, CpuSet};
pub use sync::{SpinLock, SpinLockGuard};
pub use wire::record::Guard;

/// Names the function that the kernel runs, in the thread `main`, when the machine is up. Its answer ends the run.
///
/// ```no_run
/// kernel::entry!(main);
///
/// fn main() -> Result<(), &'static str> {
///     kernel::println!("{} CPUs", kernel::cpu::online().len());
///     Ok(())
/// }
/// ```
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[cfg(target_os = "none")]
        // SAFETY: no other symbol of the image has this name, and the kernel declares it with this signature.
        #[unsafe(no_mangle)]
        extern "Rust" fn palisade_main() -> Result<(), &'static str> {
            $main()
        }
    };
}
