//! The in-QEMU tests: for each promise, the machine to boot, the words to give the kernel, and what has to come of it.
//!
//! To add one: write the check in `stress/src/selftest/`, then its row in the file here that has its theme. A row with a `bug`
//! shows that the test above it can fail.

mod boot;
mod ends;
mod guards;
mod many;
mod mappings;
mod shootdown;
mod stacks;
mod stress;
mod threads;
mod user;

use crate::artifacts::Kind;
use crate::options::{Accel, Machine};
use crate::watch::Limits;
use std::time::Duration;

/// What has to come of a test.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    /// Every promise held.
    Pass,
    /// A promise broke, and the guest said this in one line; an ellipsis stands for anything.
    Fail(&'static str),
    /// The guest refused to run, and said this.
    CannotRun(&'static str),
}

/// A test in QEMU.
#[derive(Clone, Copy, Debug)]
pub struct GuestTest {
    /// Its row's name: the promise.
    name: &'static str,
    /// The kernel's command line.
    pub words: &'static str,
    /// CPUs.
    pub smp: u32,
    /// Other numbers of CPUs on which it runs besides, each a test of its own.
    others: &'static [u32],
    /// MiB of memory.
    pub mem: u32,
    /// What executes it.
    pub accel: Accel,
    /// Which image.
    pub kind: Kind,
    /// Seconds after which it is taken to hang, on a host of two cores.
    pub limit: u64,
    /// Seconds of silence after which it is, likewise.
    pub silence: u64,
    /// What has to come of it.
    pub expect: Expect,
    /// Given to the direct loader in place of the kernel file. It must say why that is none in one line.
    pub no_kernel: Option<&'static [u8]>,
    /// The direct loader gets the bare kernel file, without any module.
    pub bare: bool,
}

impl GuestTest {
    /// The machine.
    #[must_use]
    pub fn machine(&self) -> Machine {
        Machine { smp: self.smp, mem: self.mem, accel: self.accel, ..Machine::default() }
    }

    /// The limits.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        Limits { total: Some(Duration::from_secs(self.limit)), silence: Duration::from_secs(self.silence) }
    }

    const fn smp(mut self, smp: u32) -> Self {
        self.smp = smp;
        self
    }

    const fn silence_s(mut self, silence: u64) -> Self {
        self.silence = silence;
        self
    }

    /// On 1, 2, 4 and 8 CPUs.
    const fn on_each(mut self) -> Self {
        self.others = &[1, 2, 8];
        self.slow()
    }

    /// On 2, 4 and 8 CPUs: what it is about takes more than one.
    const fn on_several(mut self) -> Self {
        self.others = &[2, 8];
        self.slow()
    }

    /// Guests with more CPUs than the host take longer.
    const fn slow(mut self) -> Self {
        self.limit = 120;
        self
    }

    const fn mem(mut self, mem: u32) -> Self {
        self.mem = mem;
        self
    }

    const fn accel(mut self, accel: Accel) -> Self {
        self.accel = accel;
        self
    }

    const fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    const fn without_modules(mut self) -> Self {
        self.bare = true;
        self
    }

    const fn limit_s(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }
}

const fn test(name: &'static str, words: &'static str, expect: Expect) -> GuestTest {
    GuestTest {
        name,
        words,
        smp: 4,
        others: &[],
        mem: 256,
        accel: Accel::Tcg,
        kind: Kind::Release,
        limit: 60,
        silence: 120,
        expect,
        no_kernel: None,
        bare: false,
    }
}

/// A promise that holds.
const fn holds(name: &'static str, words: &'static str) -> GuestTest {
    test(name, words, Expect::Pass)
}

/// A file that is no kernel, and what the direct loader says of it.
const fn refuses(name: &'static str, contents: &'static [u8], says: &'static str) -> GuestTest {
    let mut test = test(name, "", Expect::CannotRun(says));
    test.no_kernel = Some(contents);
    test
}

/// A fault put back, and what the guest says of it.
const fn sees(name: &'static str, words: &'static str, says: &'static str) -> GuestTest {
    let mut test = test(name, words, Expect::Fail(says));
    test.kind = Kind::SeededBugs;
    test
}

/// A promise that holds, asked of an image in which allocations can be made to fail.
const fn holds_injected(name: &'static str, words: &'static str) -> GuestTest {
    let mut test = holds(name, words);
    test.kind = Kind::SeededBugs;
    test
}

/// A CPU writes a byte beside a stack of its own, while it is on it, and what the guest says of it.
const fn beside(name: &'static str, words: &'static str, says: &'static str) -> GuestTest {
    test(name, words, Expect::Fail(says)).smp(2)
}

/// The rows, by theme.
const THEMES: &[&[GuestTest]] = &[
    boot::ROWS,
    guards::ROWS,
    stacks::ROWS,
    threads::ROWS,
    many::ROWS,
    ends::ROWS,
    mappings::ROWS,
    shootdown::ROWS,
    user::ROWS,
    stress::ROWS,
];

/// All of them, each with its name: that of its row, and how many CPUs there are, if the row has several numbers of them.
pub fn all() -> impl Iterator<Item = (String, GuestTest)> {
    THEMES.iter().copied().flatten().flat_map(|row| {
        let others = row.others.iter().map(|&smp| {
            let name = format!("{}-on-{smp}-{}", row.name, if smp == 1 { "cpu" } else { "cpus" });
            (name, row.smp(smp))
        });
        core::iter::once((row.name.to_owned(), *row)).chain(others)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<_> = all().map(|(name, _)| name).collect();
        assert_eq!(names.len(), all().count());
    }

    #[test]
    fn only_those_that_expect_it_have_words_that_the_kernel_refuses() {
        for (_, test) in all() {
            let refused = wire::Options::parse(test.words).is_err();
            assert!(!refused || matches!(test.expect, Expect::CannotRun(_)), "{}", test.name);
        }
    }
}
