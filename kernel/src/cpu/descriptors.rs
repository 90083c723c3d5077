//! GDT, TSS and IDT. Each CPU has a GDT and a TSS of its own, because the TSS names the CPU's own stacks; the IDT is
//! shared.

use super::entry::{VECTOR_STRIDE, VECTORS};
use crate::mem::StackKind;
use core::cell::UnsafeCell;
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::{segmentation::Segment, tables::load_tss};
use x86_64::registers::segmentation::{CS, DS, ES, FS, GS, SS};
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::idt::InterruptDescriptorTable;
use x86_64::structures::tss::TaskStateSegment;

/// Selector of the kernel's code segment, the first of the table.
pub(crate) const KERNEL_CODE: u16 = 0x08;
/// Selector of the kernel's data segment.
pub(crate) const KERNEL_DATA: u16 = 0x10;
/// Selector of the user programs' data segment, with privilege level 3. SYSRET wants it here, and the code behind it.
pub(crate) const USER_DATA: u16 = 0x18 | 3;
/// Selector of the user programs' code segment, with privilege level 3.
pub(crate) const USER_CODE: u16 = 0x20 | 3;

/// The exceptions that have stacks of their own, and the interrupt stack table's entry for each. A #DF must not use
/// the stack that caused it; an NMI inside a #DF must not overwrite its frame.
#[derive(Clone, Copy)]
pub(crate) enum OwnStack {
    DoubleFault = 0,
    Nmi = 1,
    MachineCheck = 2,
}

impl OwnStack {
    pub(crate) const ALL: [Self; 3] = [Self::DoubleFault, Self::Nmi, Self::MachineCheck];

    /// As a kind of stack.
    pub(crate) const fn kind(self) -> StackKind {
        match self {
            Self::DoubleFault => StackKind::DoubleFault,
            Self::Nmi => StackKind::Nmi,
            Self::MachineCheck => StackKind::MachineCheck,
        }
    }
}

static IDT: Once<InterruptDescriptorTable> = Once::new();

/// A CPU's GDT and TSS.
pub(crate) struct Descriptors {
    gdt: UnsafeCell<GlobalDescriptorTable>,
    tss: UnsafeCell<TaskStateSegment>,
}

// SAFETY: only the CPU that owns the tables changes them, before it takes interrupts; the hardware reads them.
unsafe impl Sync for Descriptors {}

impl Descriptors {
    pub(crate) const fn new() -> Self {
        Self { gdt: UnsafeCell::new(GlobalDescriptorTable::new()), tss: UnsafeCell::new(TaskStateSegment::new()) }
    }

    /// Loads GDT, TSS and IDT on the CPU that this runs on.
    ///
    /// # Safety
    /// Once, on the CPU that owns the tables, with interrupts off. Afterwards the GS base must be set anew.
    pub(crate) unsafe fn load(&'static self) {
        // SAFETY: nobody else uses the tables yet; they live for ever. The selectors are those of the entries just
        // made, in the order in which they were appended. The IDT's handlers are the entry points of `entry`.
        unsafe {
            let gdt = &mut *self.gdt.get();
            gdt.append(Descriptor::kernel_code_segment());
            gdt.append(Descriptor::kernel_data_segment());
            gdt.append(Descriptor::user_data_segment());
            gdt.append(Descriptor::user_code_segment());
            let tss = gdt.append(Descriptor::tss_segment(&*self.tss.get()));
            (*self.gdt.get()).load_unsafe();
            CS::set_reg(SegmentSelector(KERNEL_CODE));
            SS::set_reg(SegmentSelector(KERNEL_DATA));
            DS::set_reg(SegmentSelector(KERNEL_DATA));
            ES::set_reg(SegmentSelector(KERNEL_DATA));
            FS::set_reg(SegmentSelector(0));
            GS::set_reg(SegmentSelector(0));
            // No local descriptors, whatever the boot loader had: user code could load them.
            core::arch::asm!("lldt {:x}", in(reg) 0_u16, options(nostack, preserves_flags));
            load_tss(tss);
        }
        IDT.call_once(idt).load();
    }

    /// Gives interrupts and exceptions in user code the stack that ends here.
    ///
    /// # Safety
    /// On the CPU that owns the tables, with interrupts off; `top` is on the stack of the thread that runs next, which
    /// needs nothing that is below it while it is in user code.
    pub(crate) unsafe fn set_privileged_stack(&self, top: u64) {
        // SAFETY: the owner changes its own table; the hardware reads it only when it enters from user code.
        unsafe { (*self.tss.get()).privilege_stack_table[0] = VirtAddr::new(top) }
    }

    /// Gives an exception its own stack.
    ///
    /// # Safety
    /// On the CPU that owns the tables; `top` is the upper end of a mapped stack that nothing else uses.
    pub(crate) unsafe fn set_stack(&self, which: OwnStack, top: u64) {
        // SAFETY: the owner changes its own table; the hardware reads it only when it takes the exception.
        unsafe { (*self.tss.get()).interrupt_stack_table[which as usize] = VirtAddr::new(top) }
    }
}

fn idt() -> InterruptDescriptorTable {
    let mut idt = InterruptDescriptorTable::new();
    let base = &raw const VECTORS as u64;
    let entry = |vector: usize| VirtAddr::new(base + (vector * VECTOR_STRIDE) as u64);
    macro_rules! set {
        ($($vector:literal $field:ident $(on $stack:ident)?;)+) => {$(
            // SAFETY: the entry point saves the registers, and handles a vector with or without error code as the CPU
            // pushes it. A stack-table entry that is named gets its stack before the exception can occur.
            unsafe {
                let _options = idt.$field.set_handler_addr(entry($vector));
                $(_options.set_stack_index(OwnStack::$stack as u16);)?
            }
        )+};
    }
    set! {
        0 divide_error; 1 debug; 2 non_maskable_interrupt on Nmi; 3 breakpoint; 4 overflow; 5 bound_range_exceeded;
        6 invalid_opcode; 7 device_not_available; 8 double_fault on DoubleFault; 10 invalid_tss;
        11 segment_not_present; 12 stack_segment_fault; 13 general_protection_fault; 14 page_fault;
        16 x87_floating_point; 17 alignment_check; 18 machine_check on MachineCheck; 19 simd_floating_point;
        20 virtualization; 21 cp_protection_exception; 28 hv_injection_exception; 29 vmm_communication_exception;
        30 security_exception;
    }
    for vector in 32..=255u8 {
        // SAFETY: as above; vectors from 32 up have no error code.
        unsafe { idt[vector].set_handler_addr(entry(usize::from(vector))) };
    }
    idt
}
