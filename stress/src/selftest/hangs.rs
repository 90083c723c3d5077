//! Hangs and crashes, made on purpose: what is tested is that they are found, and what is told of them.

use super::Test;
use crate::workload::Context;
use core::cell::Cell;
use core::sync::atomic::{AtomicUsize, Ordering};
use kernel::thread::{Builder, park};
use kernel::{misdeed, println};

pub const TESTS: &[Test] = &[
    ("a-cpu-that-masks-interrupts-for-ever", masked_for_ever),
    ("all-cpus-hang-one-with-a-lock", all_hang),
    ("a-triple-fault", triple_fault),
    ("nobody-gives-up-a-lock", lock_for_ever),
];

fn masked_for_ever(context: &Context) {
    if let Some(last) = context.cpus.last() {
        let _ = Builder::new().name("deaf").on(last).spawn(|| misdeed::spin_masked(&|| false));
    }
    loop {
        park();
    }
}

fn all_hang(context: &Context) {
    static HANGING: AtomicUsize = AtomicUsize::new(0);
    let mut cpus = context.cpus;
    cpus.next(); // where this runs
    let others = cpus.len();
    for cpu in cpus {
        let hang = || {
            let told = Cell::new(false);
            misdeed::spin_masked(&|| {
                HANGING.fetch_add(usize::from(!told.replace(true)), Ordering::Relaxed);
                false
            });
        };
        let _ = Builder::new().name("hangs").on(cpu).spawn(hang);
    }
    while HANGING.load(Ordering::Relaxed) < others {
        core::hint::spin_loop();
    }
    println!("all others hang");
    misdeed::spin_with_lock_held();
}

fn lock_for_ever(context: &Context) {
    for cpu in context.cpus {
        let _ = Builder::new().name("wants-the-lock").on(cpu).spawn(misdeed::spin_with_lock_held);
    }
    loop {
        park();
    }
}

fn triple_fault(_: &Context) {
    misdeed::triple_fault();
}
