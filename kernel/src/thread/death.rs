//! What a thread died of, for its joiner and for reports.

use super::Watermark;
use crate::mem::{Owner, PAGE_SIZE};
use core::fmt;
use wire::record::Guard;

/// Why a thread has no value to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// It called [`super::exit`].
    Exited,
    /// Somebody aborted it.
    Aborted,
    /// It did what it must not.
    Fault(Fault),
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited => f.write_str("it ended itself"),
            Self::Aborted => f.write_str("it was aborted"),
            Self::Fault(fault) => fault.fmt(f),
        }
    }
}

impl core::error::Error for Death {}

/// What a thread died of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kind.
    pub kind: FaultKind,
    /// The address that was touched, for those that touch one.
    pub address: u64,
    /// What lies there; `None` for nothing.
    pub there: Option<Owner>,
    /// The instruction that did it.
    pub rip: u64,
    /// How much of the stack in use was ever used until then.
    pub used: Watermark,
    /// That stack's size, in bytes.
    pub stack_bytes: u32,
    /// Whose code the instruction is.
    pub mode: Mode,
}

/// Where a thread is when it faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A thread of the kernel.
    Kernel,
    /// In user code.
    User,
    /// In the kernel, for a user thread: mostly in a system call. Its stack there is its privileged stack.
    SystemCall,
}

impl Mode {
    /// As words in front of `stack`, and behind what happened.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Kernel => ("", ""),
            Self::User => ("", " in user mode"),
            Self::SystemCall => ("privileged ", " in a system call"),
        }
    }
}

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A guard of its own stack, this many bytes past the edge.
    Guard(Guard, u64),
    /// A guard of its user stack, this many bytes past the edge.
    UserGuard(Guard, u64),
    /// Another address that is not mapped, or not for this.
    Page,
    /// Another exception, by its vector.
    Exception(u8),
}

impl core::error::Error for Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, address, there, rip, used, stack_bytes, mode } = self;
        let (stack, place) = mode.words();
        match kind {
            FaultKind::Guard(guard, distance) => {
                let (what, beyond) = words_of(*guard);
                match there {
                    Some(Owner::Cpu { cpu, kind, .. }) => write!(f, "{what} of the {kind} stack of {cpu}")?,
                    _ => write!(f, "{stack}stack {what}")?,
                }
                write!(f, ": {address:#x} is {distance} bytes {beyond}, at rip {rip:#x}")?;
            }
            FaultKind::UserGuard(guard, distance) => {
                let (what, beyond) = words_of(*guard);
                write!(f, "user stack {what}: {address:#x} is {distance} bytes {beyond}, at rip {rip:#x}")?;
            }
            FaultKind::Page => {
                write!(f, "page fault{place} at {address:#x}, ")?;
                match there {
                    Some(owner) => write!(f, "{owner}, at rip {rip:#x}")?,
                    None if *address < PAGE_SIZE => write!(f, "in the null page, at rip {rip:#x}")?,
                    None => write!(f, "where nothing is, at rip {rip:#x}")?,
                }
            }
            FaultKind::Exception(vector) => write!(f, "exception {vector}{place} at rip {rip:#x}")?,
        }
        // Of a user's stack that is not known.
        if *mode == Mode::User { Ok(()) } else { write!(f, "; {used} of {stack_bytes} bytes of the stack were used") }
    }
}

/// What happened to whoever hit this guard, and where that is.
const fn words_of(guard: Guard) -> (&'static str, &'static str) {
    match guard {
        Guard::Front => ("overflow", "below the stack, in its front guard"),
        Guard::Rear => ("underflow", "above the stack, in its rear guard"),
    }
}
