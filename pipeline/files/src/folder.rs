//! A folder that is filled under a hidden name.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::FileError;
use crate::durable::sync_folder;

/// What stands before the name of a folder that is not finished.
const HIDDEN: &str = ".";

/// A folder that is filled under the name `.NAME` and becomes `NAME` when it is finished.
///
/// The caller writes and syncs the files in it. Dropped before [`finish`](Self::finish) it is removed with
/// all its content. What a killed process leaves is replaced by the next writer of the same folder, and
/// recognised by [`final_name`](Self::final_name).
#[derive(Debug)]
pub struct PartialFolder {
    hidden: PathBuf,
    path: PathBuf,
    is_finished: bool,
}

impl PartialFolder {
    /// Creates the folder `path`, and its parents, under its hidden name.
    ///
    /// # Errors
    /// When it cannot be created, or what a killed process left cannot be removed.
    pub fn create(path: &Path) -> Result<Self, FileError> {
        let mut name = OsString::from(HIDDEN);
        name.push(path.file_name().unwrap_or_default());
        let hidden = path.with_file_name(name);
        if hidden.exists() {
            fs::remove_dir_all(&hidden).map_err(FileError::new(&hidden, "remove"))?;
        }
        fs::create_dir_all(&hidden).map_err(FileError::new(&hidden, "create"))?;
        Ok(Self { hidden, path: path.to_owned(), is_finished: false })
    }

    /// The folder while it is not finished.
    #[must_use]
    pub fn hidden_path(&self) -> &Path {
        &self.hidden
    }

    /// Syncs the folder, renames it to its final name and syncs its parent.
    ///
    /// # Errors
    /// When the file system refuses a step, or there is a folder of the final name that is not empty.
    pub fn finish(mut self) -> Result<(), FileError> {
        File::open(&self.hidden)
            .and_then(|folder| folder.sync_all())
            .map_err(FileError::new(&self.hidden, "flush to the disk"))?;
        fs::rename(&self.hidden, &self.path).map_err(FileError::new(&self.path, "rename into"))?;
        self.is_finished = true;
        sync_folder(&self.path).map_err(FileError::new(&self.path, "flush to the disk"))
    }

    /// The final name of the folder `name` if it is not finished: `step-1` for `.step-1`.
    #[must_use]
    pub fn final_name(name: &str) -> Option<&str> {
        name.strip_prefix(HIDDEN)
    }
}

impl Drop for PartialFolder {
    fn drop(&mut self) {
        if !self.is_finished {
            // A leftover is harmless: the next writer of this folder replaces it.
            let _ = fs::remove_dir_all(&self.hidden);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::names;

    #[test]
    fn a_folder_has_its_name_only_when_it_is_finished() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("step-1");
        // What a killed process left.
        fs::create_dir(parent.path().join(".step-1")).unwrap();
        fs::write(parent.path().join(".step-1/old"), b"half").unwrap();
        let folder = PartialFolder::create(&path).unwrap();
        fs::write(folder.hidden_path().join("state"), b"new").unwrap();
        assert_eq!(names(parent.path()), [".step-1"]);
        folder.finish().unwrap();
        assert_eq!(names(parent.path()), ["step-1"]);
        assert_eq!(names(&path), ["state"]);
        assert_eq!(
            (PartialFolder::final_name(".step-1"), PartialFolder::final_name("x")),
            (Some("step-1"), None)
        );
    }

    #[test]
    fn a_folder_that_is_not_finished_is_removed_and_never_replaces_another() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("step-1");
        drop(PartialFolder::create(&path).unwrap());
        assert!(names(parent.path()).is_empty());
        fs::create_dir(&path).unwrap();
        fs::write(path.join("state"), b"old").unwrap();
        let error = PartialFolder::create(&path).unwrap().finish().unwrap_err();
        assert_eq!((error.path.as_path(), error.action), (path.as_path(), "rename into"));
        assert_eq!((names(parent.path()), names(&path)), (vec!["step-1".into()], vec!["state".into()]));
    }
}
