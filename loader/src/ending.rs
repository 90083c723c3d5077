//! How the loader ends a virtual machine that it cannot hand to a kernel: values for QEMU's `isa-debug-exit` device,
//! which ends QEMU with status `(value << 1) | 1`. The same port and values as Palisade's kernel uses.

/// I/O port of the device (`-device isa-debug-exit,iobase=0xf4,iosize=4`).
pub const PORT: u16 = 0xf4;

/// The loader is at fault, or the kernel faulted before it had handlers of its own.
pub const FAIL: u32 = 0x11;

/// What the loader was given cannot be booted.
pub const UNUSABLE: u32 = 0x12;

#[cfg(test)]
mod tests {
    #[test]
    fn the_host_understands_the_loaders_exit_codes() {
        assert_eq!(
            (super::PORT, super::FAIL, super::UNUSABLE),
            (wire::exit::PORT, wire::exit::FAIL, wire::exit::UNUSABLE)
        );
    }
}
