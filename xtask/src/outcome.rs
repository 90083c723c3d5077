//! What a run told: its records, gathered, and what they amount to with QEMU's exit status.

use std::collections::BTreeMap;
use std::time::Duration;
use wire::exit::{Ending, ending};
use wire::frame::Decoder;
use wire::{Histogram, Record};

/// The hello.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Hello {
    pub version: u16,
    pub tsc_hz: u64,
    pub cpus: u16,
    pub cpus_offered: u16,
    pub x2apic: bool,
    pub memory: u64,
    pub bootloader: String,
    pub cmdline: String,
}

/// The latest progress.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Progress {
    pub elapsed_ns: u64,
    pub rounds: u64,
    pub live_threads: u64,
    pub reaped: u64,
    pub shootdowns: u64,
    pub ipis: u64,
    pub faults: u64,
}

/// How QEMU came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this status; `None` for a signal.
    Exited(Option<i32>),
    /// By us, because of this.
    Hung(String),
    /// It reset itself or switched itself off, which QEMU calls so.
    Stopped(String),
    /// By us, because the user wanted it.
    Interrupted,
}

/// What it all amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every promise held.
    Passed,
    /// This promise broke.
    Broken(String),
    /// It could not run.
    CannotRun(String),
    /// The user ended it.
    Interrupted,
}

/// Everything a run told.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The hello, if it came.
    pub hello: Option<Hello>,
    /// The latest progress, if any came.
    pub progress: Option<Progress>,
    /// Counts by name, in the order in which they came.
    pub counts: Vec<(String, u64)>,
    /// What, before, after.
    pub balances: Vec<(String, u64, u64)>,
    /// Latencies by name.
    pub latencies: BTreeMap<String, Histogram>,
    /// Promise and detail.
    pub failures: Vec<(String, String)>,
    /// Panics: CPU and message.
    pub panics: Vec<(u16, String)>,
    /// Guard hits and other faults that were told.
    pub faults: u64,
    /// Self-tests: name and whether it held.
    pub tests: Vec<(String, bool)>,
    /// The guest's own verdict and its reason.
    pub verdict: Option<(bool, String)>,
    /// Bytes of damaged frames.
    pub damaged: usize,
    /// What came of traces since it was last taken away, as frames: the next bytes of a trace file.
    pub trace: Vec<u8>,
    /// Events of each CPU that came, and those that it says it recorded.
    pub trace_events: BTreeMap<u16, (u64, u64)>,
    /// Where the trace rings are, for a reader outside.
    pub rings: Option<wire::trace::Rings>,
    /// Every line of serial 1.
    pub lines: Vec<String>,
    /// From QEMU's start to the kernel's first line.
    pub first_line: Option<Duration>,
    /// QEMU's own words.
    pub words: String,
    decoder: Decoder,
}

impl Outcome {
    /// Takes bytes of serial 2; whether anything new came of them.
    pub fn take(&mut self, bytes: &[u8]) {
        let mut decoder = std::mem::take(&mut self.decoder);
        decoder.push(bytes, |record| match record {
            Ok(record) => self.note(record),
            // Before the hello it is what firmware has written to the port.
            Err(damage) if self.hello.is_some() => self.damaged += damage.bytes,
            Err(_) => {}
        });
        self.decoder = decoder;
    }

    fn note(&mut self, record: Record<'_>) {
        if matches!(record, Record::Hello { .. } | Record::Trace { .. } | Record::TraceEnd { .. }) {
            keep(&record, &mut self.trace);
        }
        match record {
            Record::Hello { version, tsc_hz, cpus, cpus_offered, x2apic, memory, bootloader, firmware: _, cmdline } => {
                let (bootloader, cmdline) = (bootloader.to_owned(), cmdline.to_owned());
                self.hello = Some(Hello { version, tsc_hz, cpus, cpus_offered, x2apic, memory, bootloader, cmdline });
            }
            Record::Progress { elapsed_ns, rounds, live_threads, reaped, shootdowns, ipis, faults } => {
                self.progress = Some(Progress { elapsed_ns, rounds, live_threads, reaped, shootdowns, ipis, faults });
            }
            Record::Count { name, value } => self.counts.push((name.into(), value)),
            Record::Balance { what, before, after } => self.balances.push((what.into(), before, after)),
            Record::Latency { name, smallest, largest, samples } => {
                let histogram = self.latencies.entry(name.into()).or_default();
                if samples > 0 {
                    histogram.widen(smallest, largest);
                }
            }
            Record::Buckets { name, from, packed } => {
                self.latencies.entry(name.into()).or_default().unpack(from, packed);
            }
            Record::Trace { cpu, time, packed, .. } => {
                let events = wire::trace::pack::Unpacker::new(packed, time).count();
                self.trace_events.entry(cpu).or_default().0 += events as u64;
            }
            Record::TraceEnd { cpu, events } => self.trace_events.entry(cpu).or_default().1 = events,
            Record::Rings { words } => self.rings = wire::trace::Rings::from_words(words),
            Record::Fault { .. } => self.faults += 1,
            Record::Failure { promise, detail } => self.failures.push((promise.into(), detail.into())),
            Record::Test { name, passed } => self.tests.push((name.into(), passed)),
            Record::Panic { cpu, message } => self.panics.push((cpu, message.into())),
            Record::Verdict { passed, reason } => self.verdict = Some((passed, reason.into())),
        }
    }

    /// Whether events have come.
    #[must_use]
    pub fn traced(&self) -> bool {
        !self.trace_events.is_empty()
    }

    /// Changes whenever the guest gets anywhere: everything it told but the time that passed.
    #[must_use]
    pub fn advance(&self) -> impl PartialEq + use<> {
        let progress = self.progress.map(|p| (p.live_threads, p.reaped, p.shootdowns, p.ipis, p.faults));
        (
            progress,
            self.counts.len(),
            self.balances.len(),
            self.latencies.len(),
            self.tests.len(),
            self.verdict.is_some(),
        )
    }

    /// The count of this name.
    #[must_use]
    pub fn count(&self, name: &str) -> Option<u64> {
        self.counts.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// What the run amounts to. A pass needs QEMU's status, the guest's word and its account to agree.
    #[must_use]
    pub fn judge(&self, end: &End) -> Verdict {
        let said = self.verdict.as_ref();
        let status = match end {
            End::Hung(why) => return Verdict::Broken(format!("it hung: {why}")),
            End::Stopped(why) if why == "guest-reset" => {
                return Verdict::Broken("it crashed: it reset itself, as after a triple fault".into());
            }
            End::Stopped(why) => return Verdict::Broken(format!("it crashed: it stopped by itself ({why})")),
            End::Interrupted => return Verdict::Interrupted,
            End::Exited(status) => *status,
        };
        if self.hello.as_ref().is_some_and(|hello| hello.version != wire::VERSION) {
            return Verdict::CannotRun("the guest's records are of another version than this tool's".into());
        }
        match ending(status) {
            Ending::Unusable => Verdict::CannotRun(self.why_unusable()),
            Ending::Fail => {
                Verdict::Broken(said.map_or_else(|| "it failed without a reason".into(), |(_, why)| why.clone()))
            }
            Ending::Crash(status) => Verdict::Broken(self.crash(status)),
            Ending::Pass => match said {
                None => Verdict::Broken("it ended as passed, and sent no verdict".into()),
                Some((false, why)) => Verdict::Broken(format!("it ended as passed, and said: {why}")),
                Some((true, _)) => match self.balances.iter().find(|(_, before, after)| before != after) {
                    Some((what, before, after)) => Verdict::Broken(format!("{what}: {before} before, {after} after")),
                    None => Verdict::Passed,
                },
            },
        }
    }

    fn why_unusable(&self) -> String {
        let said = self.lines.iter().rev().find_map(|line| {
            line.strip_prefix("cannot run: ").or_else(|| line.contains("loader: ").then_some(line.as_str()))
        });
        said.map_or_else(|| "the guest cannot run what was asked for".into(), str::to_owned)
    }

    fn crash(&self, status: Option<i32>) -> String {
        let words = self.words.trim();
        let words = if words.is_empty() { String::new() } else { format!("; QEMU says: {words}") };
        match status {
            Some(0) => format!("it crashed: QEMU ended with status 0 and no verdict, as after a triple fault{words}"),
            Some(status) => format!("it crashed: QEMU ended with status {status}{words}"),
            None => format!("it crashed: QEMU was ended by a signal{words}"),
        }
    }
}

/// Appends a record to a trace file's contents.
fn keep(record: &Record<'_>, to: &mut Vec<u8>) {
    let mut buffer = [0; wire::frame::MAX];
    if let Ok(frame) = wire::frame::encode(record, &mut buffer) {
        to.extend_from_slice(frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::exit::{FAIL, PASS, UNUSABLE, status_of};

    fn told(records: &[Record<'_>]) -> Outcome {
        let mut outcome = Outcome::default();
        for record in records {
            outcome.take(wire::frame::encode(record, &mut [0; wire::frame::MAX]).unwrap());
        }
        outcome
    }

    const GOOD: Record<'_> = Record::Verdict { passed: true, reason: "every promise held" };

    const HELLO: Record<'_> = Record::Hello {
        version: wire::VERSION,
        tsc_hz: 1,
        cpus: 1,
        cpus_offered: 1,
        x2apic: false,
        memory: 0,
        bootloader: "",
        firmware: wire::record::Firmware::Bios,
        cmdline: "",
    };

    #[test]
    fn what_firmware_writes_before_the_hello_is_no_loss() {
        let mut outcome = Outcome::default();
        outcome.take(b"\x1b[2J UEFI Interactive Shell\0");
        outcome.take(wire::frame::encode(&HELLO, &mut [0; wire::frame::MAX]).unwrap());
        assert!(outcome.hello.is_some() && outcome.damaged == 0);
    }

    fn exited(value: u32) -> End {
        End::Exited(Some(status_of(value)))
    }

    #[test]
    fn a_pass_needs_status_and_word() {
        assert_eq!(told(&[GOOD]).judge(&exited(PASS)), Verdict::Passed);
        assert!(matches!(told(&[]).judge(&exited(PASS)), Verdict::Broken(_)));
        assert!(matches!(told(&[GOOD]).judge(&End::Exited(Some(0))), Verdict::Broken(_)));
        assert!(matches!(told(&[GOOD]).judge(&exited(FAIL)), Verdict::Broken(_)));
    }

    #[test]
    fn an_account_that_does_not_settle_is_no_pass() {
        let outcome = told(&[Record::Balance { what: "frames", before: 5, after: 4 }, GOOD]);
        assert_eq!(outcome.judge(&exited(PASS)), Verdict::Broken("frames: 5 before, 4 after".into()));
    }

    #[test]
    fn what_cannot_run_is_told_in_the_guests_words() {
        let mut outcome = told(&[]);
        outcome.lines.push("cannot run: command line: unknown word 'x=1'".into());
        let expected = Verdict::CannotRun("command line: unknown word 'x=1'".into());
        assert_eq!(outcome.judge(&exited(UNUSABLE)), expected);
    }

    #[test]
    fn time_alone_is_no_advance() {
        let progress = |elapsed_ns, reaped| Record::Progress {
            rounds: 0,
            elapsed_ns,
            reaped,
            live_threads: 3,
            shootdowns: 1,
            ipis: 1,
            faults: 0,
        };
        let at = |records: &[Record<'_>]| told(records).advance();
        assert!(at(&[progress(1, 5)]) == at(&[progress(1, 5), progress(2, 5)]));
        assert!(at(&[progress(1, 5)]) != at(&[progress(1, 5), progress(2, 6)]));
    }

    #[test]
    fn status_0_is_a_crash() {
        let Verdict::Broken(why) = told(&[]).judge(&End::Exited(Some(0))) else { panic!("not broken") };
        assert!(why.contains("crashed"), "{why}");
    }

    #[test]
    fn a_torn_stream_counts_what_it_lost() {
        let mut bytes = wire::frame::encode(&GOOD, &mut [0; wire::frame::MAX]).unwrap().to_vec();
        bytes[3] ^= 0x55;
        let mut outcome = told(&[HELLO]);
        outcome.take(&bytes);
        assert!(outcome.damaged > 0 && outcome.verdict.is_none());
    }
}
