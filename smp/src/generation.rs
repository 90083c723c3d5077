//! Numbers of requests, which wrap around and stay comparable.
//!
//! 0 means "never" and no request has it, so a slot that nobody wrote cannot look acknowledged.

/// The generation after `generation`: one more, past 0.
#[must_use]
pub const fn after(generation: u32) -> u32 {
    match generation.wrapping_add(1) {
        0 => 1,
        next => next,
    }
}

/// Whether an acknowledgement of `acked` covers `asked`: the same, or younger by less than half the number space.
///
/// A slot is asked for a new generation only after the one before was acknowledged, so the two are never further apart
/// than one; the half space is the margin.
#[must_use]
pub const fn covers(acked: u32, asked: u32) -> bool {
    acked != 0 && acked.wrapping_sub(asked) < u32::MAX / 2
}

/// As [`covers`], wrong once numbers have wrapped: what the seeded bug `wrap-unsafe` compares by.
#[must_use]
pub(crate) const fn covers_unless_wrapped(acked: u32, asked: u32) -> bool {
    acked >= asked
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_old_acknowledgement_never_covers_a_younger_request(asked in 1u32..) {
            prop_assert!(covers(asked, asked));
            prop_assert!(!covers(asked, after(asked)));
            prop_assert!(covers(after(asked), asked));
        }
    }

    #[test]
    fn zero_is_skipped_and_never_covers() {
        assert_eq!(after(u32::MAX), 1);
        assert!(!covers(0, u32::MAX));
        assert!(!covers(0, 1));
    }
}
