//! What crosses the line between a Palisade guest and its host.
//!
//! Three things do: the kernel's command line going in ([`cmdline`]), framed records coming out on the second serial
//! port ([`record`], [`frame`]), the events of a trace among them ([`trace`]), and QEMU's exit code at the end ([`exit`]). Both sides use this one crate, so they
//! cannot disagree about a byte. For the same reason it has the numbers of the system calls ([`syscall`]), which cross between
//! the kernel and its user programs. It knows no hardware and no other crate of the workspace.
#![cfg_attr(not(any(test, feature = "host")), no_std)]
#![forbid(unsafe_code)]

pub mod cmdline;
pub mod debug;
pub mod exit;
pub mod frame;
pub mod histogram;
pub mod record;
pub mod syscall;
pub mod trace;

pub use cmdline::Options;
pub use histogram::{Histogram, Recorder};
pub use record::Record;

/// Version of the records. A decoder refuses a stream whose [`Record::Hello`] carries another one.
pub const VERSION: u16 = 3;
