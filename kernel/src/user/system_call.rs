//! System calls: what programs ask for. `docs/SYSCALLS.md` is the interface, `wire::syscall` has its numbers.
//!
//! A system call runs on the privileged stack of the thread that makes it, with interrupts on, as any code of a thread: it
//! is preempted, and it is aborted where it holds nothing. Every argument may be anything. None makes a call wait longer than
//! its limit, touch memory that is not the program's, or fail otherwise than by an error.

use super::context::Context;
use super::{entry, memory};
use crate::cpu;
use crate::cpu::entry::Frame;
use crate::thread::{self, Shield, Thread};
use core::sync::atomic::{AtomicPtr, Ordering};
use core::time::Duration;
use wire::syscall::{self, Error, LONGEST_SLEEP, MOST_PRINTED};

/// What the boot image makes of the system call `image`: two words, and the answer.
pub type ImageCall = fn(u64, u64) -> i64;

static IMAGE_CALL: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Sets what the system call `image` does. It runs in the user thread that calls; without it the call is an error.
pub fn set_image_call(call: ImageCall) {
    IMAGE_CALL.store(call as *mut (), Ordering::Release);
}

/// A system call, saved in `frame`, where the answer goes. Interrupts are on.
pub(super) extern "C" fn system_call(frame: &mut Frame) {
    let thread = cpu::current();
    if !memory::is_code(frame.rip) {
        thread::exit(); // it cannot go on; see `entry`
    }
    let context = thread.user().expect("only user threads make system calls");
    let [a, b, c] = [frame.rdi, frame.rsi, frame.rdx];
    let answer = match frame.rax {
        syscall::EXIT => exit(context, a),
        syscall::YIELD => {
            thread::yield_now();
            Ok(0)
        }
        syscall::SLEEP => sleep(a),
        syscall::PRINT => print(thread, context, a, b),
        syscall::MAP => context.process().memory().map(a, b, c),
        syscall::UNMAP => context.process().memory().unmap(a, b),
        syscall::THREAD => Ok(thread.number().into()),
        syscall::IMAGE => return frame.rax = image(a, b).cast_unsigned(),
        _ => Err(Error::NoSuchCall),
    };
    // Answers are addresses of the lower half, numbers and lengths: none has the upper bit.
    frame.rax = answer.unwrap_or_else(|error| error.answer().cast_unsigned());
}

fn exit(context: &Context, code: u64) -> ! {
    // SAFETY: the context is the calling thread's, and nothing here is owned.
    unsafe { entry::leave(context.privileged_stack(), code) }
}

fn sleep(nanoseconds: u64) -> Result<u64, Error> {
    if nanoseconds > LONGEST_SLEEP {
        return Err(Error::BadArgument);
    }
    thread::sleep(Duration::from_nanos(nanoseconds));
    Ok(0)
}

fn print(thread: &Thread, context: &Context, from: u64, length: u64) -> Result<u64, Error> {
    if length > MOST_PRINTED {
        return Err(Error::BadArgument);
    }
    let mut bytes = [0; MOST_PRINTED as usize];
    let text = &mut bytes[..length as usize];
    memory::copy_in(text, from)?;
    let _shield = Shield::new();
    context.process().prints(text);
    if !thread.is_quiet() {
        let line = text.strip_suffix(b"\n").map_or(text.len(), <[u8]>::len);
        text.iter_mut().filter(|byte| !matches!(byte, b' '..=b'~')).for_each(|byte| *byte = b'.');
        let line = core::str::from_utf8(&text[..line]).unwrap_or("");
        println!("{}: {line}", thread.name());
    }
    Ok(length)
}

fn image(a: u64, b: u64) -> i64 {
    let call = IMAGE_CALL.load(Ordering::Acquire);
    if call.is_null() {
        return Error::NoSuchCall.answer();
    }
    // SAFETY: `set_image_call` stored a function of this type.
    let call = unsafe { core::mem::transmute::<*mut (), ImageCall>(call) };
    call(a, b)
}
