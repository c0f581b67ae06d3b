//! Files that users name.

use std::fs::{self, File, FileType};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// Opens a regular file. To open a FIFO would wait for a writer, and a device may have no end.
///
/// # Errors
/// When there is no such file, or it is of another kind, which the error names.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let kind = fs::metadata(path)?.file_type();
    if !kind.is_file() {
        let reason = format!("it is {}, expected a regular file", kind_of(kind));
        return Err(io::Error::new(ErrorKind::InvalidInput, reason));
    }
    File::open(path)
}

/// The bytes of a regular file.
///
/// # Errors
/// As [`open_regular`], or when it cannot be read.
pub fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text in a regular file.
///
/// # Errors
/// As [`read_regular`], or when it is not UTF-8.
pub fn read_regular_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open_regular(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// What something that is no regular file is.
#[must_use]
pub fn kind_of(kind: FileType) -> &'static str {
    match () {
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () if kind.is_block_device() => "a block device",
        () => "a character device",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_regular_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let error = |path: &Path| read_regular(path).unwrap_err().to_string();
        let _socket = UnixListener::bind(folder.path().join("socket")).unwrap();
        assert_eq!(error(folder.path()), "it is a folder, expected a regular file");
        assert_eq!(error(&folder.path().join("socket")), "it is a socket, expected a regular file");
        assert_eq!(error(Path::new("/dev/zero")), "it is a character device, expected a regular file");
        fs::write(folder.path().join("file"), "text").unwrap();
        assert_eq!(read_regular(&folder.path().join("file")).unwrap(), b"text");
        assert_eq!(read_regular_text(&folder.path().join("file")).unwrap(), "text");
    }
}
