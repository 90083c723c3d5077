//! The events. This table is the only place that knows them: everything else is made of it.
//!
//! An event has up to two words: `a` of 32 bits and `b` of 64. Each is one field of the kind that the table says, which
//! fixes how it is packed and how it is shown.

use bitflags::bitflags;
use core::fmt;

bitflags! {
    /// Groups of events, to record some and not others.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Categories: u32 {
        /// Threads that come, go, and change places.
        const SCHED = 1 << 0;
        /// CPUs with nothing to do.
        const IDLE = 1 << 1;
        /// The life of stacks and other mappings.
        const STACK = 1 << 2;
        /// TLB shootdowns.
        const SHOOTDOWN = 1 << 3;
        /// Interrupts sent, taken and served.
        const IRQ = 1 << 4;
        /// Locks that somebody had to wait for.
        const LOCK = 1 << 5;
        /// Faults, NMIs, panics.
        const FAULT = 1 << 6;
        /// Marks set by a workload.
        const MARK = 1 << 7;
    }
}

impl Categories {
    /// Their names, in the order of the bits.
    pub const NAMES: [&'static str; 8] = ["sched", "idle", "stack", "shootdown", "irq", "lock", "fault", "mark"];

    /// The category with this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        let at = Self::NAMES.iter().position(|known| *known == name)?;
        Some(Self::from_bits_retain(1 << at))
    }
}

/// What a field means: how it is packed, and how it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The word is not used.
    None,
    /// A number.
    Number,
    /// A CPU's number.
    Cpu,
    /// A thread's number.
    Thread,
    /// A set of CPUs, one bit each.
    Cpus,
    /// A request's generation; with the initiating CPU it names the request. Counts up and wraps, and starts near the
    /// wrap: packed as a signed number.
    Generation,
    /// A slot of addresses: size class in the upper half, number in the lower.
    Slot,
    /// An address.
    Address,
    /// An interrupt vector.
    Vector,
    /// Up to 8 bytes of text.
    Text,
    /// Up to 4 bytes of text that go on in the other word.
    TextHead,
    /// One of the names in the list.
    Name(&'static [&'static str]),
}

/// The kernel's interrupt vectors and their names: [`Field::Vector`].
pub const VECTORS: &[(u8, &str)] =
    &[(0x40, "timer"), (0x50, "reschedule"), (0x60, "call"), (0xe0, "ping"), (0xf0, "shootdown")];

/// Why a thread leaves its CPU: [`Event::Leave`].
pub const WHY: &[&str] = &["preempted", "parks"];
/// How a thread comes to its end: [`Event::End`].
pub const HOW: &[&str] = &["returned", "exited", "aborted", "faulted"];
/// What was hit: [`Event::Fault`].
pub const FAULTS: &[&str] = &["front guard", "rear guard", "page", "exception"];
/// What is waited for: [`Event::Wait`].
pub const WAITS: &[&str] = &["shootdown", "ping", "call"];

/// A field as the table says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldInfo {
    /// Its name; empty if the word is not used.
    pub name: &'static str,
    /// Its kind.
    pub kind: Field,
}

/// A kind of event as the table says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Number on the wire.
    pub kind: u8,
    /// Name.
    pub name: &'static str,
    /// What it means.
    pub about: &'static str,
    /// Category.
    pub category: Categories,
    /// Field `a`.
    pub a: FieldInfo,
    /// Field `b`.
    pub b: FieldInfo,
}

macro_rules! events {
    ($($(#[doc = $about:literal])+ $kind:literal $variant:ident $name:literal $category:ident
        { $(a $a:ident: $akind:expr;)? $(b $b:ident: $bkind:expr;)? })+) => {
        /// What happened. Fields are `a` (32 bits) or `b` (64 bits); [`Event::info`] says of which kind.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Event {
            $($(#[doc = $about])+ $variant { $($a: u32,)? $($b: u64,)? },)+
        }

        /// Every kind of event.
        pub const TABLE: &[Info] = &[$(Info {
            kind: $kind,
            name: $name,
            about: concat!($($about, "\n"),+),
            category: Categories::$category,
            a: events!(@field $($a $akind)?),
            b: events!(@field $($b $bkind)?),
        },)+];

        impl Event {
            /// Number, word `a` and word `b`; unused words are 0.
            #[must_use]
            #[inline(always)]
            pub const fn raw(self) -> (u8, u32, u64) {
                match self {
                    $(Self::$variant { $($a,)? $($b,)? } => ($kind, events!(@or $($a)?), events!(@or $($b)?)),)+
                }
            }

            /// The event of these words; `None` if no event has this number.
            #[must_use]
            pub const fn from_raw(kind: u8, a: u32, b: u64) -> Option<Self> {
                let _ = (a, b); // which no event may use
                match kind {
                    $($kind => Some(Self::$variant { $($a: a,)? $($b: b,)? }),)+
                    _ => None,
                }
            }

            /// Its category.
            #[must_use]
            #[inline(always)]
            pub const fn category(self) -> Categories {
                match self {
                    $(Self::$variant { .. } => Categories::$category,)+
                }
            }
        }
    };
    (@field) => { FieldInfo { name: "", kind: Field::None } };
    (@field $name:ident $kind:expr) => { FieldInfo { name: stringify!($name), kind: $kind } };
    (@or) => { 0 };
    (@or $word:ident) => { $word };
}

events! {
    /// The CPU goes on with the thread `to`.
    1 Switch "switch" SCHED { a to: Field::Thread; }
    /// `thread` can run, and was put into the queue of `cpu`.
    2 Ready "ready" SCHED { a thread: Field::Thread; b cpu: Field::Cpu; }
    /// `thread` was taken from the queue of CPU `from`.
    3 Steal "steal" SCHED { a thread: Field::Thread; b from: Field::Cpu; }
    /// The CPU has nothing to do, and halts until an interrupt comes.
    4 Halt "halt" IDLE {}
    /// `thread` does not park the next time: it is not parked yet. (One that is becomes `ready`.)
    5 Unpark "unpark" SCHED { a thread: Field::Thread; }
    /// A timer tick. Those before it were not recorded, as long as nothing else was: `quiet` of them.
    6 Tick "tick" IRQ { a quiet: Field::Number; }
    /// `thread` is made, with the stack `slot`.
    7 Spawn "spawn" SCHED { a thread: Field::Thread; b slot: Field::Slot; }
    /// The name of the thread that the event speaks for: 12 bytes of it.
    8 Name "name" SCHED { a head: Field::TextHead; b rest: Field::Text; }
    /// The thread begins to end.
    9 End "end" SCHED { a how: Field::Name(HOW); }
    /// The CPU has left the thread and its stack `slot` for good; it is left for reaping, beside `pending` others. Takes the
    /// place of `leave`.
    10 OffStack "off-stack" STACK { a slot: Field::Slot; b pending: Field::Number; }
    /// The end of `thread` was waited for.
    11 Joined "joined" SCHED { a thread: Field::Thread; }
    /// Somebody asks for the end of `thread`.
    12 Abort "abort" SCHED { a thread: Field::Thread; }
    /// The thread did what it must not.
    13 Fault "fault" FAULT { a what: Field::Name(FAULTS); b address: Field::Address; }
    /// Something was mapped in `slot`.
    14 Map "map" STACK { a slot: Field::Slot; b pages: Field::Number; }
    /// The page-table entries of `slot` were cleared.
    15 Unmap "unmap" STACK { a slot: Field::Slot; b pages: Field::Number; }
    /// The frames and the addresses of `slot` are free.
    16 Free "free" STACK { a slot: Field::Slot; }
    /// The thread takes `stacks` pending stacks to reap.
    17 Reap "reap" STACK { a stacks: Field::Number; }
    /// This CPU dropped all its translations.
    18 FlushAll "flush-all" SHOOTDOWN {}
    /// A shootdown request begins: `targets` have to acknowledge.
    19 Request "request" SHOOTDOWN { a generation: Field::Generation; b targets: Field::Cpus; }
    /// This CPU has flushed what the request of `initiator` names, and acknowledges.
    20 Ack "ack" SHOOTDOWN { a generation: Field::Generation; b initiator: Field::Cpu; }
    /// All targets have acknowledged.
    21 Done "done" SHOOTDOWN { a generation: Field::Generation; }
    /// The thread begins to wait for other CPUs where it must not: with interrupts masked `masked` deep, by a lock held or a
    /// guard, or inside an interrupt. Waits that are as they should be are not recorded.
    22 Wait "wait" SHOOTDOWN { a masked: Field::Number; b what: Field::Name(WAITS); }
    /// The thread has left the CPU, to come back; from here on others may run it, or wake it. Not of idle threads.
    23 Leave "leave" SCHED { a why: Field::Name(WHY); }
    /// Interrupt `vector` was sent to `targets`.
    24 Send "send" IRQ { a vector: Field::Vector; b targets: Field::Cpus; }
    /// Interrupt `vector` was taken.
    25 Receive "receive" IRQ { a vector: Field::Vector; }
    /// Its handler is done.
    26 Served "served" IRQ { a vector: Field::Vector; }
    /// The lock is taken: CPU `owner` has it, or had it last.
    27 Contended "contended" LOCK { a owner: Field::Cpu; b lock: Field::Text; }
    /// The lock is this CPU's after a wait.
    28 Acquired "acquired" LOCK { b lock: Field::Text; }
    /// A workload's mark.
    29 Mark "mark" MARK { a mark: Field::Number; b value: Field::Number; }
    /// This CPU panicked.
    30 Panic "panic" FAULT {}
    /// This CPU took an NMI.
    31 Nmi "nmi" FAULT { b rip: Field::Address; }
    /// A round of the workload begins.
    32 Round "round" MARK { b round: Field::Number; }
    /// What the thread has unmapped comes free when each of `targets` has dropped all its translations, at a switch or a tick of
    /// its own, or sleeps. The number counts up by one each time, on whichever CPU.
    33 Defer "defer" SHOOTDOWN { a generation: Field::Generation; b targets: Field::Cpus; }
    /// The CPU uses none of its translations from here on, until its next `flush-all`: it is not asked.
    34 Asleep "asleep" IDLE {}
}

impl Event {
    /// What the table says of it.
    #[must_use]
    pub fn info(self) -> &'static Info {
        let (kind, ..) = self.raw();
        Info::of(kind).expect("every event is in the table")
    }
}

impl Info {
    /// The kind of event with this number.
    #[must_use]
    pub fn of(kind: u8) -> Option<&'static Self> {
        TABLE.get(usize::from(kind).checked_sub(1)?).filter(|info| info.kind == kind)
    }

    /// The kind of event with this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        TABLE.iter().find(|info| info.name == name)
    }
}

/// Text as a word: its first 8 bytes, zeros behind.
#[must_use]
pub const fn text(text: &str) -> u64 {
    let (bytes, mut word, mut at) = (text.as_bytes(), 0u64, 0);
    while at < bytes.len() && at < 8 {
        word |= (bytes[at] as u64) << (8 * at);
        at += 1;
    }
    word
}

/// A name as the two words of [`Event::Name`]: 4 bytes and 8 more.
#[must_use]
pub const fn name_words(name: &str) -> (u32, u64) {
    let (bytes, mut words, mut at) = (name.as_bytes(), (0u32, 0u64), 0);
    while at < bytes.len() && at < 12 {
        if at < 4 {
            words.0 |= (bytes[at] as u32) << (8 * at);
        } else {
            words.1 |= (bytes[at] as u64) << (8 * (at - 4));
        }
        at += 1;
    }
    words
}

/// A set of CPUs in words: `0-2,5`.
#[derive(Clone, Copy, Debug)]
pub struct Cpus(pub u64);

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("none");
        }
        let has = |cpu: u32| cpu < 64 && self.0 >> cpu & 1 == 1;
        let mut comma = "";
        let mut cpu = 0;
        while cpu < 64 {
            if has(cpu) {
                let first = cpu;
                while has(cpu + 1) {
                    cpu += 1;
                }
                write!(f, "{comma}{first}")?;
                if cpu > first {
                    write!(f, "-{cpu}")?;
                }
                comma = ",";
            }
            cpu += 1;
        }
        Ok(())
    }
}

/// A slot of addresses in words: its size and its number, `16K/3`.
#[derive(Clone, Copy, Debug)]
pub struct SlotName(pub u32);

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = 16u64 << (self.0 >> 16 & 0x1f);
        let number = (self.0 & 0xffff).wrapping_sub(1);
        match kib {
            ..1024 => write!(f, "{kib}K/{number}"),
            _ => write!(f, "{}M/{number}", kib >> 10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_numbers_and_names_are_unique() {
        for (at, info) in TABLE.iter().enumerate() {
            assert_eq!(usize::from(info.kind), at + 1, "{}", info.name);
            assert!(info.kind < 64, "the wire has 6 bits");
            assert_eq!(Info::by_name(info.name), Some(info));
            let event = Event::from_raw(info.kind, 5, 9).unwrap();
            let (kind, a, b) = event.raw();
            assert_eq!(kind, info.kind);
            assert_eq!(a, if info.a.kind == Field::None { 0 } else { 5 });
            assert_eq!(b, if info.b.kind == Field::None { 0 } else { 9 });
            assert_eq!(event.category(), info.category);
        }
        assert!(Event::from_raw(0, 0, 0).is_none() && Event::from_raw(63, 0, 0).is_none());
    }

    #[test]
    fn sets_of_cpus_are_short() {
        let words = [0, 1, 0b1110_0101, u64::MAX].map(|set| Cpus(set).to_string());
        assert_eq!(words, ["none", "0", "0,2,5-7", "0-63"]);
    }

    #[test]
    fn categories_are_found_by_name() {
        assert_eq!(Categories::by_name("stack"), Some(Categories::STACK));
        assert_eq!(Categories::by_name("x"), None);
    }
}
