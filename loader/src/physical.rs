//! Physical memory as the pure parts see it: read only, in slices, and not everywhere.

/// Read access to physical memory.
pub trait Physical {
    /// The bytes from `address` on; `None` if part of them cannot be read.
    fn bytes(&self, address: u64, length: u64) -> Option<&[u8]>;

    /// The string at `address`, without the 0 at its end; `None` if it cannot be read or has no end within `limit` bytes.
    fn text(&self, address: u64, limit: u64) -> Option<&[u8]> {
        // Byte by byte: what lies behind the string need not be readable.
        let ends = |&length: &u64| {
            let last = address.checked_add(length).and_then(|last| self.bytes(last, 1));
            last.is_none_or(|byte| byte == [0])
        };
        let length = (0..limit).find(ends)?;
        self.bytes(address.checked_add(length)?, 1)?;
        self.bytes(address, length)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Memory that starts at an address and holds these bytes.
    pub(crate) struct Fake(pub(crate) u64, pub(crate) Vec<u8>);

    impl Physical for Fake {
        fn bytes(&self, address: u64, length: u64) -> Option<&[u8]> {
            let start = usize::try_from(address.checked_sub(self.0)?).ok()?;
            self.1.get(start..start.checked_add(usize::try_from(length).ok()?)?)
        }
    }

    #[test]
    fn text_ends_at_its_zero_and_nowhere_else() {
        let memory = Fake(100, b"abc\0de".to_vec());
        assert_eq!(memory.text(100, 10), Some(&b"abc"[..]));
        assert_eq!(memory.text(103, 10), Some(&b""[..]));
        assert_eq!(memory.text(100, 3), None, "no end within the limit");
        assert_eq!(memory.text(104, 10), None, "runs out of memory");
        assert_eq!(memory.text(u64::MAX, 10), None);
    }
}
