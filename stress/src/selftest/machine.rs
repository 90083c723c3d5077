//! The machine as it was booted, and the ways in which a run ends.

use super::Test;
use crate::failure::{check, fail};
use crate::workload::Context;
use kernel::mem::frame_counts;
use kernel::thread::Builder;
use kernel::{cpu, misdeed};

pub const TESTS: &[Test] = &[
    ("boot", boot),
    ("write-xor-execute", write_xor_execute),
    ("a-broken-promise-fails-the-run", broken_promise),
    ("a-panic-stops-all-and-fails-the-run", panics),
    ("an-overflow-with-a-lock-held-is-a-panic", overflow_with_lock_held),
];

/// Every CPU runs a thread of its own.
fn boot(context: &Context) {
    for cpu in context.cpus {
        let seen = Builder::new().name("here").on(cpu).spawn(cpu::current_id).map(|handle| handle.join());
        check(seen == Ok(Ok(cpu)), "a pinned thread runs where it was pinned", format_args!("{seen:?}, not {cpu}"));
    }
    check(frame_counts().free > 1000, "there is memory", format_args!("{:?}", frame_counts()));
}

fn write_xor_execute(_: &Context) {
    check(!misdeed::write_to_constant(), "read-only data is read-only", format_args!("a write went through"));
    check(!misdeed::write_to_code(), "code is read-only", format_args!("a write went through"));
}

fn broken_promise(_: &Context) {
    fail("this one breaks on purpose", format_args!("as it should"));
}

fn panics(context: &Context) {
    for cpu in context.cpus {
        let _ = Builder::new().name("panics").on(cpu).spawn(|| panic!("on purpose"));
    }
    misdeed::spin_masked(&|| false);
}

fn overflow_with_lock_held(_: &Context) {
    let _ = Builder::new().name("holds a lock").spawn(misdeed::overflow_with_lock_held).map(|handle| handle.join());
}
