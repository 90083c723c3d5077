//! A stress run: rounds of a workload, for so many or so long, with a progress record now and then, a bare interrupt
//! round trip to compare with, and the account at the end.

use crate::account::Account;
use crate::workload::{self, Context};
use crate::{failure, results};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use kernel::stats::Totals;
use kernel::thread::{Builder, JoinHandle};
use kernel::{mem, println, record, thread, time, trace};
use wire::Record;

/// Between two progress records.
const PROGRESS: Duration = Duration::from_millis(500);
/// Between two bare interrupt round trips.
const PING: Duration = Duration::from_millis(5);

static DONE: AtomicBool = AtomicBool::new(false);
static ROUNDS: AtomicU64 = AtomicU64::new(0);

/// Runs the workload that the command line names.
///
/// # Errors
/// The promise that broke.
pub fn stress() -> Result<(), &'static str> {
    let options = kernel::options();
    println!("stress: {options}, protocol {}", mem::protocol_name());
    let context = Context::new(options.seed);
    let begun = time::now();
    let watchers = [watch("progress", move || report_progress(begun)), watch("ping", ping)];
    let (account, before) = (Account::now(), Totals::now());

    let until = begun + time::cycles(Duration::from_secs(options.seconds.into()));
    let mut round = 0;
    while if options.rounds > 0 { round < options.rounds } else { time::now() < until } {
        trace::round(round);
        workload::round(options.workload, &context, round);
        round += 1;
        ROUNDS.store(round, Ordering::Relaxed);
        if failure::count() > 0 {
            break;
        }
    }

    let elapsed = time::now() - begun;
    let kept = thread::cached_stacks(); // the account drains them
    account.settle(&Account::now());
    if failure::count() == 0 {
        // What follows is reporting; it takes as long as the host takes to listen.
        trace::set_recording(false);
    }
    DONE.store(true, Ordering::Relaxed);
    for watcher in watchers {
        watcher.thread().unpark();
        failure::check(watcher.join().is_ok(), "watchers live", format_args!("one of the run's own threads died"));
    }
    results::send(&before, round, elapsed, kept);
    failure::verdict()
}

fn watch(name: &str, f: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    Builder::new().name(name).stack_pages(4).spawn(f).expect("memory for the run's own threads")
}

fn report_progress(begun: u64) {
    while !DONE.load(Ordering::Relaxed) {
        let totals = Totals::now();
        record::send(&Record::Progress {
            elapsed_ns: time::nanoseconds(time::now() - begun),
            rounds: ROUNDS.load(Ordering::Relaxed),
            live_threads: thread::live() as u64,
            reaped: totals.reaped,
            shootdowns: totals.shootdowns,
            ipis: totals.shootdown_ipis,
            faults: totals.guard_hits + totals.other_faults,
        });
        thread::park_timeout(PROGRESS);
    }
}

fn ping() {
    while !DONE.load(Ordering::Relaxed) {
        let _ = mem::ping_all(); // `None`: another one is under way
        thread::park_timeout(PING);
    }
}
