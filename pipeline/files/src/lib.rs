//! Files that are whole or absent, and locks that die with their holder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// What the name of a file has behind it while it is written; then comes the number of the process.
const TEMPORARY: &str = ".tmp-";

/// Writes `path` so that a reader, or a crash at any moment, sees the old content or the new one, never a part.
///
/// The bytes go to a hidden sibling that is synced and renamed over `path`; then the folder is synced. The sibling is
/// removed when anything fails. What is no regular file, as a pipe, is written to directly.
///
/// # Errors
/// Whatever the file system answers, a full disk among it; `path` is then as it was.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let path = &match fs::metadata(path) {
        // A device or a pipe cannot be replaced, only written to.
        Ok(there) if !there.is_file() && !there.is_dir() => {
            let mut out = BufWriter::new(OpenOptions::new().write(true).open(path)?);
            return write(&mut out).and_then(|()| out.flush());
        }
        // Behind a link lies the file that is meant.
        Ok(_) => path.canonicalize()?,
        Err(_) => path.to_owned(),
    };
    let temporary = hidden_sibling(path)?;
    let result = write_synced(&temporary, write).and_then(|()| fs::rename(&temporary, path));
    if result.is_err() {
        // The first error is the one worth telling.
        let _ = fs::remove_file(&temporary);
        return result;
    }
    sync_folder(path)
}

fn write_synced(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    write(&mut out)?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

fn hidden_sibling(path: &Path) -> io::Result<PathBuf> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?
        .to_string_lossy();
    Ok(path.with_file_name(format!(".{name}{TEMPORARY}{}", std::process::id())))
}

/// Removes what writers that were killed left in `folder`, where no other is at work.
///
/// # Errors
/// When the folder cannot be listed or a file not removed.
pub fn remove_temporary_files(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with('.') && name.contains(TEMPORARY)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Syncs the folder that holds `path`, so that a rename in it survives a power cut.
///
/// # Errors
/// When the folder cannot be opened or synced.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

/// The file's SHA-256 in hexadecimal.
///
/// # Errors
/// When the file cannot be read.
pub fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            got => hasher.update(&buffer[..got]),
        }
    }
    Ok(hexadecimal(&hasher.finalize()))
}

/// The bytes in hexadecimal, lower case.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An exclusive lock on a file, given back when dropped or when the process ends, however it ends.
#[derive(Debug)]
pub struct FileLock {
    // Held open for the lock that belongs to it.
    _file: File,
}

impl FileLock {
    /// Takes the lock, or `None` when another process, or another part of this one, holds it.
    ///
    /// # Errors
    /// When the file cannot be made or the file system knows no locks.
    pub fn try_acquire(path: &Path) -> io::Result<Option<Self>> {
        let file = open_lock_file(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Takes the lock, waiting for whoever holds it.
    ///
    /// # Errors
    /// As [`FileLock::try_acquire`].
    pub fn acquire(path: &Path) -> io::Result<Self> {
        let file = open_lock_file(path)?;
        file.lock()?;
        Ok(Self { _file: file })
    }
}

fn open_lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).open(path)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_failed_write_leaves_the_old_content_and_no_litter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        write_atomically(&path, |out| out.write_all(b"old")).unwrap();
        let failed = write_atomically(&path, |out| {
            out.write_all(b"half of the ne")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["state"]);
    }

    #[test]
    fn a_write_replaces_the_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        write_atomically(&path, |out| out.write_all(b"a long first content")).unwrap();
        write_atomically(&path, |out| out.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_and_its_file_is_replaced_and_a_device_is_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("state"), folder.path().join("link"));
        fs::write(&file, b"old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write_atomically(&link, |out| out.write_all(b"new")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
        // A link, so that a mistake would cost the link and not the device.
        let device = folder.path().join("full");
        std::os::unix::fs::symlink("/dev/full", &device).unwrap();
        let failed = write_atomically(&device, |out| out.write_all(b"new")).unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
        assert!(!fs::metadata(&device).unwrap().is_file());
    }

    #[test]
    fn what_killed_writers_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".state.tmp-17", "state", ".hidden", "x.tmp-1"] {
            fs::write(folder.path().join(name), b"").unwrap();
        }
        remove_temporary_files(folder.path()).unwrap();
        assert_eq!(names(folder.path()), [".hidden", "state", "x.tmp-1"]);
    }

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
}
