//! Formats of compressed files and archives that are not read, known by their first bytes.

use std::path::Path;

use Undone::{Stream, Unpacked};

use crate::SourceError;

/// The first bytes of gzip data.
pub(crate) const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A format: its first bytes, its name, and what undoes it.
struct Format {
    magic: &'static [u8],
    name: &'static str,
    undone: Undone,
}

/// How a compressed file is made one that is read, whatever its name ends with.
enum Undone {
    /// By this command from its input to its output.
    Stream(&'static str),
    /// By this command with the file's name, and what follows it.
    Unpacked(&'static str, &'static str),
}

const FORMATS: [Format; 13] = [
    Format { magic: &GZIP_MAGIC, name: "gzip data", undone: Stream("gzip -dc") },
    Format { magic: b"\xfd7zXZ\0", name: "xz data", undone: Stream("xz -dc") },
    Format { magic: b"BZh", name: "bzip2 data", undone: Stream("bzip2 -dc") },
    Format { magic: b"\x28\xb5\x2f\xfd", name: "zstd data", undone: Stream("zstd -dc") },
    Format { magic: b"\x04\x22\x4d\x18", name: "lz4 data", undone: Stream("lz4 -dc") },
    Format { magic: b"LZIP", name: "lzip data", undone: Stream("lzip -dc") },
    Format { magic: b"\x5d\0\0", name: "lzma data", undone: Stream("xz -dc --format=lzma") },
    Format { magic: b"\x89LZO\0", name: "lzop data", undone: Stream("lzop -dc") },
    Format { magic: b"\x1f\x9d", name: "data of compress", undone: Stream("gzip -dc") },
    Format { magic: b"7z\xbc\xaf\x27\x1c", name: "a 7z archive", undone: Unpacked("7z x -oNEW", "") },
    Format { magic: b"Rar!\x1a\x07", name: "a rar archive", undone: Unpacked("unrar x", " NEW/") },
    Format { magic: b"PK\x03\x04", name: "a zip archive", undone: Unpacked("unzip", " -d NEW") },
    Format { magic: b"PK\x05\x06", name: "an empty zip archive", undone: Unpacked("unzip", " -d NEW") },
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

/// The error for a file that begins with `start`, if it is compressed in a way that is not read; a file in
/// gzip's format `is_inflated` when it is known what it holds.
pub(crate) fn refuse(path: &Path, start: &[u8], is_inflated: bool) -> Result<(), SourceError> {
    match format_of(start) {
        Some(format) if is_inflated || format.magic != GZIP_MAGIC => Err(SourceError::Compressed {
            path: path.to_owned(),
            found: format.name,
            command: format.undone.command(path, is_inflated),
        }),
        _ => Ok(()),
    }
}

impl Undone {
    /// What to type in a shell; `NEW` is the file or folder that it makes.
    fn command(&self, path: &Path, is_in_gzip: bool) -> String {
        let file = for_shell(&path.to_string_lossy());
        match self {
            Stream(undo) if is_in_gzip => format!("gzip -dc < {file} | {undo} > NEW"),
            Stream(undo) => format!("{undo} < {file} > NEW"),
            Unpacked(undo, to) if is_in_gzip => format!("gzip -dc < {file} > FILE && {undo} FILE{to}"),
            Unpacked(undo, to) => format!("{undo} {file}{to}"),
        }
    }
}

/// A name that a shell takes as one word.
fn for_shell(name: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    match name.chars().all(is_plain) {
        true => name.to_owned(),
        false => format!("'{}'", name.replace('\'', r"'\''")),
    }
}
