# Entries of the 32 exceptions, 16 bytes each. They are entered in the direct map, on the loader's page tables or on the
# kernel's, and report on the loader's, on a stack of their own: the one they come from may be the reason.

    .section .text.exception, "ax"
    .code64
    .balign 16
    .globl exception_entries
exception_entries:
    .set vector, 0
    .rept 32
    .balign 16
    .if ((0x60227d00 >> vector) & 1) == 0   # those that push no error code themselves
    pushq $0
    .endif
    pushq $vector
    jmp exception_common
    .set vector, vector + 1
    .endr

exception_common:
    lock btsl $0, exception_reported(%rip)  # the first CPU reports, the others stop
    jc 1f
    popq %rdi
    popq %rsi
    movq (%rsp), %rdx                   # its rip
    mov %cr2, %rcx
    mov $loader_tables, %eax
    mov %rax, %cr3
    mov $exception_stack_end, %esp
    xor %ebp, %ebp
    mov $exception_report, %eax
    call *%rax
1:  hlt
    jmp 1b

    .section .bss.exception, "aw", @nobits
    .balign 16
exception_reported:
    .skip 16
    .skip 0x4000
exception_stack_end:
