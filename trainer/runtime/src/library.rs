//! Checks a shared library before it is loaded: the dynamic linker crashes on a truncated one, and `ort`
//! panics on one that is not ONNX Runtime.

use std::env::consts;
use std::error::Error;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use fovea_files::kind_of;

use super::{OLDEST_MINOR, RuntimeError};

const ELF_HEADER_BYTES: usize = 64;
const LOADABLE: u32 = 1;

/// Checks that the library at `path` is a usable ONNX Runtime, and returns its minor version.
///
/// # Errors
/// A variant of [`RuntimeError`] for each thing that can be wrong with the file.
pub fn check_library(path: &Path) -> Result<u32, RuntimeError> {
    check_file(path)?;
    // `probe` hides the linker's error, so load the library first.
    load(path).map_err(|reason| RuntimeError::CannotLoad { path: path.to_owned(), reason })?;
    match ort::util::probe(path) {
        None => Err(RuntimeError::NotOnnxRuntime { path: path.to_owned() }),
        Some(found) if found < OLDEST_MINOR => {
            Err(RuntimeError::TooOld { path: path.to_owned(), found, oldest: OLDEST_MINOR })
        }
        Some(found) => Ok(found),
    }
}

/// Loads a shared library for the rest of the process; the error is that of the dynamic linker.
pub(super) fn load(path: &Path) -> Result<(), String> {
    ort::util::preload_dylib(path).map_err(|error| innermost(&error))
}

/// The message of the dynamic linker itself.
pub(super) fn innermost(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// Checks what can be checked without loading: that the file exists, and on Linux that it is a complete
/// shared object for this processor.
pub(super) fn check_file(path: &Path) -> Result<(), RuntimeError> {
    let missing = |reason| RuntimeError::Missing { path: path.to_owned(), reason };
    let data = fs::metadata(path).map_err(missing)?;
    let refuse = |found: String| Err(RuntimeError::NotALibrary { path: path.to_owned(), found });
    if !data.is_file() {
        return refuse(format!("it is {}", kind_of(data.file_type())));
    }
    if consts::OS != "linux" {
        return Ok(());
    }
    let mut head = Vec::new();
    // Program headers follow the file header at once in every linker's output.
    File::open(path).and_then(|file| file.take(64 << 10).read_to_end(&mut head)).map_err(missing)?;
    match elf_fault(&head, data.len()) {
        Some(fault) => refuse(fault),
        None => Ok(()),
    }
}

/// Why this file is not a 64-bit ELF shared object for this machine, or `None` if it is one. `head` is its
/// beginning.
fn elf_fault(head: &[u8], file_bytes: u64) -> Option<String> {
    if !head.starts_with(b"\x7fELF") {
        return Some("it is not in the ELF format".to_owned());
    }
    if head.len() < ELF_HEADER_BYTES || head[4] != 2 || head[5] != 1 {
        return Some("it is not a complete 64-bit little-endian ELF file".to_owned());
    }
    let machine = match u16_at(head, 18)? {
        62 => "x86_64",
        183 => "aarch64",
        _ => "another processor",
    };
    if machine != consts::ARCH {
        return Some(format!("it is built for {machine}, and this machine is {}", consts::ARCH));
    }
    let (table, entry_bytes, entries) = (u64_at(head, 32)?, u16_at(head, 54)?, u16_at(head, 56)?);
    for index in 0..u64::from(entries) {
        let start = usize::try_from(table.saturating_add(index * u64::from(entry_bytes))).ok()?;
        let Some(entry) = head.get(start..).filter(|entry| entry.len() >= 56) else {
            return Some("its program headers are cut off".to_owned());
        };
        let end = u64_at(entry, 8)?.saturating_add(u64_at(entry, 32)?);
        if u32_at(entry, 0)? == LOADABLE && end > file_bytes {
            return Some(truncated(file_bytes, end));
        }
    }
    // The section table comes last: if it is missing, the file was cut, even if not in a loadable part.
    let end = u64_at(head, 40)?.saturating_add(u64::from(u16_at(head, 58)?) * u64::from(u16_at(head, 60)?));
    (end > file_bytes).then(|| truncated(file_bytes, end))
}

fn truncated(file_bytes: u64, end: u64) -> String {
    format!("it is truncated: it has {file_bytes} bytes and needs {end}")
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(all(test, target_os = "linux"))]
pub(super) mod tests {
    use super::*;
    use crate::testing::compiled;

    fn refusal(content: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libonnxruntime.so");
        fs::write(&path, content).unwrap();
        let error = check_library(&path).unwrap_err();
        assert!(matches!(error, RuntimeError::NotALibrary { .. }), "{error}");
        error.to_string()
    }

    #[test]
    fn a_text_file_is_refused() {
        assert!(refusal(b"not a library at all").contains("not in the ELF format"));
        assert!(refusal(b"").contains("not in the ELF format"));
    }

    #[test]
    fn a_library_for_another_processor_is_refused() {
        let mut head = fs::read("/proc/self/exe").unwrap();
        head[18] = 243;
        assert!(refusal(&head).contains("another processor"));
    }

    #[test]
    fn a_truncated_library_is_refused_at_any_length() {
        let folder = tempfile::tempdir().unwrap();
        let whole = fs::read(compiled(folder.path(), "pub fn nothing() {}")).unwrap();
        for length in [4, 63, 64, 500, 4096, whole.len() / 2, whole.len() - 1] {
            refusal(&whole[..length]);
        }
    }

    #[test]
    fn a_truncated_library_without_a_table_of_sections_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut whole = fs::read(compiled(folder.path(), "pub fn nothing() {}")).unwrap();
        for at in [40..48, 58..62] {
            whole[at].fill(0);
        }
        assert!(refusal(&whole[..4096]).contains("it is truncated: it has 4096 bytes"));
    }

    #[test]
    fn a_library_without_the_api_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = compiled(folder.path(), "#[unsafe(no_mangle)] pub extern \"C\" fn something() {}");
        let error = check_library(&path).unwrap_err();
        assert!(matches!(error, RuntimeError::NotOnnxRuntime { .. }), "{error}");
    }

    #[test]
    fn a_library_that_is_too_old_is_refused_with_both_versions() {
        let folder = tempfile::tempdir().unwrap();
        let path = compiled(
            folder.path(),
            r#"
            #[repr(C)] pub struct Base { api: extern "C" fn(u32) -> usize, version: extern "C" fn() -> *const u8 }
            extern "C" fn api(_: u32) -> usize { 0 }
            extern "C" fn version() -> *const u8 { c"1.17.3".as_ptr().cast() }
            static BASE: Base = Base { api, version };
            #[unsafe(no_mangle)] pub extern "C" fn OrtGetApiBase() -> *const Base { &raw const BASE }
            "#,
        );
        let error = check_library(&path).unwrap_err();
        assert!(matches!(error, RuntimeError::TooOld { found: 17, oldest: OLDEST_MINOR, .. }), "{error}");
    }
}
