//! What `cargo xtask stress` shows while it runs.

use crate::outcome::Outcome;
use crate::trace::file::TraceFile;
use crate::watch::Viewer;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Guest lines as they come, and one line of progress: in place on a terminal, now and then elsewhere.
pub(super) struct Show {
    in_place: bool,
    shown: Instant,
    open: bool,
    pub(super) trace: TraceFile,
    /// Nothing is shown.
    quiet: bool,
}

impl Show {
    pub(super) fn new(trace: TraceFile, quiet: bool) -> Self {
        let in_place = std::io::stdout().is_terminal();
        Self { in_place, shown: Instant::now(), open: false, trace, quiet }
    }

    pub(super) fn end_line(&mut self) {
        if std::mem::take(&mut self.open) {
            println!();
        }
    }
}

impl Viewer for Show {
    fn line(&mut self, line: &str, meaning: &[String]) {
        if self.quiet {
            return;
        }
        self.end_line();
        println!("| {line}");
        meaning.iter().for_each(|frame| println!("|       {frame}"));
    }

    fn trace(&mut self, bytes: &[u8]) {
        self.trace.take(bytes);
    }

    fn records(&mut self, outcome: &Outcome) {
        let every = Duration::from_millis(if self.in_place { 200 } else { 2000 });
        let Some(progress) = outcome.progress else { return };
        if self.quiet || self.shown.elapsed() < every || outcome.verdict.is_some() {
            return;
        }
        self.shown = Instant::now();
        let line = format!(
            "{:6.1} s  {} threads live, {} stacks reaped, {} shootdowns, {} IPIs, {} faults",
            progress.elapsed_ns as f64 / 1e9,
            progress.live_threads,
            progress.reaped,
            progress.shootdowns,
            progress.ipis,
            progress.faults
        );
        if self.in_place {
            print!("\r{line:<100}");
            let _ = std::io::stdout().flush();
            self.open = true;
        } else {
            println!("{line}");
        }
    }
}
