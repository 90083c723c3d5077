//! What was unmapped comes out only of a completed shootdown.
use smp::{Ranges, Unmapped};

fn main() {
    let ranges = Ranges::new(33);
    let frame = Unmapped::new(&ranges, "frame").release();
}
