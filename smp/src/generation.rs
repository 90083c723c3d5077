//! Numbers of requests, which wrap around.
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

/// Whether an acknowledgement of `acked` answers the request `asked`: it is that one's. An initiator has one open request, so no other
/// can be meant; and what a CPU has answered before is taken back when it is asked again, so numbers may come round in between.
#[must_use]
pub const fn answers(acked: u32, asked: u32) -> bool {
    acked == asked
}

/// As [`answers`], wrong once numbers have wrapped: what the seeded bug `wrap-unsafe` compares by.
#[must_use]
pub(crate) const fn answers_unless_wrapped(acked: u32, asked: u32) -> bool {
    acked >= asked
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_other_acknowledgement_answers_however_old(asked in 1u32.., age in 1u32..) {
            prop_assert!(answers(asked, asked));
            prop_assert!(!answers(asked.wrapping_sub(age), asked));
            prop_assert!(!answers(asked, after(asked)));
        }
    }

    #[test]
    fn zero_is_skipped_and_never_answers() {
        assert_eq!(after(u32::MAX), 1);
        assert!(!answers(0, u32::MAX));
        assert!(!answers(0, 1));
    }
}
