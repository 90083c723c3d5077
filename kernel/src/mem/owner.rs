//! What an address belongs to, and which physical address is behind it: [`owner_of`] and [`translate`]. Both take no lock, so
//! fault handlers and the NMI's use them.

use super::paging::{self, DEVICES, DEVICES_BYTES};
use super::slots::{self, Hit, Kind, Region, SlotId};
use super::{PhysAddr, heap};
use crate::boot;
use crate::thread::name::Name;
use core::fmt;
use smp::CpuId;
use wire::record::Guard;

/// Kinds of stacks. One that is not a thread's belongs to a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum StackKind {
    /// A thread's.
    Thread,
    /// Of the thread that runs when no other does.
    Idle,
    /// Where a CPU's interrupt handlers and its scheduler run; CPUs but the first boot on it, too.
    Interrupt,
    /// For double faults alone.
    DoubleFault,
    /// For NMIs alone.
    Nmi,
    /// For machine checks alone.
    MachineCheck,
    /// On which the first CPU boots.
    Boot,
}

impl StackKind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; 7] =
        [Self::Thread, Self::Idle, Self::Interrupt, Self::DoubleFault, Self::Nmi, Self::MachineCheck, Self::Boot];

    /// The name in reports: `the NMI stack`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Thread => "thread",
            Self::Idle => "idle",
            Self::Interrupt => "interrupt",
            Self::DoubleFault => "#DF",
            Self::Nmi => "NMI",
            Self::MachineCheck => "#MC",
            Self::Boot => "boot",
        }
    }
}

impl fmt::Display for StackKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an address of the kernel's half belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Owner {
    /// The stack of a thread, or its guards.
    Thread {
        /// The thread's number.
        number: u32,
        /// Its name.
        name: Name,
        /// Where in the stack.
        hit: Hit,
    },
    /// A stack of a CPU, or its guards.
    Cpu {
        /// The CPU.
        cpu: CpuId,
        /// Which of its stacks.
        kind: StackKind,
        /// Where in the stack.
        hit: Hit,
    },
    /// A stack that no thread has: it has none yet, or the one that had it has ended.
    SpareStack(Hit),
    /// A guarded mapping, or its guards.
    Mapping(Hit),
    /// A slot in which nothing is mapped at present.
    Vacant(Hit),
    /// The heap.
    Heap,
    /// The kernel image.
    Image,
    /// The map of all memory.
    Memory,
    /// Registers of devices.
    Devices,
}

impl Owner {
    /// Where in a stack or mapping the address lies; `None` for what has no guards.
    #[must_use]
    pub const fn hit(&self) -> Option<Hit> {
        match self {
            Self::Thread { hit, .. } | Self::Cpu { hit, .. } => Some(*hit),
            Self::SpareStack(hit) | Self::Mapping(hit) | Self::Vacant(hit) => Some(*hit),
            Self::Heap | Self::Image | Self::Memory | Self::Devices => None,
        }
    }
}

impl fmt::Display for Owner {
    /// As it goes on after an address: `in the rear guard of the NMI stack of CPU 3, 1 bytes above it`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = match self.hit().map(|hit| hit.region) {
            Some(Region::Guard(Guard::Front, distance)) => ("in the front guard of ", Some((distance, "below"))),
            Some(Region::Guard(Guard::Rear, distance)) => ("in the rear guard of ", Some((distance, "above"))),
            _ => ("in ", None),
        };
        f.write_str(before)?;
        match self {
            Self::Thread { number, name, .. } => write!(f, "the stack of thread '{name}'#{number}")?,
            Self::Cpu { cpu, kind, .. } => write!(f, "the {kind} stack of {cpu}")?,
            Self::SpareStack(_) => f.write_str("a stack that no thread has")?,
            Self::Mapping(Hit { start, end, .. }) => write!(f, "the mapping {start:#x} to {end:#x}")?,
            Self::Vacant(_) => f.write_str("a slot in which nothing is mapped")?,
            Self::Heap => f.write_str("the heap")?,
            Self::Image => f.write_str("the kernel image")?,
            Self::Memory => f.write_str("the map of all memory")?,
            Self::Devices => f.write_str("the registers of devices")?,
        }
        after.map_or(Ok(()), |(distance, side)| write!(f, ", {distance} bytes {side} it"))
    }
}

/// What `address` belongs to; `None` if to nobody, or if it is in the lower half, where address spaces are.
///
/// Takes no lock. Of stacks and mappings that come and go meanwhile it tells what was there at some moment of the call.
///
/// ```no_run
/// use kernel::mem::{Owner, owner_of};
/// let (start, _) = kernel::thread::stack_bounds();
/// if let Some(Owner::Thread { number, name, hit }) = owner_of(start - 1) {
///     kernel::println!("the byte below the stack of thread {number}, '{name}': {:?}", hit.region);
/// }
/// assert_eq!(owner_of(0), None);
/// ```
#[must_use]
pub fn owner_of(address: u64) -> Option<Owner> {
    if let Some(hit) = boot::stack::classify(address) {
        return Some(Owner::Cpu { cpu: CpuId::new(0), kind: StackKind::Boot, hit });
    }
    if let Some(slot) = slots::slot_of(address) {
        return Some(of_slot(slot, slots::classify(address)?));
    }
    let within = |(start, bytes): (u64, u64)| (start..start + bytes).contains(&address);
    if boot::image_range().contains(&address) {
        Some(Owner::Image)
    } else if within(heap::RANGE) {
        translate(address).map(|_| Owner::Heap)
    } else if within((DEVICES, DEVICES_BYTES)) {
        translate(address).map(|_| Owner::Devices)
    } else {
        translate(address).map(|_| Owner::Memory)
    }
}

fn of_slot(slot: SlotId, hit: Hit) -> Owner {
    if hit.region == Region::Empty {
        return Owner::Vacant(hit);
    }
    match (slot.kind(), slot.stack_kind()) {
        (Kind::Stack | Kind::Lent | Kind::OnLoan | Kind::View, (StackKind::Thread, _)) => {
            // An object stands for one thread after the other: read again until it is the same one as before.
            let mut last = None;
            loop {
                let now = slot.owner().map(|thread| (thread.number(), thread.name()));
                if now == last {
                    return now.map_or(Owner::SpareStack(hit), |(number, name)| Owner::Thread { number, name, hit });
                }
                last = now;
            }
        }
        (Kind::Stack, (kind, cpu)) => Owner::Cpu { cpu, kind, hit },
        _ => Owner::Mapping(hit),
    }
}

/// The physical address behind an address of the kernel's half, whatever the size of its page; `None` if nothing is mapped
/// there. Takes no lock; what is mapped or unmapped meanwhile may or may not be seen.
///
/// ```no_run
/// let word = Box::new(7);
/// assert!(kernel::mem::translate(&raw const *word as u64).is_some());
/// assert_eq!(kernel::mem::translate(0), None);
/// ```
#[must_use]
pub fn translate(address: u64) -> Option<PhysAddr> {
    paging::walk(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_stack_and_its_cpu_come_back_from_a_slot() {
        let slot = slots::allocate(1, 1).unwrap();
        for (kind, cpu) in StackKind::ALL.into_iter().zip(57..) {
            slot.set_stack_kind(kind, CpuId::new(cpu));
            assert_eq!(slot.stack_kind(), (kind, CpuId::new(cpu)));
        }
        slots::free(slot);
        let again = slots::allocate(1, 1).unwrap();
        assert_eq!(again.stack_kind().0, StackKind::Thread, "a slot starts as a thread's");
        slots::free(again);
    }

    #[test]
    fn an_owner_is_told_with_guard_and_distance() {
        let hit = |region| Hit { start: 0x1000, end: 0x2000, region };
        let of = |kind, region| Owner::Cpu { cpu: CpuId::new(3), kind, hit: hit(region) }.to_string();
        let front = Region::Guard(Guard::Front, 1);
        assert_eq!(of(StackKind::Nmi, front), "in the front guard of the NMI stack of CPU 3, 1 bytes below it");
        assert_eq!(of(StackKind::Idle, Region::Mapped), "in the idle stack of CPU 3");
        let thread = Owner::Thread { number: 70, name: Name::new("x"), hit: hit(Region::Guard(Guard::Rear, 9)) };
        assert_eq!(thread.to_string(), "in the rear guard of the stack of thread 'x'#70, 9 bytes above it");
    }
}
