//! Does what no program may, or what looks like it: the first word names the deed, the second is an address or a number.
//! Whoever is still there at the end returns 0.
#![cfg_attr(target_os = "none", no_std, no_main)]

user::program!(run);

#[cfg(not(target_os = "none"))]
fn run(_: [u64; 2]) -> i32 {
    0
}

#[cfg(target_os = "none")]
fn run([deed, word]: [u64; 2]) -> i32 {
    match deed {
        0 => deeds::recurse_for_ever(),
        1 => deeds::write_above_stack(),
        2 => deeds::read(word),
        3 => deeds::write(word),
        4 => deeds::jump(word),
        5 => deeds::privileged(word),
        6 => deeds::software_interrupt(word),
        7 => return deeds::large_frame(),
        8 => deeds::write_to_code(),
        9 => deeds::execute_stack(),
        10 => deeds::call_without_stack(word),
        11 => return deeds::flags(),
        12 => deeds::segments(),
        13 => deeds::trap_flag(),
        15 => return deeds::print(word),
        14 => return user::call::image(2, word).map_or(1, |_| 0),
        _ => return 1,
    }
    0
}

#[cfg(target_os = "none")]
mod deeds {
    use core::arch::asm;
    use core::hint::black_box;
    use user::call;

    #[inline(never)]
    pub fn recurse_for_ever() {
        fn down(depth: u64) -> u64 {
            let here = black_box([depth; 8]);
            if black_box(depth) == u64::MAX { 0 } else { down(depth + 1) + here[(depth % 8) as usize] }
        }
        black_box(down(0));
    }

    /// A frame larger than the stack and its guard, touched at its far end only.
    #[inline(never)]
    pub fn large_frame() -> i32 {
        let mut frame = core::mem::MaybeUninit::<[u8; 64 << 10]>::uninit();
        // SAFETY: the first byte of a local.
        unsafe { frame.as_mut_ptr().cast::<u8>().write_volatile(1) };
        black_box(&mut frame);
        0
    }

    pub fn write_above_stack() {
        let mut at: u64;
        // SAFETY: reads a register.
        unsafe { asm!("mov {}, rsp", out(reg) at, options(nomem, nostack)) };
        loop {
            // SAFETY: what is there already, until the guard ends this thread.
            unsafe {
                let byte = (at as *const u8).read_volatile();
                (at as *mut u8).write_volatile(byte);
            }
            at += 1;
        }
    }

    pub fn read(address: u64) {
        // SAFETY: faults, which is what it is for.
        black_box(unsafe { (address as *const u8).read_volatile() });
    }

    pub fn write(address: u64) {
        // SAFETY: as above.
        unsafe { (address as *mut u8).write_volatile(1) }
    }

    pub fn jump(address: u64) {
        // SAFETY: as above.
        unsafe { asm!("jmp {}", in(reg) address, options(noreturn)) }
    }

    /// Has the kernel read for the program what that may not read itself; the error's number.
    pub fn print(address: u64) -> i32 {
        // SAFETY: prints.
        let answer = unsafe { call::raw(wire::syscall::PRINT, [address, 8, 0]) };
        -answer as i32
    }

    pub fn write_to_code() {
        write(write_to_code as *const () as u64);
    }

    pub fn execute_stack() {
        let code = black_box([0xc3_u8; 16]); // returns
        jump(code.as_ptr() as u64);
    }

    macro_rules! numbered {
        ($number:expr, $($code:literal),+ $(,)?) => {
            let mut at = $number;
            $(
                if at == 0 {
                    // SAFETY: each is an exception that ends this thread; what would change otherwise is of no account.
                    unsafe { asm!("xor eax, eax", "xor ecx, ecx", "xor edx, edx", $code, out("rax") _, out("rcx") _, out("rdx") _) }
                }
                at = at.wrapping_sub(1);
            )+
            let _ = at;
        };
    }

    pub fn privileged(number: u64) {
        numbered!(
            number,
            "cli",
            "sti",
            "hlt",
            "mov rax, cr0",
            "mov rax, cr3",
            "mov cr3, rax",
            "mov cr4, rax",
            "rdmsr",
            "wrmsr",
            "in al, dx",
            "out dx, al",
            "invlpg [rax]",
            "lgdt [rsp]",
            "lidt [rsp]",
            "ltr ax",
            "lmsw ax",
            "clts",
            "swapgs",
            "sysretq",
            "wbinvd",
            "mov rax, dr7",
            "mov dr7, rax",
            "rdpmc",
            "invd",
            "sgdt [rsp - 16]",
            "sidt [rsp - 16]",
            "smsw ax",
            "str ax",
            "sldt ax",
            "rdgsbase rax",
            "wrgsbase rax",
            "xsetbv",
            "mov eax, 8; mov ss, eax",
            "mov eax, 8; mov gs, eax",
            "ud2",
            "div ecx",
            "sysenter",
            ".byte 0xf1",
            "mov eax, 7; mov gs, eax",
            "sub rsp, 40; mov qword ptr [rsp], 0x400000; mov qword ptr [rsp + 8], 8; mov qword ptr [rsp + 16], 2; mov qword ptr [rsp + 24], 0; mov qword ptr [rsp + 32], 16; iretq",
        );
    }

    pub fn software_interrupt(number: u64) {
        numbered!(
            number, "int 0", "int 1", "int 2", "int3", "int 4", "int 6", "int 8", "int 13", "int 14", "int 18",
            "int 32", "int 0x40", "int 0x50", "int 0x80", "int 0xe0", "int 0xf0", "int 0xff",
        );
    }

    /// System calls and interrupts with a stack pointer that is none.
    pub fn call_without_stack(rsp: u64) {
        for _ in 0..200 {
            // SAFETY: the stack is back before anything uses it.
            unsafe {
                asm!(
                    "mov {kept}, rsp", "mov rsp, {none}", "syscall", "mov ecx, 20000", "2: dec ecx", "jnz 2b", "mov rsp, {kept}",
                    kept = out(reg) _, none = in(reg) rsp, inlateout("rax") wire::syscall::YIELD => _,
                    lateout("rcx") _, lateout("r11") _,
                )
            }
        }
    }

    /// Direction, alignment check, nested task and ID set over a system call: they come back as they were.
    pub fn flags() -> i32 {
        const WANTED: u64 = 1 << 10 | 1 << 14 | 1 << 18 | 1 << 21;
        let after: u64;
        // SAFETY: the direction flag is cleared again before anything else runs.
        unsafe {
            asm!(
                "pushfq", "or qword ptr [rsp], {wanted}", "popfq", "syscall", "mov ecx, 200000", "2: dec ecx", "jnz 2b",
                "pushfq", "pop {after}", "push 2", "popfq",
                wanted = const WANTED, after = out(reg) after, inlateout("rax") wire::syscall::YIELD => _,
                lateout("rcx") _, lateout("r11") _,
            );
        }
        // SYSRET keeps all; the alignment check is not on for the program, since the kernel leaves CR0.AM off.
        if after & WANTED == WANTED { 0 } else { 2 }
    }

    /// Every segment register that a program can load, over interrupts and system calls.
    pub fn segments() {
        for selector in [0x1b_u32, 0x23, 0, 0x1b] {
            for _ in 0..50 {
                // SAFETY: flat segments, or none.
                unsafe {
                    asm!(
                        "mov ds, {s:e}", "mov es, {s:e}", "mov fs, {s:e}", "mov gs, {s:e}", "syscall",
                        "mov ds, {s:e}", "mov es, {s:e}", "mov fs, {s:e}", "mov gs, {s:e}",
                        "mov ecx, 100000", "2: dec ecx", "jnz 2b",
                        s = in(reg) selector, inlateout("rax") wire::syscall::YIELD => _,
                        lateout("rcx") _, lateout("r11") _,
                    );
                }
            }
        }
        call::yield_now();
    }

    /// Single steps into a system call.
    pub fn trap_flag() {
        // SAFETY: a trap ends this thread, here or behind the call.
        unsafe {
            asm!(
                "pushfq", "or qword ptr [rsp], 0x100", "popfq", "syscall", "nop",
                inlateout("rax") wire::syscall::YIELD => _, lateout("rcx") _, lateout("r11") _,
            );
        }
    }
}
