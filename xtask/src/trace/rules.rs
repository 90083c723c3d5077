//! The rules that a trace has to keep, as data. [`super::check`] replays the events against them.

use wire::trace::Event;

/// Where a slot of addresses is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Life {
    /// Nothing is mapped there.
    Free,
    /// Something is, and no thread stands on it.
    Mapped,
    /// A thread has it as its stack.
    Stack,
    /// The thread has ended, and its CPU has left the stack.
    Left,
    /// The page-table entries are cleared; CPUs may still have translations.
    Unmapped,
}

/// A step in the life of a slot.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The event.
    pub event: &'static str,
    /// The states that it may come in.
    pub from: &'static [Life],
    /// The state after it.
    pub to: Life,
    /// The rule that is broken when it comes in another state.
    pub rule: &'static str,
}

/// The life of a slot: what may come when.
pub const SLOT: &[Step] = &[
    Step { event: "map", from: &[Life::Free], to: Life::Mapped, rule: "addresses are reused only when they are free" },
    // Left: kept by its CPU for the next thread, or lent by its owner to the next.
    Step { event: "spawn", from: &[Life::Mapped, Life::Left], to: Life::Stack, rule: "a stack is one thread's" },
    Step { event: "off-stack", from: &[Life::Stack], to: Life::Left, rule: "a stack is left once" },
    Step {
        event: "unmap",
        from: &[Life::Mapped, Life::Left],
        to: Life::Unmapped,
        rule: "a stack is unmapped only when its CPU has left it",
    },
    Step {
        event: "free",
        from: &[Life::Unmapped],
        to: Life::Free,
        rule: "what is mapped is unmapped once, and freed once",
    },
];

/// What holds of shootdown requests.
pub const ACKS_BEFORE_DONE: &str = "a request is done only when every target has acknowledged it";
/// As above.
pub const ONLY_ASKED_ACK: &str = "a CPU acknowledges what it was asked, once";
/// As above.
pub const REQUESTS_END: &str = "every request ends";
/// As above, of what the request was made for.
pub const DONE_BEFORE_FREE: &str = "memory is freed only after the request that its unmapping made is done";
/// As above, where nobody waits for the request.
pub const ALL_FLUSH_BEFORE_FREE: &str =
    "what is deferred is freed only after every CPU has flushed everything, or sleeps";
/// What holds of stacks that were left.
pub const LEFT_ARE_UNMAPPED: &str = "a stack that was left is unmapped";
/// What holds of waiting for other CPUs.
pub const NO_LOCK_AT_A_WAIT: &str = "nobody waits for another CPU with a lock held or interrupts masked";
/// What holds of threads.
pub const ONE_CPU_A_THREAD: &str = "a thread runs on one CPU at a time";
/// As above.
pub const JOINED_AFTER_LEFT: &str = "a thread is joined only when its CPU has left its stack";

/// All rules, for the report.
#[must_use]
pub fn all() -> Vec<&'static str> {
    let lives = SLOT.iter().map(|step| step.rule);
    lives
        .chain([
            ACKS_BEFORE_DONE,
            ONLY_ASKED_ACK,
            REQUESTS_END,
            DONE_BEFORE_FREE,
            ALL_FLUSH_BEFORE_FREE,
            LEFT_ARE_UNMAPPED,
            NO_LOCK_AT_A_WAIT,
            ONE_CPU_A_THREAD,
            JOINED_AFTER_LEFT,
        ])
        .collect()
}

/// The slot that an event is about.
#[must_use]
pub const fn slot(event: Event) -> Option<u32> {
    match event {
        Event::Map { slot, .. } | Event::Unmap { slot, .. } | Event::Free { slot } | Event::OffStack { slot, .. } => {
            Some(slot)
        }
        Event::Spawn { slot, .. } => Some(slot as u32),
        _ => None,
    }
}
