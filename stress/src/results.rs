//! What a run sends at its end: counts and latencies.

use crate::workload;
use kernel::stats::{self, Latency, Totals};
use kernel::{record, time};
use wire::Record;

/// Sends the counts since `before`, and all latencies. At the end of the last round CPUs kept so many stacks.
pub fn send(before: &Totals, rounds: u64, elapsed: u64, kept: usize) {
    let count = |name: &str, value| record::send(&Record::Count { name, value });
    let mut earlier = [0; 64];
    let mut at = 0;
    before.for_each(|_, value| {
        earlier[at] = value;
        at += 1;
    });
    at = 0;
    Totals::now().for_each(|name, value| {
        count(name, value - earlier[at]);
        at += 1;
    });
    count("stacks.kept-at-end", kept as u64);
    workload::send_trace_cost(count);
    workload::send_cost_of_many(count);
    count("run.rounds", rounds);
    count("run.elapsed-ns", time::nanoseconds(elapsed));
    for latency in Latency::ALL {
        stats::with_latency(latency, |histogram| record::send_histogram(latency.name(), histogram));
    }
}
