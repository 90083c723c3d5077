//! The direct loader: `qemu-system-x86_64 -kernel loader.elf -initrd kernel.elf -append "<kernel command line>"` boots any
//! kernel of the Limine protocol, in a fraction of the time that firmware and a disk take.
//!
//! Instead of the bare kernel file it may be a cpio archive with the kernel and its modules.
//!
//! What touches the machine is in `machine`, which exists only on the bare-metal target; what can be decided without the
//! machine is in the library.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod machine;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("loader: this program runs on bare metal; build it with `--target x86_64-unknown-none`");
    std::process::exit(2);
}
