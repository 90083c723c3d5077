//! Broken promises: said at once, counted, and remembered for the verdict.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};
use kernel::{SpinLock, println, record};
use wire::Record;

/// Failures that are told in full; the rest are counted.
const TOLD: u64 = 8;

static COUNT: AtomicU64 = AtomicU64::new(0);
static FIRST: SpinLock<Option<&'static str>> = SpinLock::new("first failure", None);

/// A promise broke.
pub fn fail(promise: &'static str, detail: fmt::Arguments<'_>) {
    FIRST.lock().get_or_insert(promise);
    if COUNT.fetch_add(1, Ordering::Relaxed) < TOLD {
        println!("broken: {promise}: {detail}");
        let mut text = Text { bytes: [0; 200], used: 0 };
        let _ = text.write_fmt(detail);
        record::send(&Record::Failure { promise, detail: text.as_str() });
    }
}

/// Breaks the promise unless `holds`.
pub fn check(holds: bool, promise: &'static str, detail: fmt::Arguments<'_>) {
    if !holds {
        fail(promise, detail);
    }
}

/// How many promises broke.
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// The verdict.
///
/// # Errors
/// The first promise that broke.
pub fn verdict() -> Result<(), &'static str> {
    (*FIRST.lock()).map_or(Ok(()), Err)
}

/// Text that is cut to its room.
struct Text {
    bytes: [u8; 200],
    used: usize,
}

impl Text {
    fn as_str(&self) -> &str {
        let bytes = &self.bytes[..self.used];
        core::str::from_utf8(bytes).unwrap_or_else(|e| core::str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or(""))
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = text.len().min(self.bytes.len() - self.used);
        self.bytes[self.used..self.used + fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.used += fits;
        Ok(())
    }
}
