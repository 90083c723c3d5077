//! Waits, in the way that the first word names: for ever in user code, in system calls, asleep; or maps memory until that
//! is refused, and ends with the error's number; or gives way a few times and ends with 0. Tells the boot image (call 1) when it is about to begin.
#![cfg_attr(target_os = "none", no_std, no_main)]

use user::call;

user::program!(run);

fn run([way, count]: [u64; 2]) -> i32 {
    let _ = call::image(1, call::thread());
    match way {
        0 => loop {
            core::hint::spin_loop();
        },
        1 => loop {
            call::yield_now();
        },
        2 => loop {
            let _ = call::sleep(wire::syscall::LONGEST_SLEEP);
        },
        3 => loop {
            let Ok(address) = call::map(0, 4) else { return 3 };
            // SAFETY: mapped just now, by this thread for itself.
            unsafe {
                (address as *mut u64).write_volatile(1);
                if call::unmap(address, 4).is_err() {
                    return 4;
                }
            }
        },
        4 => loop {
            if let Err(error) = call::map(0, 64) {
                return error as i32;
            }
        },
        _ => {
            for _ in 0..count {
                call::yield_now();
            }
            0
        }
    }
}
