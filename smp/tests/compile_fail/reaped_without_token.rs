//! A stack is left with the reaper only as one that its CPU has left.
use smp::reaper::Pending;
use smp::Reaper;

fn main() {
    let reaper: Reaper<spin::Mutex<Pending<u32, 4>>, 4> = Reaper::new(spin::Mutex::new(Pending::none()));
    let stack: u32 = 7;
    let _ = reaper.leave(stack);
}
