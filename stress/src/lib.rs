//! Palisade's boot image: stress workloads, self-tests, measurement. Everything here uses the kernel as any other
//! program would; there is no `unsafe`.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod account;
mod barrier;
mod bench;
mod failure;
mod programs;
mod random;
mod results;
mod run;
mod selftest;
mod workload;

use wire::cmdline::Run;

/// What the image does: what the command line says.
///
/// # Errors
/// The promise that broke.
pub fn main() -> Result<(), &'static str> {
    match kernel::options().run {
        Run::Stress => run::stress(),
        Run::Test => selftest::run(kernel::options().test),
        Run::Bench => bench::run(),
    }
}
