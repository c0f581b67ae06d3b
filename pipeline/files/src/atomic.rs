//! Files that are replaced as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

use crate::durable::{finish, folder_of};

/// In the name of a temporary file, between the name of the file and random letters; earlier versions wrote
/// the id of the process there.
const TEMPORARY: &str = ".tmp-";

/// Writes `path` so that a reader, or a crash at any moment, sees the old content or the new one, never a
/// part.
///
/// The bytes go to a hidden sibling that is synced and renamed over `path`; then the folder is synced. The
/// sibling is removed when anything fails. A link stays, and the file behind it is replaced. A pipe or a
/// device is written to directly.
///
/// # Errors
/// What the file system reports, a full disk for instance; `path` is then as it was before.
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
        // A link stays; the file it points to is replaced.
        Ok(_) => path.canonicalize()?,
        Err(_) => path.to_owned(),
    };
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?
        .to_string_lossy();
    let mut builder = Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As for any new file; by default only the owner could read it.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let temporary = builder.prefix(&format!(".{name}{TEMPORARY}")).tempfile_in(folder_of(path))?;
    let temporary_path = temporary.path().to_owned();
    let (file, name) = temporary.into_parts();
    let mut out = BufWriter::new(file);
    write(&mut out)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    finish(NamedTempFile::from_parts(file, name), &temporary_path, path).map_err(|error| error.source)
}

/// Removes the temporary files that killed processes left in `folder`. No other process may be writing there.
///
/// # Errors
/// When the folder cannot be listed or a file cannot be removed.
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::test_support::names;

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

    #[cfg(unix)]
    #[test]
    fn others_may_read_what_the_umask_lets_them_read() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (usual, path) = (folder.path().join("usual"), folder.path().join("state"));
        fs::write(&usual, b"").unwrap();
        write_atomically(&path, |out| out.write_all(b"new")).unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&usual));
    }

    #[test]
    fn while_a_file_is_written_its_name_is_one_that_is_removed_later() {
        let folder = tempfile::tempdir().unwrap();
        write_atomically(&folder.path().join("state"), |out| {
            let seen = names(folder.path());
            assert!(seen.len() == 1 && seen[0].starts_with(".state.tmp-"), "{seen:?}");
            out.write_all(b"new")
        })
        .unwrap();
        assert_eq!(names(folder.path()), ["state"]);
    }

    #[test]
    fn what_killed_writers_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".state.tmp-17", ".state.tmp-xYz3qW", "state", ".hidden", "x.tmp-1"] {
            fs::write(folder.path().join(name), b"").unwrap();
        }
        remove_temporary_files(folder.path()).unwrap();
        assert_eq!(names(folder.path()), [".hidden", "state", "x.tmp-1"]);
    }
}
