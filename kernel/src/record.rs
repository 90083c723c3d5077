//! The second serial port: framed records, whole and in the order in which they were sent.

use crate::console::Uart;
use crate::sync::SpinLock;
use crate::thread::Shield;
use wire::frame::{self, MAX};
use wire::{Histogram, Record};

/// The port, and room for one frame: senders' stacks may be small.
struct Line {
    port: Uart,
    frame: [u8; MAX],
}

static LINE: SpinLock<Line> = SpinLock::new("serial 2", Line { port: Uart::COM2, frame: [0; MAX] });

/// Sets the port up. Before the first record.
pub(crate) fn init() {
    let mut line = LINE.lock();
    line.port.init();
    // Ends whatever firmware has written to the port.
    line.port.write(0);
}

/// Sends a record. One that is too large for a frame, by a name or a reason that is too long, is a bug of its sender,
/// and is not sent.
pub fn send(record: &Record<'_>) {
    let _shield = Shield::new();
    LINE.lock().send(record);
}

/// Sends a record when the lock cannot be relied on.
///
/// # Safety
/// No other CPU runs any more.
pub(crate) unsafe fn send_in_panic(record: &Record<'_>) {
    // SAFETY: by the caller's promise.
    let line = unsafe { &mut *LINE.steal() };
    // Ends a frame that was cut short: the reader finds its place again at a zero byte.
    line.port.write(0);
    line.send(record);
}

impl Line {
    fn send(&mut self, record: &Record<'_>) {
        if let Ok(bytes) = frame::encode(record, &mut self.frame) {
            bytes.iter().for_each(|byte| self.port.write(*byte));
        }
    }
}

/// Sends a distribution: its extremes, then its buckets in as many pieces as it takes.
pub fn send_histogram(name: &str, histogram: &Histogram) {
    send(&Record::Latency {
        name,
        samples: histogram.samples(),
        smallest: histogram.smallest(),
        largest: histogram.largest(),
    });
    let (mut from, mut piece) = (0, [0; 600]);
    while let Some((used, next)) = histogram.pack(from, &mut piece) {
        send(&Record::Buckets { name, from, packed: &piece[..used] });
        from = next;
    }
}
