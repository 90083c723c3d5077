//! What a reader outside (the host after a hang, gdb, a core dump) has to know to find a CPU's state in the kernel's
//! memory, and that state, put in words the same way wherever it was read.

use crate::trace::event::Cpus;
use core::fmt;

/// Defines [`Layout`] and its words.
macro_rules! layout {
    ($($(#[$meta:meta])* $field:ident,)+) => {
        /// Addresses and offsets: the words at the symbol `PALISADE_LAYOUT`, in this order. All are bytes.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Layout { $($(#[$meta])* pub $field: u64,)+ }

        impl Layout {
            /// The names of the words.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($field),)+];
            /// How many words.
            pub const WORDS: usize = Self::NAMES.len();

            /// The words.
            #[must_use]
            pub const fn words(&self) -> [u64; Self::WORDS] {
                [$(self.$field,)+]
            }

            /// From the words; `None` if the kernel has not written them yet.
            #[must_use]
            pub const fn from_words(words: [u64; Self::WORDS]) -> Option<Self> {
                let [$($field,)+] = words;
                let layout = Self { $($field,)+ };
                if layout.magic == Self::MAGIC { Some(layout) } else { None }
            }
        }
    };
}

layout! {
    /// [`Layout::MAGIC`].
    magic,
    /// Address of a table of pointers to CPUs, null where there is none.
    cpus,
    /// Entries of that table.
    cpus_max,
    /// Address of a pointer to the first thread object.
    threads,
    /// In a CPU: pointer to the thread that runs.
    cpu_current,
    /// In a CPU: `i32`, interrupt nesting, -1 in a thread.
    cpu_interrupt_depth,
    /// In a CPU: `u32`, guards that mask interrupts.
    cpu_masked_depth,
    /// In a CPU: `u32`, locks held.
    cpu_held_count,
    /// In a CPU: [`HELD`] pointers to lock names, each a pointer and a length.
    cpu_held,
    /// In a CPU: [`HELD`] pointers to where they were taken: objects of the language's, or null.
    cpu_held_sites,
    /// In such an object: the file's name, a pointer and a length. 0 and the next 0: not known.
    site_file,
    /// In such an object: `u32`, the line.
    site_line,
    /// In a CPU: the open request: its generation, and 2^32 if there is one.
    cpu_request,
    /// In a CPU: the open request's targets, one bit a CPU.
    cpu_targets,
    /// In a thread: pointer to the next thread object.
    thread_next,
    /// In a thread: `u32`, its number.
    thread_number,
    /// In a thread: `u8`, its state: free, ready, running, parked, dead.
    thread_state,
    /// In a thread: `u32`, guards that keep it from being preempted.
    thread_preempt_off,
    /// In a thread: `u32`, guards that hold an abort off.
    thread_shields,
    /// In a thread: `u32`, its stack's slot, 0 if none.
    thread_stack,
    /// In a thread: `u32`, the CPU that it ran on last.
    thread_last_cpu,
    /// In a thread: 24 bytes, its name.
    thread_name,
    /// In a thread: `u64`, how many of them.
    thread_name_length,
    /// Address of the pending stacks in the first list: pointers, each to a `u32`, a slot.
    pending,
    /// Address of their number, a `u64`.
    pending_count,
    /// How many such lists there are.
    pending_lists,
    /// From one list to the next, in bytes.
    pending_apart,
}

impl Layout {
    /// "PALILAY2" in ASCII.
    pub const MAGIC: u64 = u64::from_le_bytes(*b"PALILAY2");
}

/// Names of a thread's states, by their number.
pub const STATES: [&str; 5] = ["free", "ready", "running", "parked", "dead"];
/// Bytes of a thread's name that are kept.
pub const NAME: usize = 24;
/// Locks of a CPU that are remembered.
pub const HELD: usize = 8;

/// A lock that a CPU holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldLock<'a> {
    /// Its name; empty if this is none.
    pub name: &'a str,
    /// The file of the source in which it was taken; empty if that was not kept.
    pub file: &'a str,
    /// The line.
    pub line: u32,
}

impl fmt::Display for HeldLock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.name)?;
        if self.file.is_empty() { Ok(()) } else { write!(f, " (taken at {}:{})", self.file, self.line) }
    }
}

/// What a CPU is at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuState<'a> {
    /// Its number.
    pub cpu: u32,
    /// In a word: `running`, `halted`, `stopped`, `deaf`.
    pub state: &'a str,
    /// The thread's number.
    pub thread: u32,
    /// The thread's name.
    pub name: &'a str,
    /// Interrupts that it is in, 0 in a thread.
    pub interrupts: u32,
    /// Guards that mask interrupts.
    pub masked: u32,
    /// Guards of the thread that keep it from being preempted.
    pub preempt_off: u32,
    /// Guards of the thread that hold an abort off.
    pub shields: u32,
    /// The locks that it holds; those without a name are none.
    pub held: [HeldLock<'a>; HELD],
    /// Generation and targets of the shootdown request that it began and that is not done.
    pub request: Option<(u32, u64)>,
    /// Where it is, innermost first.
    pub backtrace: &'a [u64],
}

impl fmt::Display for CpuState<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, state, thread, name, interrupts, masked, preempt_off, shields, .. } = self;
        write!(
            f,
            "CPU {cpu}: {state}, thread '{name}'#{thread}, interrupts {interrupts} deep, masked {masked} deep, \
             preemption off {preempt_off} deep, shields {shields}"
        )?;
        for (at, lock) in self.held.iter().filter(|lock| !lock.name.is_empty()).enumerate() {
            write!(f, "{} {lock}", if at == 0 { "\n    holds" } else { "," })?;
        }
        if let Some((generation, targets)) = self.request {
            write!(f, "\n    waits for its request {cpu}:{generation} to {}", Cpus(targets))?;
        }
        if !self.backtrace.is_empty() {
            f.write_str("\n    backtrace")?;
            self.backtrace.iter().try_for_each(|address| write!(f, " {address:#x}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpus_state_says_what_there_is_and_no_more() {
        let mut state = CpuState { cpu: 2, state: "running", thread: 70, name: "x", masked: 1, ..CpuState::default() };
        let first = "CPU 2: running, thread 'x'#70, interrupts 0 deep, masked 1 deep, preemption off 0 deep, shields 0";
        assert_eq!(state.to_string(), first);
        state.held[0] = HeldLock { name: "heap", file: "heap.rs", line: 45 };
        state.held[1].name = "frames";
        state.request = Some((7, 0b1011));
        state.backtrace = &[0x10, 0x20];
        let rest = "\n    holds 'heap' (taken at heap.rs:45), 'frames'\n    waits for its request 2:7 to 0-1,3\n    backtrace 0x10 0x20";
        assert_eq!(state.to_string(), format!("{first}{rest}"));
    }

    #[test]
    fn the_layout_is_its_words() {
        let mut words: [u64; Layout::WORDS] = core::array::from_fn(|at| at as u64);
        assert_eq!(Layout::from_words(words), None);
        words[0] = Layout::MAGIC;
        assert_eq!(Layout::from_words(words).unwrap().words(), words);
    }
}
