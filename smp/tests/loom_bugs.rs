//! Each fault that can be put back into the protocols is found by a model that passes without it (`loom.rs` runs them all).
//!
//! One test, because the fault that is armed is armed for the whole process.
#![cfg(all(feature = "loom", feature = "seeded-bugs"))]

mod model;

use model::explore::hunt;
use model::scenarios as run;
use smp::bug::Bug;

#[test]
fn every_seeded_bug_is_found() {
    // What a model that fails says is of no interest here.
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        let found = match bug {
            Bug::SkipShootdown | Bug::FreeBeforeAck | Bug::DropIpi | Bug::SkipACpu | Bug::FlushOneShort => {
                hunt(*bug, 2, || run::initiators_and_targets("scoreboard", 2, 1, false, 33))
            }
            Bug::AckBeforeFlush => hunt(*bug, 3, || run::initiators_and_targets("scoreboard", 2, 1, false, 33)),
            Bug::ForgetCeiling => hunt(*bug, 2, || run::initiators_and_targets("scoreboard", 2, 1, false, 0)),
            Bug::SkipLocalFlush => hunt(*bug, 2, || run::initiators_and_targets("scoreboard", 2, 1, false, 33)),
            Bug::StrayAck => hunt(*bug, 3, || run::stray_interrupt("scoreboard")),
            Bug::WrapUnsafe => hunt(*bug, 2, || run::unmaps_past_the_wrap("scoreboard")),
            Bug::LateCpu | Bug::IdleNoFlush => hunt(*bug, 3, || run::sleeper("scoreboard")),
            Bug::BatchDrops => hunt(*bug, 1, || run::initiators_and_targets("batched", 3, 2, false, 33)),
            Bug::SettleEarly => hunt(*bug, 2, || run::deferred(false)),
            Bug::LostPending => hunt(*bug, 3, || run::reaping::<3>(1)),
            Bug::SwitchWindow => hunt(*bug, 3, || run::switches("scoreboard", false)),
            Bug::LazyNoFlush => hunt(*bug, 3, || run::switches("scoreboard", true)),
            Bug::PartialOutOfOrder => hunt(*bug, 2, || run::overtaking("scoreboard")),
            Bug::TablesFreedEarly => hunt(*bug, 2, || run::destroyed("scoreboard")),
        };
        match found {
            Some((executions, by)) => println!("bug | {} | loom | execution {executions} | {by}", bug.name()),
            None => missed.push(bug.name()),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
