//! Formats of compressed files and archives that are not read, known by their first bytes.

use std::path::Path;

use crate::SourceError;

/// The first bytes of gzip data.
pub(crate) const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A format: its first bytes, its name, and the command that undoes it, without the file's name.
struct Format {
    magic: &'static [u8],
    name: &'static str,
    command: &'static str,
}

const FORMATS: [Format; 13] = [
    Format { magic: &GZIP_MAGIC, name: "gzip data", command: "gzip -dk" },
    Format { magic: b"\xfd7zXZ\0", name: "xz data", command: "xz -dk" },
    Format { magic: b"BZh", name: "bzip2 data", command: "bzip2 -dk" },
    Format { magic: b"\x28\xb5\x2f\xfd", name: "zstd data", command: "zstd -d" },
    Format { magic: b"\x04\x22\x4d\x18", name: "lz4 data", command: "lz4 -d" },
    Format { magic: b"LZIP", name: "lzip data", command: "lzip -dk" },
    Format { magic: b"\x5d\0\0", name: "lzma data", command: "xz -dk --format=lzma" },
    Format { magic: b"\x89LZO\0", name: "lzop data", command: "lzop -d" },
    Format { magic: b"\x1f\x9d", name: "data of compress", command: "gzip -dk" },
    Format { magic: b"7z\xbc\xaf\x27\x1c", name: "a 7z archive", command: "7z x" },
    Format { magic: b"Rar!\x1a\x07", name: "a rar archive", command: "unrar x" },
    Format { magic: b"PK\x03\x04", name: "a zip archive", command: "unzip" },
    Format { magic: b"PK\x05\x06", name: "an empty zip archive", command: "unzip" },
];

/// File names of archives that are compressed, in lower case.
const SUFFIXES: [&str; 22] = [
    ".tar.gz",
    ".tgz",
    ".tar.xz",
    ".txz",
    ".tar.bz2",
    ".tbz2",
    ".tbz",
    ".tb2",
    ".tar.zst",
    ".tzst",
    ".tar.lz4",
    ".tar.lz",
    ".tar.lzma",
    ".tlz",
    ".tar.lzo",
    ".tar.z",
    ".taz",
    ".zip",
    ".7z",
    ".rar",
    ".tar.br",
    ".tar.zstd",
];

fn format_of(start: &[u8]) -> Option<&'static Format> {
    FORMATS.iter().find(|format| start.starts_with(format.magic))
}

/// The name of the compressed format that begins with `start`.
pub(crate) fn name_of(start: &[u8]) -> Option<&'static str> {
    format_of(start).map(|format| format.name)
}

/// A file name without the ending of a compressed archive; `None` if it has none.
pub(crate) fn strip_suffix(name: &str) -> Option<&str> {
    SUFFIXES.iter().find_map(|suffix| strip_ignoring_case(name, suffix))
}

/// `name` without `suffix`, which is in lower case; what is before it is not empty.
pub(crate) fn strip_ignoring_case<'n>(name: &'n str, suffix: &str) -> Option<&'n str> {
    let at = name.len().checked_sub(suffix.len())?;
    let (stem, end) = name.split_at_checked(at)?;
    (!stem.is_empty() && end.eq_ignore_ascii_case(suffix)).then_some(stem)
}

/// The error for a file that begins with `start`, if it is compressed in a way that is not read.
pub(crate) fn refuse(path: &Path, start: &[u8]) -> Result<(), SourceError> {
    match format_of(start) {
        Some(format) if format.magic != GZIP_MAGIC => Err(SourceError::Compressed {
            path: path.to_owned(),
            found: format.name,
            command: format.command,
        }),
        _ => Ok(()),
    }
}
