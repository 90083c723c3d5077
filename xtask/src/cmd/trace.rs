//! `cargo xtask trace`.

use crate::error::{Context, Error, Result};
use crate::trace::check::{self, Findings};
use crate::trace::filter::Filter;
use crate::trace::{Trace, html, json, perfetto, phases, read, rules, text};
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Show a trace: as text, as JSON, for ui.perfetto.dev, as a page of its own, or checked against the rules.
///
/// Exit code 0: done, and with --check every rule was kept. 1: a rule was broken. 2: the file is none that can be read.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The trace file.
    file: PathBuf,
    #[command(flatten)]
    filter: Filter,
    /// One JSON object a line, in place of text.
    #[arg(long)]
    json: bool,
    /// How long each phase of the shootdowns and of the stacks' ends took, in place of the events.
    #[arg(long)]
    phases: bool,
    /// Write the events for ui.perfetto.dev to this file.
    #[arg(long, value_name = "FILE")]
    perfetto: Option<PathBuf>,
    /// Write a page that shows the events, without need of a network, to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Replay the events against the rules.
    #[arg(long)]
    check: bool,
}

/// Does it.
///
/// # Errors
/// If the file cannot be read or is no trace, or a rule was broken.
pub fn run(args: Args) -> Result<()> {
    let trace = read::file(&args.file)?;
    let wanted = args.filter.compile(&trace)?;
    for loss in trace.losses() {
        eprintln!("note: {loss}");
    }
    if let Some(path) = &args.perfetto {
        to_file(path, |out| perfetto::write(&trace, wanted.of(&trace), out))?;
    }
    if let Some(path) = &args.html {
        to_file(path, |out| html::write(&trace, wanted.of(&trace), out))?;
    }
    if args.check {
        let findings = check::check(&trace);
        print!("{}", told(&trace, &findings));
        return if findings.violations.is_empty() { Ok(()) } else { Err(Error::Broken) };
    }
    if args.phases {
        print!("{}", phases::table(&trace));
        return Ok(());
    }
    if args.perfetto.is_some() || args.html.is_some() {
        return Ok(());
    }
    let mut out = BufWriter::new(io::stdout().lock());
    let written = match args.json {
        true => json::write(&trace, wanted.of(&trace), &mut out),
        false => text::write(&trace, wanted.of(&trace), &mut out),
    };
    match written.and_then(|()| out.flush()) {
        // Who reads has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            std::mem::forget(out);
            Ok(())
        }
        other => other.context("cannot write"),
    }
}

fn to_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let name = || format!("cannot write {}", path.display());
    let mut out = BufWriter::new(File::create(path).context(name())?);
    write(&mut out).and_then(|()| out.flush()).context(name())?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

/// What a check found, for people.
#[must_use]
pub fn told(trace: &Trace, findings: &Findings) -> String {
    let mut told = String::new();
    let (names, start) = (trace.names(), trace.start());
    for violation in &findings.violations {
        told += &format!("BROKEN: {}: {}\n", violation.rule, violation.detail);
        told += &format!("  {}\n", text::line(trace, start, &names, &violation.at));
    }
    let verdict = match findings.violations.len() {
        0 => format!("all {} rules were kept", rules::all().len()),
        1 => "1 rule was broken once".into(),
        times => format!("rules were broken {times} times"),
    };
    told += &format!("{verdict}: {} events checked", findings.checked);
    if findings.unchecked > 0 {
        told += &format!(", {} not, because others are missing beside them", findings.unchecked);
    }
    told.push('\n');
    told
}
