//! The file into which a run's trace goes.

use crate::error::{Context, Result};
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// The trace's file: made when the first event comes, so that a run without any leaves what an earlier one left.
#[derive(Debug)]
pub struct TraceFile {
    path: PathBuf,
    out: Option<Result<BufWriter<tempfile::NamedTempFile>>>,
    /// What came before the first event.
    head: Vec<u8>,
    /// An event has come.
    events: bool,
}

impl TraceFile {
    /// A file that will be at `path`.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path, out: None, head: Vec::new(), events: false }
    }

    /// Takes the next bytes.
    pub fn take(&mut self, bytes: &[u8]) {
        self.head.extend_from_slice(bytes);
        // The hello alone is one frame: a trace has more.
        self.events |= self.head.iter().filter(|byte| **byte == 0).count() > 1;
        if !self.events {
            return;
        }
        let out = self.out.get_or_insert_with(|| {
            let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let made = fs::create_dir_all(folder).and_then(|()| tempfile::NamedTempFile::new_in(folder));
            Ok(BufWriter::new(made.context(format!("cannot write {}", self.path.display()))?))
        });
        if let Ok(file) = out
            && let Err(error) = file.write_all(&self.head)
        {
            *out = Err(error).context(format!("cannot write {}", self.path.display()));
        }
        self.head.clear();
    }

    /// Puts the file in its place, if there is one; its path.
    ///
    /// # Errors
    /// If it could not be written.
    pub fn finish(self) -> Result<Option<PathBuf>> {
        let Some(out) = self.out else { return Ok(None) };
        let what = format!("cannot write {}", self.path.display());
        let file = out?.into_inner().map_err(|error| error.into_error()).context(what.clone())?;
        let file = file.persist(&self.path).map_err(|error| error.error).context(what)?;
        // Temporary files are for their owner only; traces are not.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let _ = file.set_permissions(fs::Permissions::from_mode(0o644));
        }
        Ok(Some(self.path))
    }
}
