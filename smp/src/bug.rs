//! Faults that can be put back on purpose, so that it can be shown that the tests see them.
//!
//! Without the cargo feature `seeded-bugs`, [`armed`] is `false` at compile time and nothing of them is in the image.

#[cfg(feature = "seeded-bugs")]
use core::sync::atomic::{AtomicU8, Ordering};

/// Defines the faults and their names.
macro_rules! bugs {
    ($($(#[$meta:meta])* $variant:ident = $name:literal,)+) => {
        /// A fault in the protocols.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Bug { $($(#[$meta])* $variant,)+ }

        impl Bug {
            /// Every fault.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The fault with this name.
            #[must_use]
            pub fn by_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|bug| bug.name() == name)
            }
        }
    };
}

bugs! {
    /// What was unmapped comes free without any CPU being asked.
    SkipShootdown = "skip-shootdown",
    /// What was unmapped comes free before the CPUs have acknowledged.
    FreeBeforeAck = "free-before-ack",
    /// Now and then an interrupt is not sent.
    DropIpi = "drop-ipi",
    /// Now and then a pending stack is forgotten.
    LostPending = "lost-pending",
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
}

#[cfg(feature = "seeded-bugs")]
static ARMED: AtomicU8 = AtomicU8::new(u8::MAX);

/// Puts `bug` back, from now on; with `None`, none.
#[cfg(feature = "seeded-bugs")]
pub fn arm(bug: Option<Bug>) {
    ARMED.store(bug.map_or(u8::MAX, |bug| bug as u8), Ordering::Relaxed);
}

/// Whether `bug` was put back.
#[must_use]
#[inline]
pub fn armed(bug: Bug) -> bool {
    #[cfg(feature = "seeded-bugs")]
    return ARMED.load(Ordering::Relaxed) == bug as u8;
    #[cfg(not(feature = "seeded-bugs"))]
    {
        let _ = bug;
        false
    }
}
