//! For readers outside: where the kernel's objects are, and where in them the fields ([`wire::debug::Layout`]).

use crate::cpu::{self, Cpu};
use crate::thread::{self, Thread};
use core::mem::offset_of;
use core::panic::Location;
use core::sync::atomic::{AtomicU64, Ordering};
use smp::MAX_CPUS;
use wire::debug::Layout;

/// The words of the layout; the first one last.
#[cfg_attr(target_os = "none", unsafe(no_mangle))]
static PALISADE_LAYOUT: [AtomicU64; Layout::WORDS] = [const { AtomicU64::new(0) }; Layout::WORDS];

/// Writes the layout down. At boot.
pub(crate) fn describe() {
    let (name, name_length) = Thread::NAME_OFFSETS;
    let [pending, pending_count, pending_lists, pending_apart] = thread::pending::table();
    let (site_file, site_line) = site_offsets(Location::caller());
    let layout = Layout {
        magic: Layout::MAGIC,
        cpus: cpu::table_address(),
        cpus_max: MAX_CPUS as u64,
        threads: thread::first_of_all_address(),
        cpu_current: cpu::offset::CURRENT as u64,
        cpu_interrupt_depth: offset_of!(Cpu, interrupt_depth) as u64,
        cpu_masked_depth: offset_of!(Cpu, irq_off_depth) as u64,
        cpu_held_count: (offset_of!(Cpu, held) + cpu::held::COUNT) as u64,
        cpu_held: (offset_of!(Cpu, held) + cpu::held::NAMES) as u64,
        cpu_held_sites: (offset_of!(Cpu, held) + cpu::held::SITES) as u64,
        site_file,
        site_line,
        cpu_request: offset_of!(Cpu, request) as u64,
        cpu_targets: offset_of!(Cpu, request_targets) as u64,
        thread_next: Thread::OFFSETS[0],
        thread_number: Thread::OFFSETS[1],
        thread_state: Thread::OFFSETS[2],
        thread_preempt_off: Thread::OFFSETS[3],
        thread_shields: Thread::OFFSETS[4],
        thread_stack: Thread::OFFSETS[5],
        thread_last_cpu: Thread::OFFSETS[6],
        thread_name: name,
        thread_name_length: name_length,
        pending,
        pending_count,
        pending_lists,
        pending_apart,
    };
    for (cell, word) in PALISADE_LAYOUT.iter().zip(layout.words()).rev() {
        cell.store(word, Ordering::Release);
    }
}

/// Where in a [`Location`] its file's name (pointer, then length) and its line are. The language does not say; so they are
/// looked for in `known`. Two zeros if it has them in another form.
fn site_offsets(known: &'static Location<'static>) -> (u64, u64) {
    const WORDS: usize = size_of::<Location<'static>>() / 8;
    // A name, a line and a column: if that is all, no byte of it is padding.
    const { assert!(size_of::<Location<'static>>() == 16 + 4 + 4 && align_of::<Location<'static>>() == 8) };
    // SAFETY: that large and that aligned, initialised to its last byte, and it never changes.
    let words = unsafe { &*core::ptr::from_ref(known).cast::<[u64; WORDS]>() };
    let name = known.file();
    let file = words.windows(2).position(|pair| pair == [name.as_ptr() as u64, name.len() as u64]);
    let numbers = words.iter().flat_map(|word| [*word as u32, (*word >> 32) as u32]);
    let line = numbers.enumerate().position(|(at, number)| number == known.line() && file != Some(at / 2));
    file.zip(line).map_or((0, 0), |(file, line)| (file as u64 * 8, line as u64 * 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_from_outside() {
        let known = Location::caller();
        let (file, line) = site_offsets(known);
        assert_ne!((file, line), (0, 0));
        let at = core::ptr::from_ref(known).cast::<u8>();
        // SAFETY: inside the object, where the two were found.
        let (start, number) =
            unsafe { (at.add(file as usize).cast::<u64>().read(), at.add(line as usize).cast::<u32>().read()) };
        assert_eq!((start, number), (known.file().as_ptr() as u64, known.line()));
    }
}
