//! What came of many measurements of the same: the smallest, the median, what 99 of a hundred do not exceed, the largest.

use alloc::vec::Vec;
use core::fmt::{self, Write};
use kernel::record;
use wire::Record;

/// Names and parts of a thousand of the samples.
const PARTS: [(&str, usize); 4] = [("smallest", 0), ("median", 500), ("p99", 990), ("largest", 1000)];

/// Samples, sorted.
pub struct Figures(Vec<u64>);

impl Figures {
    pub fn of(mut samples: Vec<u64>) -> Self {
        samples.sort_unstable();
        Self(samples)
    }

    pub fn median(&self) -> u64 {
        self.at(500)
    }

    fn at(&self, part: usize) -> u64 {
        self.0[(self.0.len() - 1) * part / 1000]
    }

    /// Sends each as a count: `guarded.median`.
    pub fn send(&self, way: &str) {
        for (what, part) in PARTS {
            let mut name = Name { bytes: [0; 64], used: 0 };
            let _ = write!(name, "{way}.{what}");
            record::send(&Record::Count { name: name.as_str(), value: self.at(part) });
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (what, part)) in PARTS.into_iter().enumerate() {
            write!(f, "{}{what} {}", if at > 0 { ", " } else { "" }, self.at(part))?;
        }
        Ok(())
    }
}

/// A name that is put together, of ASCII, cut to its room.
struct Name {
    bytes: [u8; 64],
    used: usize,
}

impl Name {
    fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.used]).unwrap_or("")
    }
}

impl Write for Name {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = text.len().min(self.bytes.len() - self.used);
        self.bytes[self.used..self.used + fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.used += fits;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        let figures = Figures::of(alloc::vec![5, 1, 9, 7, 3]);
        assert_eq!(figures.median(), 5);
        assert_eq!((figures.at(0), figures.at(990), figures.at(1000)), (1, 7, 9));
    }
}
