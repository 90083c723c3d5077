//! Nobody can say that all CPUs have acknowledged but the shootdown.
use smp::Acked;

fn main() {
    let frame = Acked("frame").release();
}
