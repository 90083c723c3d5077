//! Values that have names: workloads, protocols, seeded bugs.

use core::fmt;

/// Defines an enumeration whose values have names on the command line.
macro_rules! named {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$vmeta])* $variant,)+ }

        impl $name {
            /// Every value, in the order in which help shows them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// Every name, for error messages: `a|b|c`.
            pub const NAMES: &'static str = named!(@join $($text)+);

            /// The name on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The value with this name.
            #[must_use]
            pub fn by_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|v| v.name() == name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
    (@join $first:literal $($rest:literal)*) => { concat!($first $(, "|", $rest)*) };
}

named! {
    /// What the image does.
    Run {
        /// A workload, for as long as asked, with a verdict at the end.
        Stress = "stress",
        /// One self-test, by its name.
        Test = "test",
        /// What threads cost, from spawn to join.
        Bench = "bench",
    }
}

named! {
    /// The stress workloads.
    Workload {
        /// Each storm, `cross-abort` and `overflow`, one after the other and then all at once.
        Mixed = "mixed",
        /// All CPUs spawn threads that touch their whole stack and end themselves, staggered and at a barrier.
        AbortStorm = "abort-storm",
        /// Threads abort each other, running and not.
        CrossAbort = "cross-abort",
        /// Map, touch on every CPU, unmap, remap the same address to another frame, read it everywhere.
        UnmapStorm = "unmap-storm",
        /// Threads of two address spaces and of none take turns on every CPU, while others map and unmap in both.
        SpaceStorm = "space-storm",
        /// A share of the threads run into their guards.
        Overflow = "overflow",
        /// Several processes: programs that overflow, map and unmap, are aborted, ask for nonsense.
        UserStorm = "user-storm",
        /// As many threads as `threads=` says, on stacks of a page, all alive at once.
        Many = "many",
        /// One-page shootdowns and bare IPI round trips in turn, the other CPUs waiting in a pause loop.
        Latency = "latency",
        /// Rounds of `mixed` with events recorded and without, in turn, to learn what recording costs.
        TraceCost = "trace-cost",
    }
}

named! {
    /// The shootdown protocols.
    Protocol {
        /// A slot for each pair of initiator and target; initiators run in parallel.
        Scoreboard = "scoreboard",
        /// One counter a request; initiators run in parallel.
        Counter = "counter",
        /// One global lock, one counter, all other CPUs.
        Broadcast = "broadcast",
        /// Several unmaps, one request: who comes while one is under way joins the next.
        Batched = "batched",
        /// No interrupt: what was unmapped waits for every CPU's next switch or tick.
        Quiescent = "quiescent",
        /// No interrupt: AMD's INVLPGB tells all CPUs' TLBs, on processors that have it.
        Invlpgb = "invlpgb",
    }
}

named! {
    /// Who unmaps the stacks of threads that have ended.
    Reaping {
        /// The next thread that ends, on whichever CPU: one list for all, under one spinlock.
        Handoff = "handoff",
        /// Each CPU its own, several at once; idle CPUs, and whoever lacks memory, take from others.
        PerCpu = "per-cpu",
    }
}

named! {
    /// What becomes of the events that the CPUs record.
    Trace {
        /// No event is recorded.
        Off = "off",
        /// The latest events of each CPU are kept, and come out when something goes wrong.
        Ring = "ring",
        /// They are sent on the second serial port while the run goes on; what it cannot carry is dropped and counted.
        Stream = "stream",
        /// As `stream`, but the CPUs wait for the port.
        Lossless = "lossless",
        /// Large rings, which the host reads out of the guest's memory while the run goes on.
        Ram = "ram",
    }
}

named! {
    /// When the rings are sent at the end of a run.
    TraceDump {
        /// When it failed.
        Failure = "failure",
        /// Always.
        Always = "always",
    }
}

named! {
    /// Faults that can be put back on purpose. Only an image built with the feature `seeded-bugs` obeys.
    Bug {
        /// A stack is published for reaping before its CPU has left it.
        PublishBeforeSwitch = "publish-before-switch",
        /// Joiners are woken before the thread has left its stack.
        JoinBeforeOffStack = "join-before-off-stack",
        /// Frames and addresses come free without any CPU being asked to flush.
        SkipShootdown = "skip-shootdown",
        /// Frames and addresses come free before the CPUs acknowledged.
        FreeBeforeAck = "free-before-ack",
        /// The reaper waits for acknowledgements with its lock held.
        ShootdownUnderLock = "shootdown-under-lock",
        /// The last pending stack is forgotten.
        LostPending = "lost-pending",
        /// One shootdown IPI is not sent.
        DropIpi = "drop-ipi",
        /// A CPU acknowledges, and then flushes.
        AckBeforeFlush = "ack-before-flush",
        /// Any interrupt counts as the answer to whatever is asked at that moment.
        StrayAck = "stray-ack",
        /// A CPU that comes online, or wakes, flushes before it says so.
        LateCpu = "late-cpu",
        /// A CPU that sleeps is not asked, and does not flush when it wakes.
        IdleNoFlush = "idle-no-flush",
        /// The initiator does not flush its own TLB.
        SkipLocalFlush = "skip-local-flush",
        /// The last page of a range is not flushed.
        FlushOneShort = "flush-one-short",
        /// A request for more than the ceiling flushes nothing on the targets.
        ForgetCeiling = "forget-ceiling",
        /// Now and then a CPU is not asked.
        SkipACpu = "skip-a-cpu",
        /// Generations are compared as plain numbers, which is wrong once they wrap.
        WrapUnsafe = "wrap-unsafe",
        /// The one who asks for several leaves out what one of them unmapped.
        BatchDrops = "batch-drops",
        /// What waits for every CPU to pass comes free when all but one have.
        SettleEarly = "settle-early",
        /// A CPU reads a space's generation before it is among those that are asked.
        SwitchWindow = "switch-window",
        /// A partial flush counts as all that was missed before it.
        PartialOutOfOrder = "partial-out-of-order",
        /// A lazy CPU comes back to its space without looking what it missed.
        LazyNoFlush = "lazy-no-flush",
        /// A CPU comes back to a space and keeps what it has under the space's tag, whatever it missed.
        TagKept = "tag-kept",
        /// What is mapped for the kernel is dropped under the tag in use alone.
        TagsNotTold = "tags-not-told",
        /// Page tables are freed while lazy CPUs have them loaded.
        TablesFreedEarly = "tables-freed-early",
        /// Addresses of a space can be mapped again before the CPUs have dropped their translations.
        VaReuseEarly = "va-reuse-early",
        /// Slots, the addresses of stacks and mappings, come free before the CPUs have dropped their translations.
        SlotReuseEarly = "slot-reuse-early",
        /// Page-table entries are cleared when the CPUs have flushed, and not before.
        ClearAfterFlush = "clear-after-flush",
        /// A stack is reaped once more with the next ones.
        DoubleReap = "double-reap",
        /// Now and then the frames of what was unmapped are forgotten.
        FrameLeak = "frame-leak",
        /// An unpark is lost that comes while the thread is about to park.
        LostWakeup = "lost-wakeup",
        /// Memory is allocated with the page tables' lock held, which is taken with the heap's lock held.
        LockOrder = "lock-order",
        /// A join looks whether the thread is done with the thread's lock held, which looking takes.
        LockRecursion = "lock-recursion",
        /// The sleepers' lock, which a timer tick takes, is held with interrupts on.
        IrqUnsafe = "irq-unsafe",
        /// A timer tick waits for its turn at the second serial port.
        TurnInInterrupt = "turn-in-interrupt",
        /// The boot runs off the end of its stack.
        BootOverflow = "boot-overflow",
        /// A stack from a CPU's cache still holds what the thread before left on it.
        CacheKeepsContents = "cache-keeps-contents",
    }
}
