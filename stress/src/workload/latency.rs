//! `latency`: bare interrupt round trips and shootdowns of one page in turn, while each other CPU waits in a pause loop.
//! The two are sampled as pairs, so that whatever the host does to one it does to the other.

use super::{Context, expect_end, spawned};
use crate::failure;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use kernel::cpu;
use kernel::mem::{Window, ping_all};
use kernel::thread::Builder;

/// Pairs in a round.
const PAIRS: usize = 200;

pub fn round(context: &Context, _round: u64) {
    let stop = Arc::new(AtomicBool::new(false));
    let here = Arc::new(AtomicUsize::new(0));
    let me = cpu::current_id();
    let waiting: Vec<_> = context
        .cpus
        .without(me)
        .filter_map(|cpu| {
            let (stop, here) = (stop.clone(), here.clone());
            spawned(Builder::new().name("waits").on(cpu).spawn(move || {
                here.fetch_add(1, Ordering::Relaxed);
                while !stop.load(Ordering::Relaxed) {
                    spin_loop();
                }
            }))
        })
        .collect();
    while here.load(Ordering::Relaxed) < waiting.len() {
        spin_loop();
    }
    match Window::new(1) {
        Err(error) => failure::fail("memory can be mapped", format_args!("{error}")),
        Ok(mut window) => (0..PAIRS).for_each(|_| {
            let _ = ping_all(); // `None`: the run's own is under way
            if let Err(error) = window.map(1) {
                failure::fail("memory can be mapped", format_args!("{error}"));
            }
            window.unmap(None);
        }),
    }
    stop.store(true, Ordering::Relaxed);
    waiting.into_iter().for_each(expect_end);
}
