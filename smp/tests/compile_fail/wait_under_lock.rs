//! Nobody waits for other CPUs with a lock in hand that was taken on the way to the wait.
use smp::reaper::Lock;
use smp::{Machine, MayWait, Protocol, Unmapped};

fn reap<M: Machine>(list: &spin::Mutex<u32>, unmapped: Unmapped<'_, u32>, protocol: &dyn Protocol<M>, machine: &M) {
    let mut permit = MayWait::checked();
    list.lend(&mut permit, |_| unmapped.shoot_down(protocol, machine, &mut permit).release());
}

fn main() {}
