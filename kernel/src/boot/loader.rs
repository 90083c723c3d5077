//! The boot loader's answers, by the Limine protocol (base revision 2, the highest that Limine 8 knows).

use core::ffi::CStr;
use limine::BaseRevision;
use limine::firmware_type::FirmwareType;
use limine::memory_map::{Entry, EntryType};
use limine::mp::{Cpu, RequestFlags};
use limine::request::{
    BootloaderInfoRequest, ExecutableAddressRequest, ExecutableCmdlineRequest, ExecutableFileRequest,
    FirmwareTypeRequest, HhdmRequest, MemoryMapRequest, ModuleRequest, MpRequest,
};
use wire::record::Firmware;

macro_rules! request {
    ($($name:ident: $type:ty = $value:expr;)+) => {$(
        #[used]
        #[cfg_attr(target_os = "none", unsafe(link_section = ".requests"))]
        static $name: $type = $value;
    )+};
}
request! {
    BASE_REVISION: BaseRevision = BaseRevision::with_revision(2);
    BOOTLOADER: BootloaderInfoRequest = BootloaderInfoRequest::new();
    FIRMWARE: FirmwareTypeRequest = FirmwareTypeRequest::new();
    HHDM: HhdmRequest = HhdmRequest::new();
    MEMORY_MAP: MemoryMapRequest = MemoryMapRequest::new();
    MP: MpRequest = MpRequest::new().with_flags(RequestFlags::X2APIC);
    CMDLINE: ExecutableCmdlineRequest = ExecutableCmdlineRequest::new();
    FILE: ExecutableFileRequest = ExecutableFileRequest::new();
    ADDRESS: ExecutableAddressRequest = ExecutableAddressRequest::new();
    MODULES: ModuleRequest = ModuleRequest::new();
}

/// What the boot loader says.
pub(super) struct Answers {
    /// Name and version.
    pub(super) bootloader: (&'static str, &'static str),
    pub(super) firmware: Firmware,
    pub(super) cmdline: &'static str,
    /// Where physical address 0 is mapped.
    pub(super) hhdm: u64,
    pub(super) physical_base: u64,
    pub(super) virtual_base: u64,
    pub(super) cpus: &'static [&'static Cpu],
    map: &'static [&'static Entry],
}

/// Reads the answers.
///
/// # Errors
/// What is missing.
pub(super) fn answers() -> Result<Answers, &'static str> {
    if !BASE_REVISION.is_supported() {
        return Err("it does not know base revision 2 of the Limine protocol");
    }
    let address = ADDRESS.get_response().ok_or("it does not say where the kernel is")?;
    Ok(Answers {
        bootloader: BOOTLOADER.get_response().map_or(("an unnamed boot loader", ""), |b| (b.name(), b.version())),
        firmware: firmware(),
        cmdline: cmdline()?,
        hhdm: HHDM.get_response().ok_or("it does not say where memory is mapped")?.offset(),
        physical_base: address.physical_base(),
        virtual_base: address.virtual_base(),
        cpus: MP.get_response().ok_or("it does not list the CPUs")?.cpus(),
        map: MEMORY_MAP.get_response().ok_or("it gives no memory map")?.entries(),
    })
}

/// The modules: path and place of each, at an address at which the kernel maps them too, read-only.
pub(super) fn modules() -> impl Iterator<Item = (&'static str, u64, u64)> + Clone {
    let modules = MODULES.get_response().map_or([].as_slice(), limine::response::ModuleResponse::modules);
    modules.iter().map(|file| (file.path().to_str().unwrap_or("?"), file.addr() as u64, file.size()))
}

fn firmware() -> Firmware {
    match FIRMWARE.get_response().map(limine::response::FirmwareTypeResponse::firmware_type) {
        Some(FirmwareType::X86_BIOS) => Firmware::Bios,
        Some(FirmwareType::UEFI_64 | FirmwareType::UEFI_32) => Firmware::Uefi,
        _ => Firmware::Unknown,
    }
}

/// Limine 8 gives the command line with the kernel file, later versions by a request of its own.
fn cmdline() -> Result<&'static str, &'static str> {
    let line: &'static CStr = match (CMDLINE.get_response(), FILE.get_response()) {
        (Some(answer), _) => answer.cmdline(),
        (None, Some(answer)) => answer.file().string(),
        (None, None) => c"",
    };
    line.to_str().map_err(|_| "the command line is not UTF-8")
}

impl Answers {
    /// Memory that nobody uses: start and length, in bytes.
    pub(super) fn usable(&self) -> impl Iterator<Item = (u64, u64)> + Clone {
        self.of([EntryType::USABLE; 3])
    }

    /// Memory in use: the image and modules, and what the boot loader and the firmware left.
    pub(super) fn kept(&self) -> impl Iterator<Item = (u64, u64)> + Clone {
        self.of([EntryType::BOOTLOADER_RECLAIMABLE, EntryType::ACPI_RECLAIMABLE, EntryType::EXECUTABLE_AND_MODULES])
    }

    /// Memory that the kernel maps: all but the image's own, and what is no memory.
    pub(super) fn mapped(&self) -> impl Iterator<Item = (u64, u64)> + Clone {
        self.of([EntryType::USABLE, EntryType::BOOTLOADER_RECLAIMABLE, EntryType::ACPI_RECLAIMABLE])
    }

    /// Entries of these types, cut to whole pages.
    fn of(&self, types: [EntryType; 3]) -> impl Iterator<Item = (u64, u64)> + Clone {
        let map = self.map;
        map.iter().filter(move |entry| types.contains(&entry.entry_type)).filter_map(|entry| {
            let start = entry.base.next_multiple_of(crate::mem::PAGE_SIZE);
            let end = (entry.base + entry.length) & !(crate::mem::PAGE_SIZE - 1);
            (start < end).then(|| (start, end - start))
        })
    }
}

/// Name and version with a blank between, cut to the buffer.
pub(super) fn joined<'b>((name, version): (&str, &str), buffer: &'b mut [u8]) -> &'b str {
    let mut used = 0;
    for byte in name.bytes().chain(*b" ").chain(version.bytes()).filter(u8::is_ascii) {
        if used < buffer.len() {
            buffer[used] = byte;
            used += 1;
        }
    }
    core::str::from_utf8(&buffer[..used]).unwrap_or("").trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_version_are_joined_and_cut() {
        assert_eq!(joined(("Limine", "8.2.0"), &mut [0; 48]), "Limine 8.2.0");
        assert_eq!(joined(("Limine", ""), &mut [0; 48]), "Limine");
        assert_eq!(joined(("Limine", "8.2.0"), &mut [0; 9]), "Limine 8.");
    }
}
