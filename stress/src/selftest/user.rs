//! User threads.

use super::Test;
use crate::failure::check;
use crate::workload::Context;
use kernel::user::{Process, Program};

pub const TESTS: &[Test] = &[("a-program-prints-and-ends-with-its-code", hello)];

fn hello(_: &Context) {
    let program = Program::named("hello").expect("hello is there");
    let process = Process::load(&program).expect("it loads");
    let end = process.thread().arguments([42, 0]).spawn().map(|handle| handle.join());
    check(end == Ok(Ok(42)), "x", format_args!("{end:?}"));
}
