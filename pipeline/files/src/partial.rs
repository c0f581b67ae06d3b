//! A file that is streamed to the disk under a temporary name.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempPath};

use crate::FileError;
use crate::durable::finish;

/// A file that grows under the name `NAME.partial` and becomes `NAME` when it is finished.
///
/// Dropped before [`finish`](Self::finish) it is removed. What a killed process leaves is overwritten by the
/// next writer of the same file, or removed by [`remove_partial_files`].
///
/// Writes are not buffered.
#[derive(Debug)]
pub struct PartialFile {
    file: NamedTempFile,
    temporary: PathBuf,
    path: PathBuf,
}

impl PartialFile {
    /// Ending of the temporary name.
    pub const SUFFIX: &str = ".partial";

    /// Creates `path` under its temporary name.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(path: &Path) -> Result<Self, FileError> {
        let mut name = OsString::from(path);
        name.push(Self::SUFFIX);
        let temporary = PathBuf::from(name);
        let create = || {
            let file = File::create(&temporary)?;
            Ok(NamedTempFile::from_parts(file, TempPath::try_from_path(&temporary)?))
        };
        let file = create().map_err(FileError::new(&temporary, "create"))?;
        Ok(Self { file, temporary, path: path.to_owned() })
    }

    /// The path while the file is not finished.
    #[must_use]
    pub fn temporary_path(&self) -> &Path {
        &self.temporary
    }

    /// The file, for writes at any place of it.
    #[must_use]
    pub fn file(&self) -> &File {
        self.file.as_file()
    }

    /// Syncs the file, renames it to its final name, replacing what is there, and syncs the folder.
    ///
    /// # Errors
    /// When the file system refuses a step. Up to the rename, the final name is then as it was before.
    pub fn finish(self) -> Result<(), FileError> {
        finish(self.file, &self.temporary, &self.path)
    }
}

impl Write for PartialFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.file.as_file_mut().write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_file_mut().flush()
    }
}

/// Removes every `*.partial` in `folder`. No other process may be writing there.
///
/// # Errors
/// When the folder cannot be listed or a file cannot be removed.
pub fn remove_partial_files(folder: &Path) -> Result<(), FileError> {
    let list = || fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>();
    for name in list().map_err(FileError::new(folder, "list"))? {
        if name.to_str().is_some_and(|name| name.ends_with(PartialFile::SUFFIX)) {
            let path = folder.join(name);
            fs::remove_file(&path).map_err(FileError::new(&path, "remove"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::names;

    #[test]
    fn a_file_has_its_name_only_when_it_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shard");
        fs::write(&path, b"old").unwrap();
        let mut file = PartialFile::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!(names(folder.path()), ["shard", "shard.partial"]);
        assert_eq!(file.temporary_path(), folder.path().join("shard.partial"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        file.finish().unwrap();
        assert_eq!(names(folder.path()), ["shard"]);
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_file_that_is_dropped_before_it_is_finished_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = PartialFile::create(&folder.path().join("shard")).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn what_a_killed_writer_left_of_the_same_file_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shard");
        fs::write(folder.path().join("shard.partial"), b"much longer than the new content").unwrap();
        let mut file = PartialFile::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_file_that_cannot_be_renamed_is_an_error_that_names_both_the_step_and_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shard");
        fs::create_dir(&path).unwrap();
        let error = PartialFile::create(&path).unwrap().finish().unwrap_err();
        assert_eq!((error.path.as_path(), error.action), (path.as_path(), "rename into"));
        assert_eq!(names(folder.path()), ["shard"]);
        let error = PartialFile::create(&folder.path().join("none/shard")).unwrap_err().to_string();
        assert!(error.contains("none/shard.partial: cannot create: "), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_what_the_umask_lets_them_read() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (usual, path) = (folder.path().join("usual"), folder.path().join("shard"));
        fs::write(&usual, b"").unwrap();
        PartialFile::create(&path).unwrap().finish().unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&usual));
    }

    #[test]
    fn partial_files_are_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.arrow.partial", "a.arrow", "dataset.json.partial", "partial"] {
            fs::write(folder.path().join(name), b"").unwrap();
        }
        remove_partial_files(folder.path()).unwrap();
        assert_eq!(names(folder.path()), ["a.arrow", "partial"]);
    }
}
