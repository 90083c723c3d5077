//! The file for results as JSON.

use crate::error::{Context, Error, Result};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The results' file: opened before the run, so that one that cannot be written is told before time is spent; replaced
/// as a whole at the end.
#[derive(Debug)]
pub struct JsonFile {
    path: PathBuf,
    new: tempfile::NamedTempFile,
}

impl JsonFile {
    /// Opens it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn open(path: &Path) -> Result<Self> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let what = format!("cannot write {}", path.display());
        if path.is_dir() {
            return Err(Error::CannotRun(format!("{what}: it is a folder")));
        }
        Ok(Self { path: path.to_owned(), new: tempfile::NamedTempFile::new_in(folder).context(what)? })
    }

    /// Replaces the file by these results.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(mut self, value: &serde_json::Value) -> Result<()> {
        let what = format!("cannot write {}", self.path.display());
        writeln!(self.new, "{value:#}").context(&what)?;
        let file = self.new.persist(&self.path).context(&what)?;
        // Temporary files are for their owner only; results are not.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let _ = file.set_permissions(fs::Permissions::from_mode(0o644));
        }
        Ok(())
    }
}
