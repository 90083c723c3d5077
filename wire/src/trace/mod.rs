//! Traces: what each CPU did, event by event.
//!
//! ```text
//!   guest                                                                  host
//!   Event ──▶ Entry in the CPU's ring (32 bytes) ──▶ pack ──▶ Record::Trace ──▶ unpack ──▶ Event
//!                      └── read from outside: guest RAM behind a file, a hang, a core dump ──▶ Event
//! ```
//! [`event`] says once what events there are; encoder, decoder, names, fields and the table that other languages read
//! all come of it. [`entry`] is an event in a ring, [`pack`] a sequence of them on the wire.

pub mod entry;
pub mod event;
pub mod pack;

pub use entry::{Entry, Rings};
pub use event::{Categories, Event};
