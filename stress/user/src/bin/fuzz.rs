//! System calls with arguments of all kinds. The first word is the seed, the second how many.
//!
//! Exit codes: 0 all came back; 1 an answer is none that the interface has.
#![cfg_attr(target_os = "none", no_std, no_main)]

use user::call;
use wire::syscall::{self, Error};

user::program!(run);

/// Words at the edges of what means something.
const EDGES: [u64; 28] = [
    0,
    1,
    2,
    7,
    8,
    63,
    255,
    256,
    257,
    0xfff,
    0x1000,
    0x1001,
    0x40_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_1fff_f000,
    0x1_2000_0000,
    0x2_000f_e000,
    0x2_000f_f000,
    0x7fff_ffff_e000,
    0x7fff_ffff_f000,
    0x8000_0000_0000,
    0xffff_8000_0000_0000,
    0xffff_d000_0000_0000,
    0xffff_ffff_8000_0000,
    u64::MAX,
];

/// xorshift64*
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn word(&mut self) -> u64 {
        match self.next() % 6 {
            0 => self.next(),
            1 => EDGES[(self.next() % EDGES.len() as u64) as usize].wrapping_add(self.next() % 3).wrapping_sub(1),
            2 => self.next() % 512,
            3 => 0x1_0000_0000 + (self.next() & 0x1fff_f000),
            4 => 1 << (self.next() % 64),
            _ => EDGES[(self.next() % EDGES.len() as u64) as usize],
        }
    }

    fn number(&mut self) -> u64 {
        match self.next() % 4 {
            0 => self.word(),
            _ => self.next() % syscall::COUNT,
        }
    }
}

fn run([seed, count]: [u64; 2]) -> i32 {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for _ in 0..count {
        let number = random.number();
        let mut arguments = [random.word(), random.word(), random.word()];
        match number {
            syscall::EXIT => continue,
            // What is longer than that costs the test time and shows nothing.
            syscall::SLEEP if arguments[0] <= syscall::LONGEST_SLEEP => arguments[0] %= 1_000_000,
            syscall::IMAGE => arguments[0] = 0,
            _ => {}
        }
        // SAFETY: nothing of this program lies where it may unmap.
        let answer = unsafe { call::raw(number, arguments) };
        let known = answer >= 0 || Error::ALL.iter().any(|error| error.answer() == answer);
        if !known || number >= syscall::COUNT && answer != Error::NoSuchCall.answer() {
            return 1;
        }
    }
    0
}
