//! The shipped protocols under loom: every interleaving, and every value that a weakly ordered load may give, within the
//! bounds that stand with each model.
//!
//! `PALISADE_PREEMPTIONS=N` raises every bound by N: the campaign does that.
#![cfg(feature = "loom")]

mod model;

use model::explore::{each, explore};
use model::scenarios as run;

#[test]
fn one_unmaps_and_one_answers() {
    each("one unmaps, one answers", 5, |name| run::initiators_and_targets(name, 2, 1, false, 33));
}

#[test]
fn more_than_the_ceiling_flushes_everything() {
    each("one flushes everything", 5, |name| run::initiators_and_targets(name, 2, 1, false, 0));
}

#[test]
fn two_unmap_at_once() {
    each("two unmap at once", 4, |name| run::initiators_and_targets(name, 2, 2, false, 33));
}

#[test]
fn two_unmap_at_once_with_interrupts_masked() {
    each("two unmap at once, masked", 4, |name| run::initiators_and_targets(name, 2, 2, true, 33));
}

#[test]
fn two_unmap_and_a_third_answers() {
    each("two unmap, a third answers", 1, |name| run::initiators_and_targets(name, 3, 2, false, 33));
}

#[test]
fn a_stray_interrupt_is_no_answer() {
    each("a stray interrupt", 5, run::stray_interrupt);
}

#[test]
fn a_cpu_that_sleeps_wakes_to_nothing_stale() {
    each("one sleeps and wakes", 5, run::sleeper);
}

#[test]
fn what_is_deferred_comes_free_when_all_have_passed() {
    explore("quiescent, deferred", 5, || run::deferred(false));
    explore("quiescent, deferred, one sleeps", 5, || run::deferred(true));
    explore("quiescent, deferred, then hurried", 4, run::hurried);
}

#[test]
fn a_cpu_that_switches_to_a_space_misses_no_change_of_it() {
    each("one switches to the space", 5, |name| run::switches(name, false));
    each("one goes lazy and comes back", 4, |name| run::switches(name, true));
}

#[test]
fn what_is_kept_under_a_tag_is_up_to_date() {
    each("one comes back to a tag, a page of its space", 4, |name| run::comes_back_under_a_tag(name, 0, false));
    each("one comes back to a tag, a kernel page", 3, |name| run::comes_back_under_a_tag(name, 1, false));
    each("the same, dropped under all tags", 3, |name| run::comes_back_under_a_tag(name, 1, true));
    each("a tag that another space took over, which is no more", 4, run::destroyed_under_a_tag);
}

#[test]
fn requests_of_a_space_may_overtake_each_other() {
    each("two change a space, a third runs in it", 1, run::overtaking);
}

#[test]
fn tables_are_freed_when_lazy_cpus_have_let_them_go() {
    each("a space is destroyed", 5, run::destroyed);
}

#[test]
fn generations_may_wrap() {
    each("one unmaps past the wrap", 4, run::unmaps_past_the_wrap);
}

#[test]
fn every_stack_is_reaped_once() {
    explore("reaper, 2 CPUs, 2 stacks each", 5, || run::reaping::<2>(2));
    explore("reaper, 3 CPUs, 1 stack each", 3, || run::reaping::<3>(1));
}
