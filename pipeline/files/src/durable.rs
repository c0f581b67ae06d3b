//! What makes a rename durable.

use std::fs::File;
use std::io;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::FileError;

/// Syncs the file, renames it to `path` and syncs the folder. The temporary file is removed if that fails.
pub(crate) fn finish(file: NamedTempFile, temporary: &Path, path: &Path) -> Result<(), FileError> {
    file.as_file().sync_all().map_err(FileError::new(temporary, "flush to the disk"))?;
    file.persist(path).map_err(|error| FileError::new(path, "rename into")(error.error))?;
    sync_folder(path).map_err(FileError::new(folder_of(path), "flush to the disk"))
}

/// Syncs the folder that holds `path`, so that a rename in it survives a power failure.
///
/// # Errors
/// When the folder cannot be opened or synced.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

/// The folder that holds `path`.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
