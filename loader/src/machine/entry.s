# From the PVH entry to 64-bit Rust, for the first CPU; and from the trampoline to it, for all others.
#
# The tables here are the loader's own: they show the first 4 GiB twice, at address 0 and in the direct map. The kernel
# never runs on them.

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 8, 18                      # lengths of name and value; XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad loader_start32

    .set DIRECT_MAP_SLOT, 256           # of the highest table: 0xffff800000000000
    .set CODE64, 0x28
    .set DATA64, 0x30
    .set DATA32, 0x20

    # Paging on, long mode on, 64-bit code at \target. Clobbers eax, ecx, edx.
    .macro enter_long_mode target
    mov $loader_tables, %eax
    mov %eax, %cr3
    mov $0x20, %eax                     # PAE
    mov %eax, %cr4
    mov $0xc0000080, %ecx               # EFER: LME, NXE
    mov $0x900, %eax
    xor %edx, %edx
    wrmsr
    mov $0x80010011, %eax               # PG, WP, ET, PE
    mov %eax, %cr0
    ljmpl $CODE64, $\target
    .endm

    # The descriptor table by its address in the direct map, and 64-bit data segments. Clobbers eax.
    .macro load_segments
    lgdt gdt_pointer64(%rip)
    mov $DATA64, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %eax, %fs
    mov %eax, %gs
    xor %eax, %eax
    lldt %ax
    .endm

    .section .text.entry, "ax"
    .code32
    # The first CPU: 32-bit protected mode without paging, flat segments, start information at ebx.
    .globl loader_start32
loader_start32:
    cli
    cld
    mov %ebx, %ebp                      # cpuid writes ebx
    mov $0x80000000, %eax
    cpuid
    cmp $0x80000001, %eax
    jb no_long_mode
    mov $0x80000001, %eax
    cpuid
    bt $29, %edx
    jnc no_long_mode
    bt $20, %edx
    jnc no_execute_disable
    lgdtl gdt_pointer32
    enter_long_mode start64

no_long_mode:
    mov $no_long_mode_text, %esi
    jmp fail32
no_execute_disable:
    mov $no_execute_disable_text, %esi
    # One line on the first serial port, then the end: status 37, and silence where the device is absent.
fail32:
    mov $0x3fd, %edx
    mov $100000, %ecx
1:  inb %dx, %al
    test $0x20, %al
    jnz 2f
    pause
    loop 1b
2:  lodsb
    test %al, %al
    jz 3f
    mov $0x3f8, %edx
    outb %al, %dx
    jmp fail32
3:  mov $0xf4, %edx
    mov $0x12, %eax
    outl %eax, %dx
4:  hlt
    jmp 4b

    # Every other CPU, from the trampoline.
    .globl other_start32
other_start32:
    mov $DATA32, %eax
    mov %eax, %ds
    mov %eax, %ss
    enter_long_mode other_start64

    .code64
start64:
    load_segments
    mov $boot_stack_end, %esp
    mov %ebp, %edi
    xor %ebp, %ebp
    call loader_main
    ud2

other_start64:
    load_segments
    # Each CPU draws a number, and by it a stack. Which one, does not matter.
    mov $1, %eax
    lock xadd %rax, other_stacks + 16(%rip)
    cmp other_stacks + 24(%rip), %rax
    jae 1f
    inc %rax
    imul other_stacks + 8(%rip), %rax
    add other_stacks(%rip), %rax
    mov %rax, %rsp
    mov %rax, %rdi
    xor %ebp, %ebp
    call other_main
1:  hlt
    jmp 1b

    # Copied to a page below 1 MiB, where every other CPU starts in real mode at offset 0.
    .section .rodata.trampoline, "a"
    .code16
    .globl trampoline_start, trampoline_end
trampoline_start:
    cli
    cld
    mov %cs, %ax
    mov %ax, %ds
    lgdtl trampoline_gdt_pointer - trampoline_start
    mov $0x11, %eax                     # ET, PE; caches on
    mov %eax, %cr0
    ljmpl $0x18, $other_start32
    .balign 4
trampoline_gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
trampoline_end:
    .code64

    .section .rodata.loader, "a"
no_long_mode_text:
    .asciz "palisade-loader: this CPU has no 64-bit mode\r\n"
no_execute_disable_text:
    .asciz "palisade-loader: this CPU cannot forbid execution (NX)\r\n"

    # The descriptors that the protocol demands, all marked as accessed: the CPU never writes to them.
    .balign 8
gdt:
    .quad 0
    .quad 0x00009b000000ffff            # 0x08: 16-bit code
    .quad 0x000093000000ffff            # 0x10: 16-bit data
    .quad 0x00cf9b000000ffff            # 0x18: 32-bit code
    .quad 0x00cf93000000ffff            # 0x20: 32-bit data
    .quad 0x00af9b000000ffff            # 0x28: 64-bit code
    .quad 0x00cf93000000ffff            # 0x30: 64-bit data
gdt_end:
gdt_pointer32:
    .word gdt_end - gdt - 1
    .long gdt
gdt_pointer64:
    .word gdt_end - gdt - 1
    .quad gdt + 0xffff800000000000

    .section .data.tables, "aw"
    .balign 4096
    .globl loader_tables
loader_tables:
    .quad tables_1 + 3
    .fill DIRECT_MAP_SLOT - 1, 8, 0
    .quad tables_1 + 3
    .fill 511 - DIRECT_MAP_SLOT, 8, 0
tables_1:
    .quad tables_2 + 3, tables_2 + 0x1003, tables_2 + 0x2003, tables_2 + 0x3003
    .fill 508, 8, 0
tables_2:                               # 2 MiB pages: present, writable
    .set address, 0
    .rept 2048
    .quad address + 0x83
    .set address, address + 0x200000
    .endr

    .section .bss.stack, "aw", @nobits
    .balign 4096
    .skip 0x10000
boot_stack_end:
