//! Hashes of files.

use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::open_regular;

/// The file's SHA-256 in hexadecimal.
///
/// # Errors
/// When the file cannot be read.
pub fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = open_regular(path)?;
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
#[must_use]
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_hash_is_that_of_the_standard_for_files_shorter_and_longer_than_the_buffer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"abc").unwrap();
        // FIPS 180-4, the examples of SHA-256: "abc" and a million times "a".
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_of(&path).unwrap(), abc);
        fs::write(&path, "a".repeat(1_000_000)).unwrap();
        let million = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
        assert_eq!(sha256_of(&path).unwrap(), million);
    }
}
