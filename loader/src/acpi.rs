//! Which CPUs and I/O APICs there are, by ACPI's Multiple APIC Description Table (MADT).
//!
//! Root pointer, then root table (of 64-bit pointers, or of 32-bit ones), then the table of signature `APIC`: ACPI
//! specification 6.5, sections 5.2.5 to 5.2.12. A table whose checksum is wrong is not used.

use crate::Physical;
use crate::field::{u8_at, u32_at, u64_at};

/// Sizes of the root pointer (revision 0, revision 2), and of the header that every table has.
const RSDP_SIZE: u64 = 20;
const RSDP2_SIZE: u64 = 36;
const HEADER_SIZE: usize = 36;
/// Bytes of the MADT before its first entry.
const MADT_HEAD: usize = 44;
/// A table longer than this is taken for nonsense.
const LONGEST_TABLE: u64 = 1 << 20;

/// A CPU that can be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processor {
    /// ACPI's number for it.
    pub uid: u32,
    /// Identity of its local APIC.
    pub apic_id: u32,
}

/// The root pointer and every table that can be reached from it: addresses and lengths.
pub fn tables<M: Physical>(memory: &M, rsdp: u64) -> impl Iterator<Item = (u64, &[u8])> + Clone {
    let root = root(memory, rsdp);
    let (pointers, size) = root.map_or((&[][..], 8), |(_, table, size)| (&table[HEADER_SIZE..], size));
    let pointer = move |bytes: &[u8]| if size == 4 { u32_at(bytes, 0).map(u64::from) } else { u64_at(bytes, 0) };
    let others = pointers.chunks_exact(size).filter_map(move |bytes| {
        let address = pointer(bytes)?;
        Some((address, table(memory, address)?))
    });
    root.map(|(address, table, _)| (address, table)).into_iter().chain(others)
}

/// The MADT, if the machine has one.
#[must_use]
pub fn madt<M: Physical>(memory: &M, rsdp: u64) -> Option<&[u8]> {
    tables(memory, rsdp).map(|(_, table)| table).find(|table| table.starts_with(b"APIC"))
}

/// The enabled CPUs of a MADT, in its order, each once.
pub fn processors(madt: &[u8]) -> impl Iterator<Item = Processor> {
    let of_kind = |wanted: u8| {
        entries(madt).filter_map(move |(kind, body)| {
            let (uid, apic_id, flags) = match kind {
                0 => (u32::from(u8_at(body, 2)?), u32::from(u8_at(body, 3)?), u32_at(body, 4)?),
                9 => (u32_at(body, 12)?, u32_at(body, 4)?, u32_at(body, 8)?),
                _ => return None,
            };
            // A disabled entry may be a CPU that can be plugged in later; it cannot be started now.
            let exists = kind == wanted && flags & 1 != 0;
            exists.then_some(Processor { uid, apic_id })
        })
    };
    // Entries of kind 9 are for identities that kind 0 has no room for; some firmware lists the others twice.
    let listed = move |id: u32| of_kind(0).any(|processor| processor.apic_id == id);
    let long = of_kind(9).filter(move |processor| processor.apic_id > 0xff || !listed(processor.apic_id));
    of_kind(0).filter(|processor| processor.apic_id != 0xff).chain(long)
}

/// Physical addresses of a MADT's I/O APICs.
pub fn io_apics(madt: &[u8]) -> impl Iterator<Item = u64> {
    entries(madt).filter_map(|(kind, body)| (kind == 1).then(|| u32_at(body, 4).map(u64::from))?)
}

/// Kind and bytes of each entry of a MADT.
fn entries(madt: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = madt.get(MADT_HEAD..).unwrap_or_default();
    core::iter::from_fn(move || {
        let length = usize::from(u8_at(rest, 1)?).max(2);
        let (entry, behind) = rest.split_at_checked(length)?;
        rest = behind;
        Some((entry[0], entry))
    })
}

/// Address, bytes and size of a pointer of the root table.
fn root<M: Physical>(memory: &M, rsdp: u64) -> Option<(u64, &[u8], usize)> {
    let pointer = memory.bytes(rsdp, RSDP_SIZE)?;
    if !pointer.starts_with(b"RSD PTR ") || !sums_to_zero(pointer) {
        return None;
    }
    let extended = || {
        let address = u64_at(memory.bytes(rsdp, RSDP2_SIZE)?, 24).filter(|address| *address != 0)?;
        Some((address, table(memory, address)?, 8))
    };
    let plain = || {
        let address = u64::from(u32_at(pointer, 16)?);
        Some((address, table(memory, address)?, 4))
    };
    (pointer[15] >= 2).then(extended).flatten().or_else(plain)
}

/// The table at an address, if it is one.
fn table<M: Physical>(memory: &M, address: u64) -> Option<&[u8]> {
    let length = u64::from(u32_at(memory.bytes(address, HEADER_SIZE as u64)?, 4)?);
    let table = memory.bytes(address, length).filter(|_| (HEADER_SIZE as u64..=LONGEST_TABLE).contains(&length))?;
    sums_to_zero(table).then_some(table)
}

fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::physical::tests::Fake;
    use proptest::prelude::*;

    const BASE: u64 = 0xf_0000;
    const ROOT: usize = 0x40;
    const MADT: usize = 0x100;

    fn sealed(mut bytes: Vec<u8>, checksum_at: usize) -> Vec<u8> {
        let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        bytes[checksum_at] = bytes[checksum_at].wrapping_sub(sum);
        bytes
    }

    fn a_table(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER_SIZE + body.len()).unwrap();
        sealed([&signature[..], &length.to_le_bytes(), &[0; 28], body].concat(), 9)
    }

    fn a_madt(entries: &[&[u8]]) -> Vec<u8> {
        a_table(b"APIC", &[&[0; 8][..], &entries.concat()].concat())
    }

    /// A machine's ACPI tables, reached through 64-bit pointers or 32-bit ones.
    fn machine(wide: bool, madt: &[u8]) -> Fake {
        let mut memory = vec![0; 0x1000];
        let root = BASE + ROOT as u64;
        let pointer = BASE + MADT as u64;
        let table = if wide {
            a_table(b"XSDT", &pointer.to_le_bytes())
        } else {
            a_table(b"RSDT", &u32::try_from(pointer).unwrap().to_le_bytes())
        };
        let narrow = if wide { 0 } else { u32::try_from(root).unwrap() };
        let head = [b"RSD PTR \0PALISA", &[2 * u8::from(wide)][..], &narrow.to_le_bytes()].concat();
        let rsdp = [sealed(head, 8), 36_u32.to_le_bytes().to_vec(), root.to_le_bytes().to_vec(), vec![0; 4]].concat();
        for (at, bytes) in [(0, &rsdp[..]), (ROOT, &table), (MADT, madt)] {
            memory[at..at + bytes.len()].copy_from_slice(bytes);
        }
        Fake(BASE, memory)
    }

    const CPU_0: &[u8] = &[0, 8, 0, 0, 1, 0, 0, 0];
    const CPU_1: &[u8] = &[0, 8, 1, 2, 1, 0, 0, 0];
    const ABSENT: &[u8] = &[0, 8, 2, 4, 2, 0, 0, 0];
    const IO_APIC: &[u8] = &[1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0];
    const LONG: &[u8] = &[9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0];
    const LONG_AGAIN: &[u8] = &[9, 16, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0];

    #[test]
    fn enabled_cpus_are_listed_once_and_io_apics_found() {
        for wide in [true, false] {
            let memory = machine(wide, &a_madt(&[CPU_0, CPU_1, ABSENT, IO_APIC, LONG, LONG_AGAIN]));
            let madt = madt(&memory, BASE).unwrap();
            let found: Vec<_> = processors(madt).map(|processor| (processor.uid, processor.apic_id)).collect();
            assert_eq!(found, [(0, 0), (1, 2), (9, 256)]);
            assert_eq!(io_apics(madt).collect::<Vec<_>>(), [0xfec0_0000]);
            assert_eq!(tables(&memory, BASE).map(|(at, _)| at).collect::<Vec<_>>(), [BASE + 0x40, BASE + 0x100]);
        }
    }

    #[test]
    fn damaged_tables_are_not_used() {
        for at in [0, 8, ROOT + 9, MADT + 9, MADT + 50] {
            let mut memory = machine(true, &a_madt(&[CPU_0, CPU_1]));
            memory.1[at] ^= 0x55;
            assert!(madt(&memory, BASE).is_none(), "damaged at {at:#x}");
        }
        assert!(madt(&machine(true, &[]), BASE).is_none());
        assert!(madt(&machine(true, &[]), 0).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_of_entries_are_survived(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let madt = a_madt(&[&body]);
            prop_assert!(processors(&madt).count() + io_apics(&madt).count() <= body.len());
        }
    }
}
