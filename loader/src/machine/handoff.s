# The last of the loader: out of its own page tables and into the kernel. All of it runs in the direct map, which is the
# only place that the loader's tables and the kernel's show alike, and uses no address but those that it is given.

    .section .text.handoff, "ax"
    .code64

    # rdi: the kernel's entry point, rsi: end of its stack, rdx: its page tables.
    .globl enter_kernel
enter_kernel:
    mov %rdx, %cr3
    mov %rsi, %rsp
    mov %rdi, %rax
    xor %edi, %edi
    jmp leave_loader

    # rdi: this CPU's structure, rsi: end of its stack, rdx: the kernel's page tables.
    #
    #   word 1 (loader's): 1 --(1)--> 0     this CPU: parked, needs nothing of the loader but this loop
    #   word 2 (address):  0 --(2)--> entry kernel: go there
    .globl park
park:
    mov %rdx, %cr3
    mov %rsi, %rsp
    movq $0, 8(%rdi)                    # (1)
1:  pause
    mov 16(%rdi), %rax                  # (2); loads are acquire loads on this architecture
    test %rax, %rax
    jz 1b

    # rax: where to go; rdi: what the kernel finds in rdi. A return, for it leaves every register to be cleared.
leave_loader:
    pushq $0                            # the return address, invalid
    pushq %rax
    pushq $2
    xor %eax, %eax
    xor %ebx, %ebx
    xor %ecx, %ecx
    xor %edx, %edx
    xor %esi, %esi
    xor %ebp, %ebp
    xor %r8d, %r8d
    xor %r9d, %r9d
    xor %r10d, %r10d
    xor %r11d, %r11d
    xor %r12d, %r12d
    xor %r13d, %r13d
    xor %r14d, %r14d
    xor %r15d, %r15d
    popfq
    ret
