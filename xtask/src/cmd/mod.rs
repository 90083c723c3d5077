//! The commands, one a module: its options, which are its help, and what it does.

pub mod bench;
pub mod bugs;
pub mod clean;
pub mod compare;
pub mod debug;
pub mod doctor;
pub mod image;
pub mod model;
pub mod run;
pub mod stress;
pub mod test;
pub mod trace;
