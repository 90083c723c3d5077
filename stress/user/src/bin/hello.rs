//! Prints a line and ends with the exit code that it is given.
#![cfg_attr(target_os = "none", no_std, no_main)]

user::program!(run);

fn run([code, _]: [u64; 2]) -> i32 {
    user::call::print("hello from ring 3\n");
    code as i32
}
