//! The boot image. Its logic is the library beside this file; here is only what makes it bootable, apart, because
//! naming the entry takes an unsafe attribute, which the library forbids.
#![cfg_attr(target_os = "none", no_std, no_main)]

kernel::entry!(stress::main);

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is Palisade's boot image, built for x86_64-unknown-none: run it by 'cargo xtask stress'");
    std::process::exit(2);
}
