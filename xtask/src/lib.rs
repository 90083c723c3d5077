//! Palisade's host tool, `cargo xtask`: builds the kernel, boots it in QEMU, and makes sense of what it sends.
//!
//! It is a library so that the in-QEMU tests (`tests/guest.rs`) can boot guests as the commands do. Of the guest's code
//! it uses `wire` alone.

pub mod accelerator;
pub mod archive;
pub mod artifacts;
pub mod cmd;
pub mod error;
pub mod gdb;
pub mod guest_tests;
pub mod hunts;
pub mod image;
pub mod inspect;
pub mod json_file;
pub mod launch;
pub mod limine;
pub mod models;
pub mod options;
pub mod outcome;
pub mod qemu;
pub mod qmp;
pub mod report;
pub mod setup;
pub mod symbols;
pub mod trace;
pub mod watch;

pub use error::{Error, Result};
