//! Locks that die with their holder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::FileError;

/// A lock on a file or folder, exclusive unless it is said to be shared, released when dropped or when the
/// process ends, however it ends.
#[derive(Debug)]
pub struct FileLock {
    // Held open for the lock that belongs to it.
    file: File,
}

impl FileLock {
    /// Takes the lock, or returns `None` when another process, or another part of this one, holds it.
    ///
    /// # Errors
    /// When the file cannot be created or the file system has no locks.
    pub fn try_acquire(path: &Path) -> io::Result<Option<Self>> {
        Self::try_lock(open_lock_file(path)?)
    }

    /// Takes the lock together with all others that take it so, or returns `None` when somebody has it alone.
    ///
    /// # Errors
    /// As [`try_acquire`](Self::try_acquire).
    pub fn try_acquire_shared(path: &Path) -> io::Result<Option<Self>> {
        let file = open_lock_file(path)?;
        let locked = file.try_lock_shared();
        Self::locked(file, locked)
    }

    /// Takes a lock on the folder itself, which leaves no lock file behind; `None` as for
    /// [`try_acquire`](Self::try_acquire).
    ///
    /// # Errors
    /// When the folder cannot be opened or the file system has no locks.
    pub fn try_acquire_folder(path: &Path) -> Result<Option<Self>, FileError> {
        let folder = File::open(path).map_err(FileError::new(path, "open"))?;
        Self::try_lock(folder).map_err(FileError::new(path, "lock"))
    }

    /// Whether its file is still at `path`, and was neither removed nor moved.
    #[must_use]
    pub fn is_at(&self, path: &Path) -> bool {
        path.exists() && self.file.metadata().is_ok_and(|data| data.nlink() > 0)
    }

    fn try_lock(file: File) -> io::Result<Option<Self>> {
        let locked = file.try_lock();
        Self::locked(file, locked)
    }

    fn locked(file: File, locked: Result<(), TryLockError>) -> io::Result<Option<Self>> {
        match locked {
            Ok(()) => Ok(Some(Self { file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Takes the lock, waiting until its holder gives it back.
    ///
    /// # Errors
    /// As [`FileLock::try_acquire`].
    pub fn acquire(path: &Path) -> io::Result<Self> {
        let file = open_lock_file(path)?;
        file.lock()?;
        Ok(Self { file })
    }
}

fn open_lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::names;

    #[test]
    fn a_lock_is_refused_while_held_and_free_again_after() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = FileLock::try_acquire(&path).unwrap();
        assert!(held.is_some());
        assert!(FileLock::try_acquire(&path).unwrap().is_none());
        drop(held);
        assert!(FileLock::try_acquire(&path).unwrap().is_some());
    }

    #[test]
    fn a_lock_whose_file_was_removed_moved_or_replaced_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = FileLock::try_acquire(&path).unwrap().unwrap();
        assert!(lock.is_at(&path));
        std::fs::rename(&path, folder.path().join("other")).unwrap();
        assert!(!lock.is_at(&path));
        std::fs::rename(folder.path().join("other"), &path).unwrap();
        assert!(lock.is_at(&path));
        std::fs::remove_file(&path).unwrap();
        assert!(!lock.is_at(&path));
        let _another = FileLock::try_acquire(&path).unwrap().unwrap();
        assert!(!lock.is_at(&path));
    }

    #[test]
    fn a_shared_lock_keeps_out_who_wants_it_alone_and_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let one = FileLock::try_acquire_shared(&path).unwrap();
        let other = FileLock::try_acquire_shared(&path).unwrap();
        assert!(one.is_some() && other.is_some());
        assert!(FileLock::try_acquire(&path).unwrap().is_none());
        drop(one);
        assert!(FileLock::try_acquire(&path).unwrap().is_none());
        drop(other);
        let alone = FileLock::try_acquire(&path).unwrap();
        assert!(alone.is_some() && FileLock::try_acquire_shared(&path).unwrap().is_none());
    }

    #[test]
    fn a_folder_is_locked_without_a_file_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let held = FileLock::try_acquire_folder(folder.path()).unwrap();
        assert!(held.is_some() && names(folder.path()).is_empty());
        assert!(FileLock::try_acquire_folder(folder.path()).unwrap().is_none());
        drop(held);
        assert!(FileLock::try_acquire_folder(folder.path()).unwrap().is_some());
        let error = FileLock::try_acquire_folder(&folder.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("none: cannot open: "), "{error}");
    }
}
