//! The shipped protocols under shuttle: more CPUs than can be explored exhaustively, in schedules drawn from a seed.
#![cfg(feature = "shuttle")]

#[expect(dead_code, reason = "of the scenarios some are for the other checker, or pass")]
mod model;

use model::explore::{each, explore};
use model::scenarios as run;

#[test]
fn four_cpus_unmap() {
    each("4 CPUs unmap 3 pages each", 4_000, |name| run::storm(name, 4, 3));
}

#[test]
fn sixteen_cpus_unmap() {
    each("16 CPUs unmap 2 pages each", 100, |name| run::storm(name, 16, 2));
}

#[test]
fn sixty_four_cpus_unmap() {
    each("64 CPUs unmap a page each", 4, |name| run::storm(name, 64, 1));
}

#[test]
fn six_cpus_change_a_space() {
    each("6 CPUs change a space", 2_000, |name| run::space_storm(name, 6, 2));
}

#[test]
fn eight_cpus_leave_and_reap() {
    explore("reaper, 8 CPUs, 4 stacks each", 4_000, || run::reaping::<8>(4));
}
