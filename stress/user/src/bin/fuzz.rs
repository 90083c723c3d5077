//! Placeholder.
#![cfg_attr(target_os = "none", no_std, no_main)]

user::program!(main);

fn main([code, _]: [u64; 2]) -> i32 {
    code as i32
}
