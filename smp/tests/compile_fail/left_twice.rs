//! A stack is left once.
use smp::reaper::Pending;
use smp::{OffStack, Reaper};

fn main() {
    let reaper: Reaper<spin::Mutex<Pending<u32, 4>>, 4> = Reaper::new(spin::Mutex::new(Pending::none()));
    let stack = OffStack::from_epilogue(7);
    let _ = reaper.leave(stack);
    let _ = reaper.leave(stack);
}
