//! The second serial port: framed records, whole and in the order in which they were sent.
//!
//! A frame takes its time: 2 to 20 µs a byte under QEMU's TCG. So the port is given out in turns, used with interrupts on: no
//! shootdown waits for a record. With `trace=lossless` CPUs send from wherever they are, and the port is used with
//! interrupts masked.

use crate::console::Uart;
use crate::sync::irq::IrqsOff;
use crate::sync::turn::Turn;
use crate::thread::Shield;
use crate::trap;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use wire::frame::{self, MAX};
use wire::{Histogram, Record};

/// Bytes of a piece of trace that fit a frame with what surrounds them: the record's other fields, the checksum, and
/// the stuffing.
const PIECE: usize = MAX - 64;

/// The port, and room for one frame: senders' stacks may be small.
pub(crate) struct Line {
    port: Uart,
    frame: [u8; MAX],
    piece: [u8; PIECE],
}

static LINE: Turn<Line> = Turn::new("serial 2", Line { port: Uart::COM2, frame: [0; MAX], piece: [0; PIECE] });
/// CPUs may send from anywhere; whoever sends masks interrupts.
static MASKED: AtomicBool = AtomicBool::new(false);
/// The CPU that sends with interrupts masked.
static SENDER: AtomicU32 = AtomicU32::new(NOBODY);
const NOBODY: u32 = u32::MAX;

/// Sets the port up. Before the first record.
pub(crate) fn init() {
    let _ = LINE.try_with(|line| {
        line.port.init();
        // Ends whatever firmware has written to the port.
        line.port.write(0);
    });
}

/// From now on the port is used with interrupts masked.
pub(crate) fn mask_interrupts() {
    MASKED.store(true, Ordering::Relaxed);
}

/// Sends a record. One that is too large for a frame, by a name or a reason that is too long, is a bug of its sender,
/// and is not sent.
#[track_caller]
pub fn send(record: &Record<'_>) {
    with_line(|line| line.send(record));
}

/// Runs `f` with the port; in a thread.
#[track_caller]
pub(crate) fn with_line<R>(f: impl FnOnce(&mut Line) -> R) -> R {
    let _shield = Shield::new();
    if MASKED.load(Ordering::Relaxed) {
        with_line_here(f).expect("a thread is not inside the sending, and no CPU panicked")
    } else {
        LINE.with(f)
    }
}

/// Runs `f` with the port, interrupts masked, waiting for other CPUs' frames if need be; from anywhere but an NMI, from
/// inside the sending itself, or when a CPU has panicked: those give `None`.
pub(crate) fn with_line_here<R>(f: impl FnOnce(&mut Line) -> R) -> Option<R> {
    let irqs = IrqsOff::new();
    let me = irqs.cpu().id().index() as u32;
    if SENDER.load(Ordering::Relaxed) == me || trap::somebody_panicked() {
        return None;
    }
    let mut f = Some(f);
    loop {
        let sent = LINE.try_with(|line| {
            SENDER.store(me, Ordering::Relaxed);
            let result = f.take().expect("run once")(line);
            SENDER.store(NOBODY, Ordering::Relaxed);
            result
        });
        if sent.is_some() {
            return sent;
        }
        core::hint::spin_loop();
    }
}

/// Runs `f` with the port, whoever has it.
///
/// # Safety
/// No other CPU runs any more.
pub(crate) unsafe fn with_line_in_panic<R>(f: impl FnOnce(&mut Line) -> R) -> R {
    // SAFETY: by the caller's promise.
    let line = unsafe { LINE.steal() };
    // Ends a frame that was cut short: the reader finds its place again at a zero byte.
    line.port.write(0);
    f(line)
}

impl Line {
    /// Sends a record.
    pub(crate) fn send(&mut self, record: &Record<'_>) {
        if let Ok(bytes) = frame::encode(record, &mut self.frame) {
            self.port.write_all(bytes);
        }
    }

    /// Sends a record around the bytes that `fill` writes.
    pub(crate) fn send_packed<'a>(
        &'a mut self,
        fill: impl FnOnce(&mut [u8]) -> usize,
        record: impl FnOnce(&'a [u8]) -> Record<'a>,
    ) {
        let used = fill(&mut self.piece);
        let record = record(&self.piece[..used]);
        if let Ok(bytes) = frame::encode(&record, &mut self.frame) {
            self.port.write_all(bytes);
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
