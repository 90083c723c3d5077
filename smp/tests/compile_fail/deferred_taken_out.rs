//! What is deferred comes out of the quarantine alone.
use smp::Deferred;

fn free(deferred: Deferred<&'static str>) -> &'static str {
    deferred.into_held()
}

fn main() {}
