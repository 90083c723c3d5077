//! What lets a thread go on that parks: a token that is left before or while it does, and is used up by that.
//!
//! The kernel's own waits (for an end, for a time, for a turn) park as well, and are woken by what they wait for. A user's
//! [`unpark`](super::Handle::unpark) wakes them early, and they wait on; but it is not theirs to use up. So there are two bits: one that
//! ends any wait, and one that stays until the thread comes to a [`park`](super::park) of its user's.

use core::sync::atomic::{AtomicU32, Ordering};

const WOKEN: u32 = 1;
const UNPARKED: u32 = 2;

/// Giving and taking are sequentially consistent read-modify-writes, so that who takes a token sees all that its giver did before. Looking is
/// sequentially consistent, too: of one who parks and one who wakes, each of whom looks at what the other writes, one sees the other; see
/// the epilogue in [`super::switch`].
#[derive(Debug)]
pub(super) struct Token(AtomicU32);

impl Token {
    pub(super) const fn none() -> Self {
        Self(AtomicU32::new(0))
    }

    /// The object is another thread's from now on.
    #[inline(always)]
    pub(super) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Ends the wait that the thread is in, or begins next.
    #[inline(always)]
    pub(super) fn wake(&self) {
        self.0.fetch_or(WOKEN, Ordering::SeqCst);
    }

    /// The same, and lets it go on from its user's next park.
    #[inline(always)]
    pub(super) fn unpark(&self) {
        self.0.fetch_or(WOKEN | UNPARKED, Ordering::SeqCst);
    }

    /// For a wait of the kernel's: whether it is to end. What an unpark left for the user stays.
    #[inline(always)]
    pub(super) fn take_wake(&self) -> bool {
        self.0.fetch_and(!WOKEN, Ordering::SeqCst) & WOKEN != 0
    }

    /// For a park of the user's: whether there is any.
    #[inline(always)]
    pub(super) fn take(&self) -> bool {
        self.0.swap(0, Ordering::SeqCst) != 0
    }

    /// Whether the thread is not to stay parked. In the epilogue, after it has said that it is.
    #[inline(always)]
    pub(super) fn is_woken(&self) -> bool {
        self.0.load(Ordering::SeqCst) & WOKEN != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_of_the_kernels_leaves_an_unpark_to_the_user() {
        let token = Token::none();
        token.unpark();
        assert!(token.is_woken() && token.take_wake());
        assert!(!token.is_woken() && !token.take_wake(), "it ends one wait");
        assert!(token.take() && !token.take(), "and one park");
    }

    #[test]
    fn a_wake_that_a_wait_of_the_kernels_took_is_nothing_to_a_park_after_it() {
        let token = Token::none();
        token.wake();
        assert!(token.take_wake() && !token.take());
    }
}
