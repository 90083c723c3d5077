//! The kernel's requests, found in its loaded image, and what they ask of the boot besides an answer.
//!
//! A request is a structure on an 8-byte boundary: four words of identity, a revision, the place for the answer's
//! address, and sometimes more. A start marker forgets what was found before it, an end marker ends the search.

use crate::field::{put_u64, u64_at};
use core::fmt;
use core::ops::Range;

/// The first two words of every request.
const COMMON: [u64; 2] = [0xc7b1_dd30_df4c_8b88, 0x0a82_e883_a194_f07b];
/// The first two words of the base revision tag.
const TAG: [u64; 2] = [0xf956_2b2d_5c95_a6c8, 0x6a7b_3849_4453_6bdc];
/// The marker before the first request, and the one behind the last.
const START: [u64; 4] = [0xf6b8_f4b3_9de7_d1ae, 0xfab9_1a69_40fc_b9cf, 0x785c_6ed0_15d3_e316, 0x181e_920a_7852_b9d9];
const END: [u64; 2] = [0xadc0_e053_1bb1_0d03, 0x9572_709f_3176_4c62];

/// The highest base revision that the loader knows.
pub const HIGHEST_REVISION: u64 = 3;
/// Most requests in a kernel.
const MOST: usize = 128;
/// Smallest stack that a kernel is given.
const SMALLEST_STACK: u64 = 64 << 10;

/// Offsets in a request: its revision, the answer's address, the first word of what some have more.
const REVISION: usize = 32;
const ANSWER: usize = 40;
const EXTRA: usize = 48;

macro_rules! features {
    ($($(#[$meta:meta])* $name:ident = $high:literal, $low:literal;)+) => {
        /// What a kernel can ask for, and this loader answers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Feature { $($(#[$meta])* $name,)+ }

        impl Feature {
            /// Every feature.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The last two words of the request's identity.
            #[must_use]
            pub const fn id(self) -> [u64; 2] {
                match self { $(Self::$name => [$high, $low],)+ }
            }
        }
    };
}
features! {
    /// Name and version of the loader.
    BootloaderInfo = 0xf550_38d8_e2a1_202f, 0x2794_26fc_f5f5_9740;
    /// The kernel's command line.
    CommandLine = 0x4b16_1536_e598_651e, 0xb390_ad4a_2f1f_303a;
    /// BIOS or UEFI.
    FirmwareType = 0x8c2f_75d9_0bef_28a8, 0x7045_a468_8eac_00c3;
    /// A larger stack.
    StackSize = 0x224e_f046_0a8e_8926, 0xe1cb_0fc2_5f46_ea3d;
    /// Where the direct map of memory starts.
    Hhdm = 0x48dc_f1cb_8ad2_b852, 0x6398_4e95_9a98_244b;
    /// The number of page table levels.
    PagingMode = 0x95c1_a0ed_ab09_44cb, 0xa4e5_cb38_42f7_488a;
    /// The other CPUs, started.
    Mp = 0x95a6_7b81_9a1b_857e, 0xa0b6_1b72_3b6a_73e0;
    /// The memory map.
    MemoryMap = 0x67cf_3d9d_378a_806f, 0xe304_acdf_c50c_3c62;
    /// Another entry point than the file's.
    EntryPoint = 0x13d8_6c03_5a1c_d3e1, 0x2b0c_aa89_d8f3_026a;
    /// The kernel file as it was read.
    ExecutableFile = 0xad97_e90e_83f1_ed67, 0x31eb_5d1c_5ff2_3b69;
    /// Further files.
    Module = 0x3e7e_2797_02be_32af, 0xca1c_4f3b_d128_0cee;
    /// ACPI's root pointer.
    Rsdp = 0xc5e7_7b6b_397e_7b43, 0x2763_7845_accd_cf3c;
    /// The date.
    DateAtBoot = 0x5027_46e1_84c0_88aa, 0xfbc5_ec83_e632_7893;
    /// Where the kernel is, physically and virtually.
    ExecutableAddress = 0x71ba_7686_3cc5_5f63, 0xb264_4a48_c516_a487;
}

/// Why a kernel cannot be booted as it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Two base revision tags.
    TwoTags,
    /// Two requests whose identity ends in these words.
    Duplicate([u64; 2]),
    /// More requests than the protocol's users ever have.
    TooMany,
    /// It demands page tables of a mode above 0 (four levels), and at most this one (minimum, maximum).
    PagingMode(u64, u64),
    /// It requires a file next to the kernel's.
    ModuleRequired,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TwoTags => f.write_str("two base revision tags"),
            Self::Duplicate([high, low]) => write!(f, "two requests of identity {high:#018x} {low:#018x}"),
            Self::TooMany => write!(f, "more than {MOST} requests"),
            Self::PagingMode(least, most) => {
                write!(
                    f,
                    "it demands paging modes {least} to {most}, and this loader sets up mode 0 only (four levels)"
                )
            }
            Self::ModuleRequired => {
                f.write_str("it requires an internal module, and this loader has no file system to read it from")
            }
        }
    }
}

/// Where a kernel's requests are.
#[derive(Clone, Debug)]
pub struct Requests {
    /// Offset in the image of the base revision tag, and the revision that it asks for.
    tag: Option<(usize, u64)>,
    /// Identity of each request, and its offset in the image.
    found: [([u64; 2], usize); MOST],
    used: usize,
}

impl Requests {
    /// Searches the parts of an image that were loaded from its file; `loaded` gives them by rising offset.
    ///
    /// # Errors
    /// [`Error::TwoTags`], [`Error::Duplicate`], [`Error::TooMany`].
    pub fn find(image: &[u8], loaded: impl Iterator<Item = Range<usize>>) -> Result<Self, Error> {
        let none = Self { tag: None, found: [([0; 2], 0); MOST], used: 0 };
        let mut requests = none.clone();
        let words = |at: usize| [0, 8].map(|more| u64_at(image, at + more).unwrap_or(0));
        let has_room = |at: usize, length: usize| at + length <= image.len();
        for at in loaded.flat_map(|part| (part.start.next_multiple_of(8)..part.end).step_by(8)) {
            // Almost every word is none of these: this comparison is all that most of the image gets.
            match u64_at(image, at).unwrap_or(0) {
                first if first == COMMON[0] && words(at) == COMMON && has_room(at, EXTRA) => {
                    requests.add(words(at + 16), at)?;
                }
                first if first == TAG[0] && words(at) == TAG && has_room(at, 24) => {
                    requests.add_tag(at, words(at + 16)[0])?;
                }
                first if first == START[0] && words(at) == START[..2] && words(at + 16) == START[2..] => {
                    requests = none.clone();
                }
                first if first == END[0] && words(at) == END => break,
                _ => {}
            }
        }
        Ok(requests)
    }

    fn add(&mut self, id: [u64; 2], at: usize) -> Result<(), Error> {
        if self.found[..self.used].iter().any(|(other, _)| *other == id) {
            return Err(Error::Duplicate(id));
        }
        *self.found.get_mut(self.used).ok_or(Error::TooMany)? = (id, at);
        self.used += 1;
        Ok(())
    }

    fn add_tag(&mut self, at: usize, asked: u64) -> Result<(), Error> {
        match self.tag.replace((at, asked)) {
            None => Ok(()),
            Some(_) => Err(Error::TwoTags),
        }
    }

    /// The base revision to boot with: the one asked for, or the highest known if that is too high. No tag asks for 0.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.tag.map_or(0, |(_, asked)| asked.min(HIGHEST_REVISION))
    }

    /// Whether a feature is asked for.
    #[must_use]
    pub fn asks_for(&self, feature: Feature) -> bool {
        self.offset(feature).is_some()
    }

    /// The stack's size in bytes, for every CPU.
    #[must_use]
    pub fn stack_size(&self, image: &[u8]) -> u64 {
        self.extra(image, Feature::StackSize, 0).unwrap_or(0).max(SMALLEST_STACK)
    }

    /// The entry point asked for, if any.
    #[must_use]
    pub fn entry(&self, image: &[u8]) -> Option<u64> {
        self.extra(image, Feature::EntryPoint, 0)
    }

    /// Whether the other CPUs are to be started, and if so, whether with x2APIC.
    #[must_use]
    pub fn processors(&self, image: &[u8]) -> Option<bool> {
        self.extra(image, Feature::Mp, 0).map(|flags| flags & 1 != 0)
    }

    /// Checks that the kernel does not demand what the loader cannot do. The image starts at this virtual address.
    ///
    /// # Errors
    /// [`Error::PagingMode`], [`Error::ModuleRequired`].
    pub fn check_demands(&self, image: &[u8], image_address: u64) -> Result<(), Error> {
        let extra = |feature, index| self.extra(image, feature, index).unwrap_or(0);
        if self.request_revision(image, Feature::PagingMode) >= 1 {
            let (most, least) = (extra(Feature::PagingMode, 1), extra(Feature::PagingMode, 2));
            if least > 0 || least > most {
                return Err(Error::PagingMode(least, most));
            }
        }
        if self.request_revision(image, Feature::Module) >= 1 {
            let word_at = |address: u64| u64_at(image, usize::try_from(address.checked_sub(image_address)?).ok()?);
            let list = extra(Feature::Module, 1);
            // What is no array of pointers into the image cannot demand anything.
            let flags = |index: u64| word_at(word_at(list.checked_add(index.checked_mul(8)?)?)?.checked_add(16)?);
            if (0..extra(Feature::Module, 0)).map_while(flags).any(|flags| flags & 1 != 0) {
                return Err(Error::ModuleRequired);
            }
        }
        Ok(())
    }

    /// Writes an answer's address into its request, if the kernel asks for it.
    pub fn answer(&self, image: &mut [u8], feature: Feature, answer: u64) {
        if let Some(at) = self.offset(feature) {
            put_u64(image, at + ANSWER, answer);
        }
    }

    /// Tells the kernel which base revision it is booted with, and whether that is the one it asked for.
    pub fn answer_tag(&self, image: &mut [u8]) {
        if let Some((at, asked)) = self.tag {
            put_u64(image, at + 8, self.revision());
            if asked <= HIGHEST_REVISION {
                put_u64(image, at + 16, 0);
            }
        }
    }

    /// Where a request is whose answer has room in the image.
    fn offset(&self, feature: Feature) -> Option<usize> {
        self.found[..self.used].iter().find(|(id, _)| *id == feature.id()).map(|(_, at)| *at)
    }

    fn request_revision(&self, image: &[u8], feature: Feature) -> u64 {
        self.offset(feature).and_then(|at| u64_at(image, at + REVISION)).unwrap_or(0)
    }

    fn extra(&self, image: &[u8], feature: Feature, index: usize) -> Option<u64> {
        u64_at(image, self.offset(feature)? + EXTRA + 8 * index)
    }
}

#[cfg(test)]
mod tests;
