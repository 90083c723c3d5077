//! Watching a guest: its lines and records as they come, the deadlines, Ctrl-C, and the report when it hangs.

use crate::error::{Context, Error, Result};
use crate::inspect::inspect;
use crate::outcome::{End, Outcome};
use crate::qemu::{Guest, Running};
use crate::qmp::Qmp;
use crate::symbols::Symbols;
use crate::trace::{self, follow::Follower};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// When a guest is taken to hang.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The whole run.
    pub total: Option<Duration>,
    /// Without a line of text, or a record that tells of anything new but the time; before the kernel's first line, if that is
    /// less than a boot may take on a busy host, for as long as that.
    pub silence: Duration,
}

/// Told what happens while it does.
pub trait Viewer {
    /// A line of serial 1, and what its backtrace means, if it is one.
    fn line(&mut self, line: &str, meaning: &[String]);
    /// New records have come.
    fn records(&mut self, outcome: &Outcome);
    /// These bytes of a trace file have come.
    fn trace(&mut self, _bytes: &[u8]) {}
}

/// Nobody looks.
#[derive(Debug)]
pub struct Nobody;

impl Viewer for Nobody {
    fn line(&mut self, _: &str, _: &[String]) {}
    fn records(&mut self, _: &Outcome) {}
}

enum Event {
    Line(String),
    Records(Vec<u8>),
    Words(String),
    Closed,
    Stopped(String),
    /// QEMU did not hear that the guest is to go on.
    Deaf(String),
}

/// The kernel's first line; firmware may have left its own words before it.
const FIRST_LINE: &str = concat!("Palisade ", env!("CARGO_PKG_VERSION"));
/// How long it may take to come on a busy host.
const BOOT: Duration = Duration::from_secs(30);
/// How often Ctrl-C and the deadlines are looked at when nothing comes.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

/// How often the trace rings in a guest's memory are looked at.
const VISIT: Duration = Duration::from_millis(5);

/// How soon QEMU that ended by itself is known to have: its pipes close.
const CLOSING: Duration = Duration::from_secs(1);

/// Runs `guest` to its end, whichever comes.
///
/// # Errors
/// If QEMU cannot be started, told to let the guest go, or waited for.
pub fn watch(guest: &Guest, symbols: &Symbols, limits: Limits, viewer: &mut dyn Viewer) -> Result<(Outcome, End)> {
    let interrupted = interrupt_flag()?;
    let begun = Instant::now();
    let mut running = guest.start()?;
    let events = begin(&mut running);
    let mut outcome = Outcome::default();
    let (mut open, mut heard) = (3, Instant::now());
    let mut follower: Option<Follower> = None;
    let mut deaf: Option<(String, Instant)> = None;
    let end = loop {
        if let (None, Some(memory), Some(rings)) = (&follower, &guest.memory, outcome.rings) {
            follower = Some(Follower::new(memory, rings).context("cannot read the guest's memory")?);
        }
        if let Some(follower) = &mut follower {
            follower.poll(&mut outcome.trace).context("cannot read the guest's memory")?;
        }
        if !outcome.trace.is_empty() {
            viewer.trace(&std::mem::take(&mut outcome.trace));
        }
        match events.recv_timeout(if follower.is_some() { VISIT } else { LOOK }) {
            Ok(event) => {
                match event {
                    Event::Line(line) => {
                        heard = Instant::now();
                        if outcome.first_line.is_none() && line.ends_with(FIRST_LINE) {
                            outcome.first_line = Some(begun.elapsed());
                        }
                        viewer.line(&line, &symbols.explain(&line));
                        outcome.lines.push(line);
                    }
                    Event::Records(bytes) => {
                        // A guest whose workload hangs may still tell that time passes.
                        let before = outcome.advance();
                        outcome.take(&bytes);
                        if outcome.advance() != before {
                            heard = Instant::now();
                        }
                        viewer.records(&outcome);
                    }
                    Event::Words(words) => outcome.words += &words,
                    Event::Closed => open -= 1,
                    Event::Stopped(why) => {
                        look(&running, guest.core.as_deref(), symbols, viewer, &mut outcome);
                        break End::Stopped(why);
                    }
                    Event::Deaf(why) => deaf = Some((why, Instant::now())),
                }
                if open == 0 {
                    break End::Exited(running.wait()?);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break End::Exited(running.wait()?),
        }
        if interrupted.load(Ordering::Relaxed) {
            break End::Interrupted;
        }
        if let Some((why, since)) = &deaf
            && since.elapsed() > CLOSING
        {
            return Err(Error::CannotRun(format!("QEMU does not take the command to let the guest go (QMP): {why}")));
        }
        let too_long = limits.total.filter(|total| begun.elapsed() > *total);
        let silence = if outcome.first_line.is_some() { limits.silence } else { limits.silence.max(BOOT) };
        let too_silent = (heard.elapsed() > silence).then_some(silence);
        let why = too_silent.map(|limit| format!("nothing came from it for {} s", limit.as_secs()));
        if let Some(why) = why.or_else(|| too_long.map(|limit| format!("it did not end in {} s", limit.as_secs()))) {
            look(&running, guest.core.as_deref(), symbols, viewer, &mut outcome);
            break End::Hung(why);
        }
    };
    running.kill();
    // What was in the pipes when QEMU ended.
    while open > 0
        && let Ok(event) = events.recv()
    {
        match event {
            Event::Line(line) => outcome.lines.push(line),
            Event::Records(bytes) => outcome.take(&bytes),
            Event::Words(words) => outcome.words += &words,
            Event::Closed => open -= 1,
            Event::Stopped(_) | Event::Deaf(_) => {}
        }
    }
    if let Some(follower) = &mut follower {
        follower.finish(&mut outcome.trace).context("cannot read the guest's memory")?;
    }
    viewer.trace(&std::mem::take(&mut outcome.trace));
    Ok((outcome, end))
}

/// Listens, then lets the guest go.
fn begin(running: &mut Running) -> Receiver<Event> {
    let (to, events) = channel();
    if let Some(text) = running.text.take() {
        let to = to.clone();
        thread::spawn(move || {
            let mut text = BufReader::new(text);
            let mut line = Vec::new();
            while text.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
                let whole = String::from_utf8_lossy(&line);
                let _ = to.send(Event::Line(printable(whole.trim_end())));
                line.clear();
            }
            let _ = to.send(Event::Closed);
        });
    }
    let (listen, told) = (running.listen(), to.clone());
    thread::spawn(move || {
        let connected = Qmp::listen(&listen).and_then(|mut qmp| {
            qmp.execute("cont", serde_json::json!({}))?;
            Ok(qmp)
        });
        let mut qmp = match connected {
            Ok(qmp) => qmp,
            Err(error) => return drop(told.send(Event::Deaf(error.to_string()))),
        };
        match qmp.await_stop() {
            // It switched itself off. Since QEMU 9 that is also what the exit device does, and because a guest that resets
            // itself is to stand still, this one does too: QEMU goes on to end with the status that it was given.
            Some(why) if why == "guest-shutdown" => _ = qmp.execute("quit", serde_json::json!({})),
            Some(why) => _ = told.send(Event::Stopped(why)),
            None => {}
        }
    });
    pump(running.records.take(), to.clone(), Event::Records);
    pump(running.words.take(), to, |bytes| Event::Words(String::from_utf8_lossy(&bytes).into_owned()));
    events
}

/// Without what firmware does to terminals.
fn printable(line: &str) -> String {
    let mut rest = line;
    let mut kept = String::new();
    while let Some((before, after)) = rest.split_once('\x1b') {
        kept += before;
        let end = after.find(|c: char| c.is_ascii_alphabetic()).map_or(after.len(), |at| at + 1);
        rest = &after[end..];
    }
    kept += rest;
    kept.retain(|c| !c.is_control() || c == '\t');
    kept
}

fn pump(from: Option<impl Read + Send + 'static>, to: Sender<Event>, event: fn(Vec<u8>) -> Event) {
    let Some(mut from) = from else { return };
    thread::spawn(move || {
        let mut bytes = [0; 1 << 16];
        while let Ok(count) = from.read(&mut bytes)
            && count > 0
        {
            let _ = to.send(event(bytes[..count].to_vec()));
        }
        let _ = to.send(Event::Closed);
    });
}

/// Says what every CPU is at, and takes what the trace rings hold.
fn look(running: &Running, core: Option<&Path>, symbols: &Symbols, viewer: &mut dyn Viewer, outcome: &mut Outcome) {
    let found = match Qmp::connect(&running.ask()).and_then(|mut qmp| inspect(&mut qmp, symbols)) {
        Ok(found) => found,
        Err(error) => {
            let line = format!("QEMU does not say where the CPUs are: {error}");
            viewer.line(&line, &[]);
            outcome.lines.push(line);
            return;
        }
    };
    if let Some(core) = core {
        let dumped = Qmp::connect(&running.ask()).and_then(|mut qmp| qmp.core(core));
        let line = match dumped {
            Ok(()) => format!("its memory is in {}: cargo xtask debug --core FILE", core.display()),
            Err(error) => format!("its memory cannot be written to {}: {error}", core.display()),
        };
        viewer.line(&line, &[]);
        outcome.lines.push(line);
    }
    for line in found.cpus.iter().flat_map(|cpu| cpu.lines()) {
        viewer.line(line, &symbols.explain(line));
        outcome.lines.push(line.to_owned());
    }
    if let Some(trace) = &found.trace
        && !outcome.traced()
    {
        trace::write::frames(trace, &mut outcome.trace);
    }
}

/// Set by Ctrl-C and by SIGTERM.
pub(crate) fn interrupt_flag() -> Result<&'static AtomicBool> {
    static FLAG: AtomicBool = AtomicBool::new(false);
    static SET: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    let set = SET.get_or_init(|| ctrlc::set_handler(|| FLAG.store(true, Ordering::Relaxed)).map_err(|e| e.to_string()));
    set.clone().context("cannot handle Ctrl-C")?;
    Ok(&FLAG)
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn what_firmware_does_to_terminals_is_taken_out() {
        assert_eq!(printable("\x1b[2J\x1b[01;01H\x1b[=3hlimine: x\ty"), "limine: x\ty");
        assert_eq!(printable("plain"), "plain");
        assert_eq!(printable("cut \x1b[2"), "cut ");
    }
}
