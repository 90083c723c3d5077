//! What of a CPU's features is turned on besides what the page tables need: those that keep user code and kernel apart
//! (SMEP, SMAP, UMIP), where CPUID has them; SSE, which is user code's alone; and the SYSCALL instruction.
//!
//! Sources: Intel SDM volume 3, sections 2.5 and 4.6; AMD APM volume 2, section 6.1.

use super::Cpu;
use super::descriptors::{KERNEL_CODE, USER_DATA};
use core::arch::x86_64::{__cpuid, __cpuid_count};
use x86_64::VirtAddr;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags, Efer, EferFlags};
use x86_64::registers::model_specific::{KernelGsBase, LStar, Msr, SFMask, Star};
use x86_64::registers::rflags::RFlags;

/// The MSR with SYSENTER's code segment.
const SYSENTER_CS: u32 = 0x174;

/// Turns the features on, on the CPU that this runs on; system calls enter at `entry`.
///
/// # Safety
/// Once on each CPU, when its descriptors are loaded and its GS base points to `cpu`. `entry` does what SYSCALL needs.
pub(crate) unsafe fn enable(cpu: &Cpu, entry: u64) {
    // SAFETY: each bit of CR4 is set only where the CPU has it; the kernel executes
    // nothing in user memory, and touches it only between `stac` and `clac`. The segments lie as STAR says.
    unsafe {
        let (mut cr4, (ebx, ecx)) = (Cr4::read(), leaf_7());
        for (has, flag) in [
            (ebx & 1 << 7 != 0, Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION),
            (ebx & 1 << 20 != 0, Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION),
            (ecx & 1 << 2 != 0, Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION),
        ] {
            cr4.set(flag, has);
        }
        // User code has no business with the base of GS, which tells the kernel whose it is, nor with what a boot loader may
        // have left on.
        let virtual_interrupts = Cr4Flags::VIRTUAL_8086_MODE_EXTENSIONS | Cr4Flags::PROTECTED_MODE_VIRTUAL_INTERRUPTS;
        cr4.remove(Cr4Flags::FSGSBASE | Cr4Flags::PERFORMANCE_MONITOR_COUNTER | Cr4Flags::OSXSAVE | virtual_interrupts);
        Cr4::write(cr4 | Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE);
        cpu.smap.set(cr4.contains(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION));
        Cr0::update(|cr0| {
            cr0.remove(Cr0Flags::EMULATE_COPROCESSOR | Cr0Flags::TASK_SWITCHED | Cr0Flags::ALIGNMENT_MASK);
            cr0.insert(Cr0Flags::MONITOR_COPROCESSOR | Cr0Flags::NUMERIC_ERROR);
        });
        Efer::update(|efer| efer.insert(EferFlags::SYSTEM_CALL_EXTENSIONS));
        // SYSRET takes its data segment 8 and its code segment 16 behind this.
        Star::write_raw(USER_DATA - 8, KERNEL_CODE);
        LStar::write(VirtAddr::new(entry));
        SFMask::write(
            RFlags::INTERRUPT_FLAG
                | RFlags::DIRECTION_FLAG
                | RFlags::ALIGNMENT_CHECK
                | RFlags::TRAP_FLAG
                | RFlags::NESTED_TASK,
        );
        KernelGsBase::write(VirtAddr::zero());
        // No other way in: SYSENTER without a segment is an exception.
        Msr::new(SYSENTER_CS).write(0);
    }
}

/// EBX and ECX of CPUID's leaf 7; zeros if there is none.
fn leaf_7() -> (u32, u32) {
    if __cpuid(0).eax < 7 {
        return (0, 0);
    }
    let leaf = __cpuid_count(7, 0);
    (leaf.ebx, leaf.ecx)
}
