//! Files that are either complete or not there.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::PrepareError;

/// Ending of the names that files have while they are written.
pub(crate) const PARTIAL: &str = ".partial";

/// Writes `content` under a temporary name, brings it to the disk and gives it its name.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), PrepareError> {
    let mut name = OsString::from(path);
    name.push(PARTIAL);
    let temporary = PathBuf::from(name);
    let written = File::create(&temporary)
        .map_err(PrepareError::io(&temporary, "create"))
        .and_then(|mut file| {
            file.write_all(content)
                .and_then(|()| file.sync_all())
                .map_err(PrepareError::io(&temporary, "write"))
        })
        .and_then(|()| fs::rename(&temporary, path).map_err(PrepareError::io(path, "rename into")))
        .and_then(|()| sync_directory(path.parent().unwrap_or(Path::new("."))));
    if written.is_err() {
        // A leftover would be removed by the next run as well.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Reads a JSON file; none if it is not there.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, PrepareError> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| PrepareError::Unreadable { path: path.into(), reason: error.to_string() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PrepareError::io(path, "read")(error)),
    }
}

/// Makes what happened to the names in a directory survive a power failure.
fn sync_directory(directory: &Path) -> Result<(), PrepareError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(PrepareError::io(directory, "flush to the disk"))
}
