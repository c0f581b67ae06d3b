//! The small files of a preparation.

use std::io::{self, Write};
use std::path::Path;

use fovea_files::{PartialFile, read_regular, unseal};
use serde::de::DeserializeOwned;

use super::PrepareError;

/// Writes a file that is either complete or absent, whenever the process is killed.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), PrepareError> {
    let mut file = PartialFile::create(path)?;
    let written = file.write_all(content);
    written.map_err(PrepareError::io(file.temporary_path(), "write"))?;
    Ok(file.finish()?)
}

/// Reads a JSON file and compares it with the hash in it, or returns `None` if there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, PrepareError> {
    match read_regular(path) {
        Ok(text) => unseal(&text)
            .map(Some)
            .map_err(|error| PrepareError::Unreadable { path: path.into(), reason: error.to_string() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PrepareError::io(path, "read")(error)),
    }
}
