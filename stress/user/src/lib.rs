//! The runtime of Palisade's user programs: the way in ([`program!`]), system calls ([`call`]), and the end after a panic.
//!
//! A program runs in ring 3 with nothing but its own memory and what `docs/SYSCALLS.md` offers. Each is a file in `src/bin`,
//! with a main function that is given two words and returns the exit code; there may be several threads in it at once.
#![cfg_attr(target_os = "none", no_std)]

pub mod call;

/// Names a program's main function.
#[macro_export]
macro_rules! program {
    ($main:path) => {
        #[cfg(target_os = "none")]
        // SAFETY: no other symbol of the program has this name, and the runtime declares it with this signature.
        #[unsafe(no_mangle)]
        extern "Rust" fn user_main(arguments: [u64; 2]) -> i32 {
            $main(arguments)
        }

        #[cfg(not(target_os = "none"))]
        fn main() {
            let _: fn([u64; 2]) -> i32 = $main;
            eprintln!("this is a user program of Palisade, built for x86_64-unknown-none: the boot image runs it");
            std::process::exit(2);
        }
    };
}

/// The exit code after a panic.
pub const PANICKED: i32 = 101;

#[cfg(target_os = "none")]
mod start {
    use crate::{PANICKED, call};

    unsafe extern "Rust" {
        safe fn user_main(arguments: [u64; 2]) -> i32;
    }

    /// The first instructions: a stack frame to call from.
    ///
    /// # Safety
    /// Entered by the kernel, at the end of the user stack.
    #[unsafe(no_mangle)]
    #[unsafe(naked)]
    unsafe extern "C" fn user_start() -> ! {
        core::arch::naked_asm!("and rsp, -16", "xor ebp, ebp", "call {}", "ud2", sym begin)
    }

    extern "C" fn begin(first: u64, second: u64) -> ! {
        call::exit(user_main([first, second]))
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        call::print("panic");
        call::exit(PANICKED)
    }
}
