//! The permission to wait is that of the code that was checked: it goes to no other thread.
use smp::MayWait;

fn main() {
    let permit = MayWait::checked();
    std::thread::spawn(move || drop(permit));
}
