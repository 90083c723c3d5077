//! What the CPUs of a guest are at, read from outside: the same report as the guest's own, whatever state it is in.

use crate::qmp::{Qmp, Registers};
use crate::symbols::Symbols;
use crate::trace::{Trace, rings, text};
use std::io;
use wire::debug::{CpuState, HELD, HeldLock, Layout, NAME};

/// Frames of a backtrace.
const DEPTH: usize = 24;
/// Events of each CPU in a report.
pub const LAST_EVENTS: usize = 20;

/// What was found.
#[derive(Debug, Default)]
pub struct Inspection {
    /// A few lines for each CPU.
    pub cpus: Vec<String>,
    /// What the rings hold, if there are any.
    pub trace: Option<Trace>,
}

/// Looks at the guest behind `qmp`.
///
/// # Errors
/// If QEMU does not answer.
pub fn inspect(qmp: &mut Qmp, symbols: &Symbols) -> io::Result<Inspection> {
    let registers = qmp.registers()?;
    let mut read = |address: u64, bytes: &mut [u8]| qmp.memory(address, bytes);
    let layout = symbols.address("PALISADE_LAYOUT").and_then(|at| layout(&mut read, at).ok());
    let cpus = registers.iter().map(|cpu| told(&mut read, layout.as_ref(), cpu)).collect();
    let trace = symbols.address("PALISADE_TRACE").and_then(|at| {
        let table = rings::table(&mut read, at).ok()?;
        rings::all(&mut read, &table).ok()
    });
    Ok(Inspection { cpus, trace })
}

fn layout(read: rings::ReadMemory<'_>, address: u64) -> io::Result<Layout> {
    let mut bytes = [0; Layout::WORDS * 8];
    read(address, &mut bytes)?;
    let words = std::array::from_fn(|at| u64::from_le_bytes(bytes[at * 8..at * 8 + 8].try_into().expect("8 bytes")));
    Layout::from_words(words).ok_or_else(|| io::Error::other("the kernel has not come that far"))
}

fn word(read: rings::ReadMemory<'_>, address: u64) -> u64 {
    let mut bytes = [0; 8];
    match read(address, &mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => 0,
    }
}

fn bytes(read: rings::ReadMemory<'_>, address: u64, length: usize) -> String {
    let mut bytes = vec![0; length];
    match read(address, &mut bytes) {
        Ok(()) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => "?".into(),
    }
}

/// The text whose pointer and length are at `address`, if it is no longer than names are.
fn text(read: rings::ReadMemory<'_>, address: u64) -> String {
    let (start, length) = (word(read, address), word(read, address + 8));
    bytes(read, start, (length as usize).min(64))
}

/// File and line of a place in the kernel's source; an empty file if it was not kept.
fn site(read: rings::ReadMemory<'_>, layout: &Layout, address: u64) -> (String, u32) {
    if address == 0 || layout.site_file == layout.site_line {
        return (String::new(), 0);
    }
    (text(read, address + layout.site_file), word(read, address + layout.site_line) as u32)
}

/// What a CPU is at, in the words of the guest's own report.
fn told(read: rings::ReadMemory<'_>, layout: Option<&Layout>, at: &Registers) -> String {
    let backtrace = backtrace(read, at);
    let state = if at.halted { "halted" } else { "running" };
    let on_off = if at.rflags & 1 << 9 == 0 { "interrupts masked" } else { "interrupts on" };
    let mut shown = CpuState { cpu: at.cpu, state, backtrace: &backtrace, ..CpuState::default() };
    let Some(layout) = layout.filter(|_| at.gs != 0) else {
        return format!("{shown}\n    rsp {:#x}, {on_off}; it has not come to the kernel's own data", at.rsp);
    };
    let mut half = |address: u64| word(read, address) as u32;
    shown.interrupts = half(at.gs + layout.cpu_interrupt_depth).wrapping_add(1);
    shown.masked = half(at.gs + layout.cpu_masked_depth);
    let held_count = half(at.gs + layout.cpu_held_count) as usize;
    let thread = word(read, at.gs + layout.cpu_current);
    let mut half = |address: u64| word(read, address) as u32;
    shown.thread = half(thread + layout.thread_number);
    shown.preempt_off = half(thread + layout.thread_preempt_off);
    shown.shields = half(thread + layout.thread_shields);
    let length = (word(read, thread + layout.thread_name_length) as usize).min(NAME);
    let name = bytes(read, thread + layout.thread_name, length);
    shown.name = &name;
    let request = word(read, at.gs + layout.cpu_request);
    shown.request = (request != 0).then(|| (request as u32, word(read, at.gs + layout.cpu_targets)));
    let held: Vec<_> = (0..held_count.min(HELD) as u64)
        .map(|lock| {
            let name = word(read, at.gs + layout.cpu_held + lock * 8);
            let place = word(read, at.gs + layout.cpu_held_sites + lock * 8);
            let (file, line) = site(read, layout, place);
            (text(read, name), file, line)
        })
        .collect();
    for (place, (name, file, line)) in shown.held.iter_mut().zip(&held) {
        *place = HeldLock { name, file, line: *line };
    }
    format!("{shown}\n    rsp {:#x}, {on_off}", at.rsp)
}

/// The frame-pointer chain, as far as it goes.
fn backtrace(read: rings::ReadMemory<'_>, at: &Registers) -> Vec<u64> {
    let (mut addresses, mut rbp) = (vec![at.rip], at.rbp);
    while rbp != 0 && rbp.is_multiple_of(8) && addresses.len() < DEPTH {
        let (next, back) = (word(read, rbp), word(read, rbp.wrapping_add(8)));
        if back == 0 {
            break;
        }
        addresses.push(back);
        if next <= rbp {
            break;
        }
        rbp = next;
    }
    addresses
}

/// The last events of each CPU, in words.
#[must_use]
pub fn last_events(trace: &Trace) -> Vec<String> {
    let (names, start) = (trace.names(), trace.start());
    let mut lines = Vec::new();
    for lane in &trace.lanes {
        let first = lane.events.len().saturating_sub(LAST_EVENTS);
        lines.push(format!("CPU {}, the last {} events:", lane.cpu, lane.events.len() - first));
        for (place, entry) in lane.events.iter().enumerate().skip(first) {
            let at = crate::trace::At { cpu: lane.cpu, place, entry: *entry };
            lines.push(format!("  {}", text::line(trace, start, &names, &at)));
        }
    }
    lines
}
