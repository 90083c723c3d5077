//! Each fault that can be put back into the protocols is found by a model that passes without it (`loom.rs` runs them all).
//!
//! One test, because the fault that is armed is armed for the whole process.
#![cfg(all(feature = "loom", feature = "seeded-bugs"))]

#[expect(dead_code, reason = "of the scenarios some are for the other checker, or pass")]
mod model;

use model::explore::check;
use model::scenarios as run;
use smp::bug::Bug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn every_seeded_bug_is_found() {
    // What a model that fails says is of no interest here.
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        for (protocol, found) in find(*bug) {
            match found {
                Some((executions, by)) => {
                    println!("bug | {}, {protocol} | loom | execution {executions} | {by}", bug.name())
                }
                None => missed.push((bug.name(), protocol)),
            }
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// The protocols that ask by interrupts.
const ASKING: [&str; 4] = ["scoreboard", "counter", "broadcast", "batched"];

type Found = Vec<(&'static str, Option<(usize, String)>)>;

/// Looks for the fault in every protocol that has it.
fn find(bug: Bug) -> Found {
    let in_each = |bound, model: fn(&'static str)| -> Found {
        ASKING.into_iter().map(|name| (name, hunt(bug, bound, move || model(name)))).collect()
    };
    let only = |name, bound, model: fn()| -> Found { vec![(name, hunt(bug, bound, model))] };
    match bug {
        Bug::SkipShootdown | Bug::DropIpi | Bug::SkipACpu | Bug::FlushOneShort | Bug::SkipLocalFlush => {
            in_each(2, |name| run::initiators_and_targets(name, 2, 1, false, 33))
        }
        Bug::FreeBeforeAck => {
            let mut found = in_each(2, |name| run::initiators_and_targets(name, 2, 1, false, 33));
            found.extend(only("quiescent", 2, || run::initiators_and_targets("quiescent", 2, 1, false, 33)));
            found.extend(only("invlpgb", 2, || run::initiators_and_targets("invlpgb", 2, 1, false, 33)));
            found
        }
        Bug::AckBeforeFlush => in_each(3, |name| run::initiators_and_targets(name, 2, 1, false, 33)),
        Bug::ForgetCeiling => in_each(2, |name| run::initiators_and_targets(name, 2, 1, false, 0)),
        Bug::StrayAck => in_each(3, run::stray_interrupt),
        Bug::WrapUnsafe => only("scoreboard", 2, || run::unmaps_past_the_wrap("scoreboard")),
        Bug::LateCpu | Bug::IdleNoFlush => in_each(3, run::sleeper),
        Bug::BatchDrops => only("batched", 1, || run::initiators_and_targets("batched", 3, 2, false, 33)),
        Bug::SettleEarly => only("quiescent", 2, || run::deferred(false)),
        Bug::LostPending => only("the reaper", 3, || run::reaping::<3>(1)),
        Bug::SwitchWindow => in_each(3, |name| run::switches(name, false)),
        Bug::LazyNoFlush => in_each(3, |name| run::switches(name, true)),
        Bug::PartialOutOfOrder => only("scoreboard", 2, || run::overtaking("scoreboard")),
        Bug::TagKept => in_each(3, |name| run::comes_back_under_a_tag(name, 0, false)),
        Bug::TagsNotTold => in_each(3, |name| run::comes_back_under_a_tag(name, 1, false)),
        Bug::TablesFreedEarly => in_each(2, run::destroyed),
    }
}

/// Puts `bug` back and looks for it: after how many executions it was found, and by what.
fn hunt(bug: Bug, bound: usize, model: impl Fn() + Sync + Send + Copy + 'static) -> Option<(usize, String)> {
    let executions = Arc::new(AtomicUsize::new(0));
    let counted = executions.clone();
    smp::bug::arm(Some(bug));
    let end = std::thread::spawn(move || check(bound, &counted, model)).join();
    smp::bug::arm(None);
    let panic = end.err()?;
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    let first = text.unwrap_or("a panic").lines().next().unwrap_or_default();
    Some((executions.load(Ordering::Relaxed), first.chars().take(70).collect()))
}
