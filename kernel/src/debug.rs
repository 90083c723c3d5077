//! For readers outside: where the kernel's objects are, and where in them the fields ([`wire::debug::Layout`]).

use crate::cpu::{self, Cpu};
use crate::thread::{self, Thread};
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};
use smp::MAX_CPUS;
use wire::debug::Layout;

/// The words of the layout; the first one last.
#[cfg_attr(target_os = "none", unsafe(no_mangle))]
static PALISADE_LAYOUT: [AtomicU64; Layout::WORDS] = [const { AtomicU64::new(0) }; Layout::WORDS];

/// Writes the layout down. At boot.
pub(crate) fn describe() {
    let idle = &cpu::boot_cpu().idle;
    let (name, name_length) = idle.name_offsets();
    let [pending, pending_count, pending_lists, pending_apart] = thread::pending::table();
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
