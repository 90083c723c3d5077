//! Running the user programs that came with the image, and what they can ask of it.

use crate::failure::fail;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use kernel::misdeed;
use kernel::thread::{self, JoinHandle};
use kernel::user::{self, Process, Program, UserBuilder};
use wire::syscall::Error;

/// Threads that have told that they are about to begin.
pub static ARRIVED: AtomicU64 = AtomicU64::new(0);

/// The system call `image`: 1 tells that a thread has begun, 2 misbehaves in the kernel for it.
fn image_call(what: u64, word: u64) -> i64 {
    match (what, word) {
        (1, _) => {
            ARRIVED.fetch_add(1, Ordering::SeqCst);
        }
        (2, 0) => misdeed::recurse_for_ever(),
        (2, 1) => misdeed::write_below_stack(1),
        (2, 2) => misdeed::write_above_stack(1),
        (2, 3) => misdeed::with_stack_left(300, &mut || drop(thread::Shield::new())),
        (2, 4) => misdeed::read_null(),
        (2, 5) => loop {
            core::hint::spin_loop();
        },
        _ => return Error::BadArgument.answer(),
    }
    0
}

/// A process that runs this program; or a broken promise.
pub fn process(name: &str) -> Option<Arc<Process>> {
    user::set_image_call(image_call);
    let program = Program::named(name).map_err(|error| fail("programs are there", format_args!("'{name}': {error}")));
    let process = Process::load(&program.ok()?);
    process.map_err(|error| fail("programs can be loaded", format_args!("'{name}': {error}"))).ok()
}

/// Starts a thread; or a broken promise.
pub fn started(thread: UserBuilder) -> Option<JoinHandle<i32>> {
    thread.spawn().map_err(|error| fail("user threads can be started", format_args!("{error}"))).ok()
}
