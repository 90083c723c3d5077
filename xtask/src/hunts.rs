//! The seeded bugs and where each is hunted: the configuration of the stress run that has to find it.
//!
//! A bug of one protocol is hunted with that protocol, one of sleeping CPUs with CPUs that sleep. To add one: a row here,
//! its name in [`wire::cmdline::Bug`].

use wire::cmdline::Bug;

/// A bug and its hunting ground.
#[derive(Clone, Copy, Debug)]
pub struct Hunt {
    /// The bug.
    pub bug: Bug,
    /// What the kernel is told beside the seed, the time and the perturbation.
    pub words: &'static str,
    /// It breaks a rule that only a trace shows: the run is traced, and the trace is checked.
    pub by_rules: bool,
    /// Where it cannot show in QEMU, why not.
    pub not_here: Option<&'static str>,
    /// It shows in the account at the end: the run takes a sixth of the time, so that the end, which waits for
    /// what is missing, comes in time.
    pub by_account: bool,
}

const fn hunt(bug: Bug, words: &'static str) -> Hunt {
    Hunt { bug, words, by_rules: false, by_account: false, not_here: None }
}

impl Hunt {
    const fn by_account(mut self) -> Self {
        self.by_account = true;
        self
    }

    const fn not_here(mut self, why: &'static str) -> Self {
        self.not_here = Some(why);
        self
    }

    const fn by_rules(mut self) -> Self {
        self.by_rules = true;
        self
    }
}

const NO_PCIDS: &str = "not here: QEMU's TCG has no PCIDs; found by loom";

const NOT_LOOKED_AT: &str =
    "not here: no workload looks at what its stack held before; found by the test cache::contents";

/// All of them.
pub const ALL: &[Hunt] = &[
    hunt(Bug::PublishBeforeSwitch, ""),
    hunt(Bug::JoinBeforeOffStack, ""),
    hunt(Bug::SkipShootdown, ""),
    hunt(Bug::FreeBeforeAck, ""),
    hunt(Bug::ShootdownUnderLock, ""),
    hunt(Bug::LostPending, "").by_account(),
    hunt(Bug::DropIpi, ""),
    hunt(Bug::AckBeforeFlush, ""),
    hunt(Bug::StrayAck, ""),
    hunt(Bug::LateCpu, "lazy-idle=on"),
    hunt(Bug::IdleNoFlush, "lazy-idle=on"),
    hunt(Bug::SkipLocalFlush, ""),
    hunt(Bug::FlushOneShort, ""),
    hunt(Bug::ForgetCeiling, ""),
    hunt(Bug::SkipACpu, ""),
    hunt(Bug::WrapUnsafe, "workload=abort-storm"),
    hunt(Bug::BatchDrops, "protocol=batched"),
    hunt(Bug::SettleEarly, "protocol=quiescent").by_rules(),
    hunt(Bug::VaReuseEarly, "workload=space-storm"),
    hunt(Bug::SlotReuseEarly, ""),
    hunt(Bug::ClearAfterFlush, ""),
    hunt(Bug::DoubleReap, ""),
    hunt(Bug::FrameLeak, "").by_account(),
    hunt(Bug::LostWakeup, ""),
    hunt(Bug::LockOrder, ""),
    hunt(Bug::LockRecursion, ""),
    hunt(Bug::IrqUnsafe, ""),
    hunt(Bug::TurnInInterrupt, ""),
    hunt(Bug::BootOverflow, ""),
    hunt(Bug::CacheKeepsContents, "").not_here(NOT_LOOKED_AT),
    hunt(Bug::SwitchWindow, "workload=space-storm"),
    hunt(Bug::PartialOutOfOrder, "workload=space-storm"),
    hunt(Bug::LazyNoFlush, "workload=space-storm"),
    hunt(Bug::TagKept, "").not_here(NO_PCIDS),
    hunt(Bug::TagsNotTold, "").not_here(NO_PCIDS),
    hunt(Bug::TablesFreedEarly, "workload=space-storm"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_is_hunted() {
        for bug in Bug::ALL {
            assert_eq!(ALL.iter().filter(|hunt| hunt.bug == *bug).count(), 1, "{bug}");
        }
    }
}
