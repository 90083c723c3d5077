//! The kernel's command line: `key=value` words, the same from Limine and from `qemu -append`.
//!
//! The host writes it with [`Options`]' `Display`, the guest reads it with [`Options::parse`]; a word that is unknown,
//! or that has a bad value, is an error that names the word and what was expected.

mod names;

use crate::trace::Categories;
use core::fmt;
pub use names::{Bug, Protocol, Reaping, Run, Trace, TraceDump, Workload};

/// Everything that can be said on the command line.
///
/// `'a`: the test's name is borrowed from the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options<'a> {
    /// `run=`: what to do.
    pub run: Run,
    /// `test=`: which self-test, with `run=test`.
    pub test: &'a str,
    /// `workload=`: which stress workload.
    pub workload: Workload,
    /// `protocol=`: which shootdown protocol.
    pub protocol: Protocol,
    /// `seed=`: where the workloads' pseudo-random choices start.
    pub seed: u64,
    /// `seconds=`: how long to run, if `rounds` is 0.
    pub seconds: u32,
    /// `rounds=`: how many rounds to run; 0 means by time.
    pub rounds: u64,
    /// `stack-pages=`: size of the threads' stacks, in 4 KiB pages.
    pub stack_pages: u32,
    /// `guard-pages=`: size of each guard, in 4 KiB pages.
    pub guard_pages: u32,
    /// `stack-offset=`: threads begin up to so many bytes below the top of their stacks, each at another place.
    pub stack_offset: u32,
    /// `tick-hz=`: timer ticks a second on each CPU.
    pub tick_hz: u32,
    /// `delay=`: busy iterations between leaving the run queue and leaving the stack, on every exit.
    pub delay: u32,
    /// `flush-ceiling=`: a request for more pages than this flushes everything.
    pub flush_ceiling: u32,
    /// `lazy-idle=`: a CPU with nothing to do is not asked to flush, and flushes everything before it goes on.
    pub lazy_idle: bool,
    /// `pcid=`: TLBs keep translations of several address spaces, on processors that have PCIDs.
    pub pcid: bool,
    /// `invpcid=`: with `pcid=on`, kernel pages are dropped under all tags by INVPCID.
    pub invpcid: bool,
    /// `deferred-pages=`: with `protocol=quiescent`, the most pages that wait before all are asked at once.
    pub deferred_pages: u32,
    /// `reaping=`: who unmaps the stacks of threads that have ended.
    pub reaping: Reaping,
    /// `patience=`: seconds that a CPU may take to answer before that is a failure.
    pub patience: u32,
    /// `trace=`: what becomes of the events that the CPUs record.
    pub trace: Trace,
    /// `trace-events=`: which are recorded.
    pub trace_events: Categories,
    /// `trace-entries=`: events that each CPU's ring holds, a power of two; 0 for the default of the `trace=`.
    pub trace_entries: u32,
    /// `trace-dump=`: when the rings are sent at the end.
    pub trace_dump: TraceDump,
    /// `interleave=`: CPU 0's timer ticks at pseudo-random intervals of up to so many cycles, drawn from the seed; 0
    /// for the regular tick. Under `-icount` each tick makes QEMU go on with another CPU: the seed is the schedule.
    pub interleave: u32,
    /// `perturb=`: the seed of delays at named points; 0 for none.
    pub perturb: u64,
    /// `oracle=`: what is unmapped is kept aside for a while, and every CPU tries whether it can still read it.
    pub oracle: bool,
    /// `watermark=`: stacks are handed out as zeros, so that how much of each was used can be told.
    pub watermark: bool,
    /// `cache=`: stacks that each CPU keeps mapped for its next threads; 0 for none.
    pub cache: u32,
    /// `threads=`: with `workload=many`, how many live at once.
    pub threads: u32,
    /// `bug=`: the fault to put back.
    pub bug: Option<Bug>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            run: Run::Stress,
            test: "",
            workload: Workload::Mixed,
            protocol: Protocol::Scoreboard,
            seed: 1,
            seconds: 10,
            rounds: 0,
            stack_pages: 4,
            guard_pages: 1,
            stack_offset: 0,
            tick_hz: 200,
            delay: 0,
            flush_ceiling: 33,
            lazy_idle: false,
            pcid: false,
            invpcid: false,
            deferred_pages: 1024,
            reaping: Reaping::Handoff,
            patience: 20,
            trace: Trace::Ring,
            trace_events: Categories::all(),
            trace_entries: 0,
            trace_dump: TraceDump::Failure,
            interleave: 0,
            perturb: 0,
            oracle: false,
            watermark: false,
            cache: 0,
            threads: 10_000,
            bug: None,
        }
    }
}

/// A word of the command line that cannot be obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CmdlineError<'a> {
    /// No option has this key.
    UnknownWord(&'a str),
    /// The key is known, the value is not.
    BadValue {
        /// The whole word.
        word: &'a str,
        /// What would have been understood.
        expected: &'static str,
    },
    /// `run=test` without `test=`.
    NoTest,
}

impl fmt::Display for CmdlineError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownWord(word) => write!(f, "unknown word '{word}', expected one of {KEYS}"),
            Self::BadValue { word, expected } => write!(f, "bad value in '{word}', expected {expected}"),
            Self::NoTest => f.write_str("'run=test' needs 'test=NAME'"),
        }
    }
}

impl core::error::Error for CmdlineError<'_> {}

const KEYS: &str = "run= test= workload= protocol= seed= seconds= rounds= stack-pages= guard-pages= stack-offset= tick-hz= delay= \
                    flush-ceiling= lazy-idle= pcid= invpcid= deferred-pages= reaping= patience= trace= trace-events= trace-entries= trace-dump= interleave= perturb= oracle= watermark= cache= threads= bug=";

impl<'a> Options<'a> {
    /// Reads a command line; words are separated by blanks, a later word wins over an earlier one.
    ///
    /// # Errors
    /// The first word that cannot be obeyed.
    pub fn parse(line: &'a str) -> Result<Self, CmdlineError<'a>> {
        let mut options = Self::default();
        for word in line.split_ascii_whitespace() {
            options.word(word)?;
        }
        if options.run == Run::Test && options.test.is_empty() {
            return Err(CmdlineError::NoTest);
        }
        Ok(options)
    }

    fn word(&mut self, word: &'a str) -> Result<(), CmdlineError<'a>> {
        let (key, value) = word.split_once('=').ok_or(CmdlineError::UnknownWord(word))?;
        let bad = |expected| CmdlineError::BadValue { word, expected };
        let within = |low: u64, high: u64, expected| {
            number(value).filter(|n| (low..=high).contains(n)).ok_or(CmdlineError::BadValue { word, expected })
        };
        match key {
            "run" => self.run = Run::by_name(value).ok_or(bad(Run::NAMES))?,
            "test" => self.test = value,
            "workload" => self.workload = Workload::by_name(value).ok_or(bad(Workload::NAMES))?,
            "protocol" => self.protocol = Protocol::by_name(value).ok_or(bad(Protocol::NAMES))?,
            "seed" => self.seed = within(0, u64::MAX, "a number, decimal or 0x…")?,
            "seconds" => self.seconds = within(1, 1_000_000, "1 to 1000000 (s)")? as u32,
            "rounds" => self.rounds = within(0, u64::MAX, "a number of rounds, 0 for 'by time'")?,
            "stack-pages" => self.stack_pages = within(1, 4096, "1 to 4096 (pages of 4 KiB)")? as u32,
            "guard-pages" => self.guard_pages = within(1, 1024, "1 to 1024 (pages of 4 KiB)")? as u32,
            "stack-offset" => self.stack_offset = within(0, 256, "0 to 256 (bytes)")? as u32,
            "tick-hz" => self.tick_hz = within(1, 10_000, "1 to 10000 (Hz)")? as u32,
            "delay" => self.delay = within(0, 1_000_000_000, "0 to 1000000000 (iterations)")? as u32,
            "flush-ceiling" => self.flush_ceiling = within(0, 4096, "0 to 4096 (pages)")? as u32,
            "lazy-idle" => self.lazy_idle = switch(value).ok_or(bad(SWITCH))?,
            "pcid" => self.pcid = switch(value).ok_or(bad(SWITCH))?,
            "invpcid" => self.invpcid = switch(value).ok_or(bad(SWITCH))?,
            "deferred-pages" => self.deferred_pages = within(0, 1 << 20, "0 to 1048576 (pages of 4 KiB)")? as u32,
            "reaping" => self.reaping = Reaping::by_name(value).ok_or(bad(Reaping::NAMES))?,
            "patience" => self.patience = within(1, 100_000, "1 to 100000 (s)")? as u32,
            "trace" => self.trace = Trace::by_name(value).ok_or(bad(Trace::NAMES))?,
            "trace-events" => self.trace_events = categories(value).ok_or(bad(CATEGORIES))?,
            "trace-entries" => {
                self.trace_entries = within(64, 1 << 20, "a power of two, 64 to 1048576 (events a CPU)")? as u32;
                if !self.trace_entries.is_power_of_two() {
                    return Err(bad("a power of two, 64 to 1048576 (events a CPU)"));
                }
            }
            "trace-dump" => self.trace_dump = TraceDump::by_name(value).ok_or(bad(TraceDump::NAMES))?,
            "interleave" => self.interleave = within(0, 1_000_000_000, "0 to 1000000000 (cycles)")? as u32,
            "perturb" => self.perturb = within(0, u64::MAX, "a number, decimal or 0x…, 0 for none")?,
            "oracle" => self.oracle = switch(value).ok_or(bad(SWITCH))?,
            "watermark" => self.watermark = switch(value).ok_or(bad(SWITCH))?,
            "cache" => self.cache = within(0, 16, "0 to 16 (stacks a CPU)")? as u32,
            "threads" => self.threads = within(1, 60_000, "1 to 60000 (threads)")? as u32,
            "bug" => self.bug = Some(Bug::by_name(value).ok_or(bad(Bug::NAMES))?),
            _ => return Err(CmdlineError::UnknownWord(word)),
        }
        Ok(())
    }
}

const CATEGORIES: &str = "all, or some of sched,idle,stack,shootdown,irq,lock,fault,mark";

fn categories(list: &str) -> Option<Categories> {
    if list == "all" {
        return Some(Categories::all());
    }
    list.split(',').try_fold(Categories::empty(), |set, name| Some(set | Categories::by_name(name)?))
}

const SWITCH: &str = "on|off";

fn switch(text: &str) -> Option<bool> {
    match text {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

impl fmt::Display for Options<'_> {
    /// The shortest line that [`Options::parse`] reads back as these options.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = Self::default();
        write!(f, "run={}", self.run)?;
        macro_rules! word {
            ($field:ident, $key:literal) => {
                if self.$field != default.$field {
                    write!(f, concat!(" ", $key, "={}"), self.$field)?;
                }
            };
        }
        word!(test, "test");
        word!(workload, "workload");
        word!(protocol, "protocol");
        word!(seed, "seed");
        word!(seconds, "seconds");
        word!(rounds, "rounds");
        word!(stack_pages, "stack-pages");
        word!(guard_pages, "guard-pages");
        word!(stack_offset, "stack-offset");
        word!(tick_hz, "tick-hz");
        word!(delay, "delay");
        word!(flush_ceiling, "flush-ceiling");
        for (on, word) in [
            (self.lazy_idle, " lazy-idle=on"),
            (self.pcid, " pcid=on"),
            (self.invpcid, " invpcid=on"),
            (self.oracle, " oracle=on"),
            (self.watermark, " watermark=on"),
        ] {
            f.write_str(if on { word } else { "" })?;
        }
        word!(deferred_pages, "deferred-pages");
        word!(reaping, "reaping");
        word!(patience, "patience");
        word!(trace, "trace");
        if self.trace_events != default.trace_events {
            f.write_str(" trace-events=")?;
            let names = Categories::NAMES.into_iter().enumerate();
            let names = names.filter(|(bit, _)| self.trace_events.bits() >> bit & 1 == 1).map(|(_, name)| name);
            for (at, name) in names.enumerate() {
                write!(f, "{}{name}", if at > 0 { "," } else { "" })?;
            }
        }
        word!(trace_entries, "trace-entries");
        word!(trace_dump, "trace-dump");
        word!(interleave, "interleave");
        word!(perturb, "perturb");
        word!(cache, "cache");
        word!(threads, "threads");
        if let Some(bug) = self.bug {
            write!(f, " bug={bug}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select as of;

    #[test]
    fn nothing_said_means_the_defaults() {
        assert_eq!(Options::parse("  \t ").unwrap(), Options::default());
    }

    #[test]
    fn an_unknown_word_is_named() {
        assert_eq!(Options::parse("seed=3 colour=blue").unwrap_err(), CmdlineError::UnknownWord("colour=blue"));
        assert_eq!(Options::parse("stress").unwrap_err(), CmdlineError::UnknownWord("stress"));
    }

    #[test]
    fn a_bad_value_is_named_with_what_was_expected() {
        for word in [
            "run=walk",
            "seed=",
            "seed=-1",
            "seconds=0",
            "stack-pages=5000",
            "workload=",
            "cache=17",
            "threads=0",
            "bug=none",
        ] {
            let error = Options::parse(word).unwrap_err();
            assert!(matches!(error, CmdlineError::BadValue { word: w, .. } if w == word), "{error}");
        }
        let text = Options::parse("protocol=x").unwrap_err().to_string();
        assert_eq!(text, "bad value in 'protocol=x', expected scoreboard|counter|broadcast|batched|quiescent|invlpgb");
    }

    #[test]
    fn a_test_run_needs_a_test() {
        assert_eq!(Options::parse("run=test").unwrap_err(), CmdlineError::NoTest);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(seed in any::<u64>(), rounds in any::<u64>(), seconds in 1u32..1000, workload in of(Workload::ALL), protocol in of(Protocol::ALL), reaping in of(Reaping::ALL), bug in prop::option::of(of(Bug::ALL)), delay in 0u32..1000, stack_offset in 0u32..257, lazy_idle in any::<bool>(), pcid in any::<bool>(), invpcid in any::<bool>(), perturb in any::<u64>(), oracle in any::<bool>(), watermark in any::<bool>(), deferred_pages in 0u32..5000, cache in 0u32..=16, threads in 1u32..=60_000, events in 1u32..256, trace in of(Trace::ALL)) {
            let options = Options {
                seed, rounds, seconds, delay, stack_offset, lazy_idle, pcid, invpcid, deferred_pages, workload, protocol, reaping, perturb, oracle, watermark, cache, threads, bug, trace,
                trace_events: Categories::from_bits_truncate(events),
                ..Options::default()
            };
            let line = options.to_string();
            prop_assert_eq!(Options::parse(&line).unwrap(), options);
        }

        #[test]
        fn no_line_makes_it_panic(line in ".{0,200}") {
            let _ = Options::parse(&line);
        }
    }
}
