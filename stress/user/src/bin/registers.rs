//! Finds all registers as a program finds them, fills them with words of its own, gives way and spins, and finds them as they
//! were. The first word is what it fills them with, the second how often.
//!
//! Exit codes: 0 all well; 1 something was there before; 2 SSE or x87 registers changed; 3 others did over a system call.
#![cfg_attr(target_os = "none", no_std, no_main)]

user::program!(run);

#[cfg(not(target_os = "none"))]
fn run(_: [u64; 2]) -> i32 {
    0
}

#[cfg(target_os = "none")]
fn run([word, rounds]: [u64; 2]) -> i32 {
    use state::Area;
    let mut area = Area::saved();
    if area.registers().iter().any(|byte| *byte != 0) || area.control() != (0x37f, 0x1f80) {
        return 1;
    }
    for round in 0..rounds {
        area.fill(word ^ round);
        area.load();
        for _ in 0..3 {
            user::call::yield_now();
            (0..2000).for_each(|_| core::hint::spin_loop());
        }
        if Area::saved().registers() != area.registers() || Area::saved().control() != area.control() {
            return 2;
        }
        if !state::others_are_kept(word ^ round) {
            return 3;
        }
    }
    0
}

#[cfg(target_os = "none")]
mod state {
    use core::arch::asm;

    /// The FXSAVE area.
    #[repr(C, align(16))]
    pub struct Area([u8; 512]);

    impl Area {
        /// What the registers hold.
        pub fn saved() -> Self {
            let mut area = Self([0; 512]);
            // SAFETY: as large and as aligned as it has to be.
            unsafe { asm!("fxsave64 [{}]", in(reg) &raw mut area, options(nostack)) };
            area
        }

        /// x87 and SSE registers: of the 16 bytes that one of x87 has in the area, 10 are its own.
        pub fn registers(&self) -> [u8; 8 * 10 + 16 * 16] {
            let mut all = [0; 8 * 10 + 16 * 16];
            for (at, to) in all[..80].chunks_exact_mut(10).enumerate() {
                to.copy_from_slice(&self.0[32 + at * 16..][..10]);
            }
            all[80..].copy_from_slice(&self.0[160..416]);
            all
        }

        /// Control words of x87 and SSE.
        pub fn control(&self) -> (u16, u32) {
            let word = |at: usize| u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]]);
            (word(0) as u16, word(24))
        }

        /// Other contents for all of them.
        pub fn fill(&mut self, word: u64) {
            for (at, bytes) in self.0[32..416].chunks_exact_mut(8).enumerate() {
                bytes.copy_from_slice(&(word.rotate_left(at as u32) ^ at as u64).to_le_bytes());
            }
            // Rounding, with all exceptions masked.
            let rounding = (word & 3) as u32;
            self.0[0..2].copy_from_slice(&(0x37f | (rounding as u16) << 10).to_le_bytes());
            self.0[24..28].copy_from_slice(&(0x1f80 | rounding << 13).to_le_bytes());
        }

        /// Loads them.
        pub fn load(&self) {
            // SAFETY: as FXSAVE stored it, but for registers that this program does not use otherwise.
            unsafe { asm!("fxrstor64 [{}]", in(reg) &raw const self.0, options(nostack)) };
        }
    }

    /// Whether a system call keeps the registers that it says it keeps.
    pub fn others_are_kept(word: u64) -> bool {
        let differ: u64;
        // SAFETY: what the compiler keeps in the two registers that it reserves is put back.
        unsafe {
            asm!(
                "push rbx", "push rbp",
                "lea rbx, [rdi + 1]", "lea rbp, [rdi + 2]", "lea rsi, [rdi + 3]", "lea rdx, [rdi + 4]",
                "lea r8, [rdi + 5]", "lea r9, [rdi + 6]", "lea r10, [rdi + 7]", "lea r12, [rdi + 8]",
                "lea r13, [rdi + 9]", "lea r14, [rdi + 10]", "lea r15, [rdi + 11]",
                "syscall",
                "sub rbx, 1", "sub rbp, 2", "sub rsi, 3", "sub rdx, 4", "sub r8, 5", "sub r9, 6", "sub r10, 7", "sub r12, 8",
                "sub r13, 9", "sub r14, 10", "sub r15, 11",
                "xor rbx, rdi", "xor rbp, rdi", "xor rsi, rdi", "xor rdx, rdi", "xor r8, rdi", "xor r9, rdi", "xor r10, rdi",
                "xor r12, rdi", "xor r13, rdi", "xor r14, rdi", "xor r15, rdi",
                "or rax, rbx", "or rax, rbp", "or rax, rsi", "or rax, rdx", "or rax, r8", "or rax, r9", "or rax, r10",
                "or rax, r12", "or rax, r13", "or rax, r14", "or rax, r15",
                "pop rbp", "pop rbx",
                inlateout("rax") wire::syscall::YIELD => differ,
                in("rdi") word, out("rsi") _, out("rdx") _, lateout("rcx") _, out("r8") _, out("r9") _, out("r10") _,
                lateout("r11") _, out("r12") _, out("r13") _, out("r14") _, out("r15") _,
            );
        }
        differ == 0
    }
}
