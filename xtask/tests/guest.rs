//! The in-QEMU tests as tests of the workspace: listed, filtered and timed by name, each in a machine of its own.

use libtest_mimic::{Arguments, Failed, Trial};
use std::io::Write;
use xtask::guest_tests::{self, Expect, GuestTest};
use xtask::launch::Launch;
use xtask::outcome::{Outcome, Verdict};
use xtask::qemu::Medium;
use xtask::watch::{Nobody, watch};

fn main() {
    let (filters, rest) = split(std::env::args());
    let mut arguments = Arguments::from_iter(rest);
    // More than one filter is more than the library knows.
    let wanted = |name: &str| filters.len() < 2 || filters.iter().any(|filter| name.contains(filter.as_str()));
    if let [one] = filters.as_slice() {
        arguments.filter = Some(one.clone());
    }
    // Guests have more CPUs than the host; two at a time would only slow each other down.
    arguments.test_threads.get_or_insert(1);
    let wanted = guest_tests::all().filter(|(name, _)| wanted(name));
    let trials = wanted.map(|(name, test)| Trial::test(name, move || run(&test))).collect();
    libtest_mimic::run(&arguments, trials).exit();
}

/// The filters among the arguments, and the rest.
fn split(arguments: impl Iterator<Item = String>) -> (Vec<String>, Vec<String>) {
    const WITH_VALUE: [&str; 5] = ["--format", "--test-threads", "--color", "--logfile", "--skip"];
    let (mut filters, mut rest) = (Vec::new(), Vec::<String>::new());
    for (number, argument) in arguments.enumerate() {
        let is_value = rest.last().is_some_and(|last| WITH_VALUE.contains(&last.as_str()));
        let is_filter = number > 0 && !argument.starts_with('-') && !is_value;
        if is_filter { &mut filters } else { &mut rest }.push(argument);
    }
    (filters, rest)
}

fn run(test: &GuestTest) -> Result<(), Failed> {
    let mut launch = Launch::prepare(&test.machine(), test.kind, test.words).map_err(|error| error.to_string())?;
    let mut file = tempfile::NamedTempFile::new()?;
    if let (Some(contents), Medium::Direct { kernel, .. }) = (test.no_kernel, &mut launch.guest.medium) {
        file.write_all(contents)?;
        *kernel = file.path().to_owned();
    }
    let bare = launch.kernel().to_owned();
    if let (true, Medium::Direct { kernel, .. }) = (test.bare, &mut launch.guest.medium) {
        *kernel = bare;
    }
    let (outcome, end) =
        watch(&launch.guest, &launch.symbols, test.limits(), &mut Nobody).map_err(|error| error.to_string())?;
    let verdict = outcome.judge(&end);
    let right = match (test.expect, &verdict) {
        (Expect::Pass, Verdict::Passed) => true,
        (Expect::Fail(says), Verdict::Broken(_)) | (Expect::CannotRun(says), Verdict::CannotRun(_)) => {
            said(&outcome, says)
        }
        _ => false,
    };
    let brief = test.no_kernel.is_none() || outcome.lines.len() == 1;
    if right && brief {
        return Ok(());
    }
    let told = outcome.lines.join("\n");
    Err(format!(
        "expected {:?}, but: {verdict:?}\nthe guest ('{}') said:\n{told}\n{}",
        test.expect, test.words, outcome.words
    )
    .into())
}

/// Whether the guest said it in one line: on serial 1 or in a record. An ellipsis in it stands for anything.
fn said(outcome: &Outcome, what: &str) -> bool {
    let records = outcome.failures.iter().flat_map(|(promise, detail)| [promise, detail]);
    let mut all = outcome.lines.iter().chain(records).chain(outcome.panics.iter().map(|(_, message)| message));
    all.any(|line| {
        let mut rest = Some(line.as_str());
        what.split('…').all(|part| {
            rest = rest.and_then(|rest| rest.split_once(part)).map(|(_, after)| after);
            rest.is_some()
        })
    })
}
