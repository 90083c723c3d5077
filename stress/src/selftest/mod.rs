//! Self-tests: each is a promise, named, run in a machine of its own by `run=test test=NAME`. The host knows on how many
//! CPUs, with which options and with which seeded bugs to run each, and what has to come of it.

mod aborts;
mod by_address;
mod cache;
mod costs;
mod edges;
mod exits;
mod guards;
mod hangs;
mod in_turn;
mod interrupts;
mod joins;
mod lending;
mod lent;
mod locks;
mod looks;
mod machine;
mod mappings;
mod objects;
mod priorities;
mod running_out;
mod scheduling;
mod shootdown;
mod spaces;
mod stacks;
mod torture;
mod tracing;
mod user;
mod user_faults;

use crate::account::Account;
use crate::failure;
use crate::workload::Context;
use kernel::thread::{self, Handle, State};
use kernel::{println, record};
use wire::Record;

/// A promise's name, and what checks it.
type Test = (&'static str, fn(&Context));

const TESTS: &[&[Test]] = &[
    machine::TESTS,
    guards::TESTS,
    stacks::TESTS,
    exits::TESTS,
    aborts::TESTS,
    joins::TESTS,
    objects::TESTS,
    lent::TESTS,
    looks::TESTS,
    interrupts::TESTS,
    scheduling::TESTS,
    lending::TESTS,
    priorities::TESTS,
    torture::TESTS,
    mappings::TESTS,
    by_address::TESTS,
    cache::TESTS,
    costs::TESTS,
    running_out::TESTS,
    in_turn::TESTS,
    shootdown::TESTS,
    spaces::TESTS,
    hangs::TESTS,
    edges::TESTS,
    tracing::TESTS,
    locks::TESTS,
    user::TESTS,
    user_faults::TESTS,
];

/// Waits until this thread, which nobody joins, is over: the account does not know it any more, or waits for it.
fn until_over(thread: Handle) {
    while !matches!(thread.state(), State::Dead | State::Gone) {
        thread::yield_now();
    }
}

/// Waits until this thread waits, or is over.
fn until_parked(thread: Handle) {
    while !matches!(thread.state(), State::Parked | State::Dead | State::Gone) {
        thread::yield_now();
    }
}

/// Runs the test of this name; whatever it checks, nothing may be left behind.
///
/// # Errors
/// The promise that broke, or that there is no such test.
pub fn run(name: &str) -> Result<(), &'static str> {
    let all = || TESTS.iter().copied().flatten();
    if name == "list" {
        all().for_each(|(known, _)| println!("{known}"));
        return Ok(());
    }
    let Some((name, test)) = all().find(|(known, _)| *known == name) else {
        println!("there is no test '{name}'; test=list names them");
        return Err("there is no such test");
    };
    println!("test {name}");
    let context = Context::new(kernel::options().seed);
    let before = Account::now();
    test(&context);
    before.settle(&Account::now());
    let verdict = failure::verdict();
    record::send(&Record::Test { name, passed: verdict.is_ok() });
    verdict
}
