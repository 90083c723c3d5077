//! What the types rule out does not compile, and for the reason that was meant.
#![cfg(not(any(feature = "loom", feature = "shuttle")))]

#[test]
fn the_wrong_order_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
