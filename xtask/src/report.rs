//! A run's report: the same facts as text and as JSON.

use crate::launch::Launch;
use crate::outcome::{Outcome, Verdict};
use serde_json::{Value, json};
use std::fmt::Write;
use wire::Histogram;

/// Percentiles that are shown, per 100,000, and their names.
const PERCENTILES: [(u32, &str); 4] = [(50_000, "p50"), (90_000, "p90"), (99_000, "p99"), (99_900, "p99.9")];

/// What a report is about.
pub struct Report<'r> {
    /// How it was run.
    pub launch: &'r Launch,
    /// What it told.
    pub outcome: &'r Outcome,
    /// What that amounts to.
    pub verdict: &'r Verdict,
    /// The line that repeats it.
    pub again: &'r str,
    /// The seed.
    pub seed: u64,
}

impl Report<'_> {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.machine(&mut out);
        self.account(&mut out);
        self.counts(&mut out);
        self.latencies(&mut out);
        self.end(&mut out);
        out
    }

    fn machine(&self, out: &mut String) {
        let Some(hello) = &self.outcome.hello else { return };
        let first = self
            .outcome
            .first_line
            .map_or(String::new(), |time| format!(", first line after {:.2} s", time.as_secs_f64()));
        let _ = writeln!(
            out,
            "\nmachine    {} CPUs of {}, {} MiB, {}, QEMU {}, {} ({})",
            hello.cpus,
            hello.cpus_offered,
            hello.memory >> 20,
            if hello.x2apic { "x2APIC" } else { "xAPIC" },
            self.launch.qemu.version,
            accel_name(self.launch),
            self.launch.accel.why,
        );
        let _ = writeln!(out, "boot       {}: {}{first}", self.launch.boot, hello.bootloader);
    }

    fn account(&self, out: &mut String) {
        if self.outcome.balances.is_empty() {
            return;
        }
        let broken: Vec<_> = self.outcome.balances.iter().filter(|(_, before, after)| before != after).collect();
        let _ = match broken.is_empty() {
            true => writeln!(out, "\nconservation: all {} accounts are as before", self.outcome.balances.len()),
            false => writeln!(out, "\nconservation: BROKEN"),
        };
        for (what, before, after) in &self.outcome.balances {
            let gap = match after.cmp(before) {
                std::cmp::Ordering::Equal => String::new(),
                std::cmp::Ordering::Less => format!("   MISSING {}", before - after),
                std::cmp::Ordering::Greater => format!("   LEFT OVER {}", after - before),
            };
            let _ = writeln!(out, "  {what:<40} {before:>9} before {after:>9} after{gap}");
        }
    }

    fn counts(&self, out: &mut String) {
        if !self.outcome.counts.is_empty() {
            let _ = writeln!(out, "\ncounts");
        }
        for (name, value) in &self.outcome.counts {
            let _ = writeln!(out, "  {name:<30} {value:>12}");
        }
        for (name, value) in self.rates() {
            let _ = writeln!(out, "  {name:<30} {value:>12.2}");
        }
    }

    /// What follows from the counts.
    fn rates(&self) -> Vec<(&'static str, f64)> {
        let count = |name| self.outcome.count(name).map(|value| value as f64).filter(|value| *value > 0.0);
        let per = |a, b| Some(count(a)? / count(b)?);
        let rates = [
            ("stacks reaped a second", per("stacks.reaped", "run.elapsed-ns").map(|rate| rate * 1e9)),
            ("stacks reaped a batch", per("stacks.reaped", "stacks.reap-batches")),
            ("shootdown IPIs a reaped stack", per("stacks.reap-ipis", "stacks.reaped")),
            ("stacks from the cache, %", self.hit_rate()),
            (
                "slower with events recorded, %",
                per("trace.rounds-with-ns", "trace.rounds-without-ns").map(|r| (r - 1.0) * 100.0),
            ),
            ("IPIs a shootdown", per("shootdown.ipis", "shootdown.requests")),
        ];
        rates.into_iter().filter_map(|(name, rate)| rate.map(|rate| (name, rate))).collect()
    }

    /// Spawns that found a stack in their CPU's cache, of a hundred that looked there.
    fn hit_rate(&self) -> Option<f64> {
        let (hits, misses) =
            (self.outcome.count("stacks.cache-hits")? as f64, self.outcome.count("stacks.cache-misses")? as f64);
        (hits + misses > 0.0).then(|| hits / (hits + misses) * 100.0)
    }

    fn latencies(&self, out: &mut String) {
        let hz = self.outcome.hello.as_ref().map_or(0, |hello| hello.tsc_hz);
        let filled = || self.outcome.latencies.iter().filter(|(_, histogram)| histogram.samples() > 0);
        if filled().next().is_none() {
            return;
        }
        let _ = write!(out, "\n{:<24} {:>10}", "latency, cycles (ns)", "samples");
        for (_, name) in PERCENTILES {
            let _ = write!(out, " {name:>22}");
        }
        let _ = writeln!(out, " {:>22}", "max");
        for (name, histogram) in filled() {
            let _ = write!(out, "{name:<24} {:>10}", histogram.samples());
            for cycles in PERCENTILES.map(|(p, _)| histogram.percentile(p)).into_iter().chain([histogram.largest()]) {
                let _ = write!(out, " {:>22}", format!("{cycles} ({})", nanoseconds(cycles, hz)));
            }
            let _ = writeln!(out);
        }
        if let Some(ratio) = self.ratio() {
            let _ = writeln!(out, "one-page unmap and shootdown over bare interrupt round trip, p50: {ratio:.2}");
        }
    }

    /// p50 of the one-page shootdown over p50 of the bare round trip: only where the two were sampled in turn, under the
    /// same conditions, which the workload `latency` does.
    fn ratio(&self) -> Option<f64> {
        let in_turn = format!("workload={}", wire::cmdline::Workload::Latency);
        self.outcome.hello.as_ref().filter(|hello| hello.cmdline.contains(&in_turn))?;
        let p50 = |name| {
            let histogram: &Histogram = self.outcome.latencies.get(name)?;
            (histogram.samples() > 0).then(|| histogram.percentile(50_000) as f64)
        };
        Some(p50("shootdown-1-page")? / p50("bare-ipi")?)
    }

    fn end(&self, out: &mut String) {
        if self.outcome.damaged > 0 {
            let _ = writeln!(out, "\nlost: {} bytes of records arrived damaged", self.outcome.damaged);
        }
        if *self.verdict == Verdict::Interrupted
            && let Some(progress) = self.outcome.progress
        {
            let _ = writeln!(
                out,
                "\nup to the interruption, {:.1} s: {} stacks reaped, {} shootdowns, {} IPIs, {} faults",
                progress.elapsed_ns as f64 / 1e9,
                progress.reaped,
                progress.shootdowns,
                progress.ipis,
                progress.faults
            );
        }
        for (promise, detail) in &self.outcome.failures {
            let _ = writeln!(out, "\nbroken: {promise}: {detail}");
        }
        for (cpu, message) in &self.outcome.panics {
            let _ = writeln!(out, "\npanic on CPU {cpu}: {message}");
        }
        let _ = match self.verdict {
            Verdict::Passed => writeln!(out, "\nPASS: every promise held"),
            Verdict::Broken(why) => writeln!(out, "\nFAIL: {why}"),
            Verdict::CannotRun(why) => writeln!(out, "\ncannot run: {why}"),
            Verdict::Interrupted => writeln!(out, "\ninterrupted"),
        };
        let _ = writeln!(out, "seed {}; again: {}", self.seed, self.again);
    }

    /// For machines.
    #[must_use]
    pub fn json(&self) -> Value {
        let hz = self.outcome.hello.as_ref().map_or(0, |hello| hello.tsc_hz);
        let (verdict, reason) = match self.verdict {
            Verdict::Passed => ("pass", "every promise held"),
            Verdict::Broken(why) => ("fail", why.as_str()),
            Verdict::CannotRun(why) => ("cannot-run", why.as_str()),
            Verdict::Interrupted => ("interrupted", "by the user"),
        };
        let latencies: serde_json::Map<_, _> = self
            .outcome
            .latencies
            .iter()
            .map(|(name, h)| {
                let mut row = json!({"samples": h.samples(), "min_cycles": h.smallest(), "max_cycles": h.largest()});
                for (p, label) in PERCENTILES {
                    row[format!("{label}_cycles")] = h.percentile(p).into();
                    row[format!("{label}_ns")] = nanoseconds(h.percentile(p), hz).into();
                }
                row["buckets"] = h.filled().map(|(bucket, count)| json!([bucket, count])).collect();
                (name.clone(), row)
            })
            .collect();
        let counts: serde_json::Map<_, _> = self.outcome.counts.iter().map(|(n, v)| (n.clone(), json!(v))).collect();
        let balances = self.outcome.balances.iter().map(|(w, b, a)| json!({"what": w, "before": b, "after": a}));
        let rates: serde_json::Map<_, _> = self.rates().into_iter().map(|(n, v)| (n.to_owned(), json!(v))).collect();
        json!({
            "verdict": verdict,
            "reason": reason,
            "seed": self.seed,
            "again": self.again,
            "machine": self.outcome.hello.as_ref().map(|h| json!({
                "cpus": h.cpus, "cpus_offered": h.cpus_offered, "memory_bytes": h.memory, "x2apic": h.x2apic,
                "tsc_hz": h.tsc_hz, "bootloader": h.bootloader, "command_line": h.cmdline,
            })),
            "qemu": self.launch.qemu.version,
            "accelerator": {"name": accel_name(self.launch), "why": self.launch.accel.why},
            "boot": self.launch.boot,
            "first_line_seconds": self.outcome.first_line.map(|time| time.as_secs_f64()),
            "conservation": balances.collect::<Vec<_>>(),
            "counts": counts,
            "rates": rates,
            "latencies": latencies,
            "one_page_shootdown_over_bare_ipi_p50": self.ratio(),
            "failures": self.outcome.failures.iter().map(|(p, d)| json!({"promise": p, "detail": d})).collect::<Vec<_>>(),
            "panics": self.outcome.panics.iter().map(|(c, m)| json!({"cpu": c, "message": m})).collect::<Vec<_>>(),
            "damaged_bytes": self.outcome.damaged,
        })
    }
}

pub(crate) fn accel_name(launch: &Launch) -> &'static str {
    use crate::options::Accel;
    match launch.guest.accel {
        Accel::Auto | Accel::Tcg => "TCG, a thread for each CPU",
        Accel::TcgSingle => "TCG, one thread",
        Accel::Icount => "TCG, counting instructions",
        Accel::Kvm => "KVM",
    }
}

fn nanoseconds(cycles: u64, hz: u64) -> u64 {
    (u128::from(cycles) * 1_000_000_000 / u128::from(hz.max(1))) as u64
}
