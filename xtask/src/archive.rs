//! The archive that the direct loader takes apart: a kernel and its modules in one file, since QEMU's `-initrd` is one. It is
//! cpio's format "newc"; `loader::archive` has its description.

use crate::error::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// A regular file that all may read, as modes have it.
const MODE: u32 = 0o100_644;

/// Makes the archive `out` of the kernel, as its first file, and its modules.
///
/// # Errors
/// If a file cannot be read, or the archive not be written.
pub fn make(kernel: &Path, modules: &[PathBuf], out: &Path) -> Result<()> {
    let mut archive = Vec::new();
    for path in [kernel].into_iter().chain(modules.iter().map(PathBuf::as_path)) {
        let bytes = fs::read(path).context(format!("cannot read {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let folder = if path == kernel { "/" } else { "/boot/" };
        add(&mut archive, &format!("{folder}{name}"), MODE, &bytes);
    }
    add(&mut archive, "TRAILER!!!", 0, &[]);
    fs::write(out, archive).context(format!("cannot write {}", out.display()))
}

/// Adds an entry: a header, the name, the bytes, each padded to a multiple of 4.
fn add(archive: &mut Vec<u8>, name: &str, mode: u32, bytes: &[u8]) {
    // inode, mode, user, group, links, time, size, device (4 times), length of the name, checksum.
    let numbers = [0, mode, 0, 0, 1, 0, bytes.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
    archive.extend(b"070701");
    numbers.iter().for_each(|number| archive.extend(format!("{number:08x}").bytes()));
    archive.extend(name.bytes().chain([0]));
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(bytes);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_laid_out_as_cpio_has_it() {
        let mut archive = Vec::new();
        add(&mut archive, "/kernel", MODE, b"12345");
        let header =
            "070701000000000000".to_owned() + "81a4" + &"0".repeat(8 * 2) + "00000001" + "00000000" + "00000005";
        let header = header + &"0".repeat(8 * 4) + "00000008" + "00000000";
        assert_eq!(header.len(), 110);
        assert_eq!(archive, [header.as_bytes(), b"/kernel\0", b"\0\0", b"12345", b"\0\0\0"].concat());
    }
}
