//! The model that both checkers run: the shipped protocols on simulated CPUs.
//!
//! A CPU is a thread of the checker. At every moment at which the protocol's code meets the machine, and between its own
//! steps, it does the worst that hardware may: it loads every translation that is present into its TLB, and uses every
//! one that it holds. A frame that is used after it was freed, or (under loom) whose freeing is not ordered after its
//! last use by what the protocol's atomics promise, is a failure.

pub mod checker;
pub mod explore;
pub mod machine;
pub mod scenarios;
