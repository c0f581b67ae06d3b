//! Sizes and digests of the official files of ILSVRC-2012, and checks of files against them.

use std::io::{ErrorKind, Read};
use std::path::Path;

use fovea_pipeline::Split;
use md5::{Digest, Md5};

use crate::collection::Found;
use crate::positioned::{io_error, open_file};
use crate::{Note, Source, SourceError};

const READ_BYTES: usize = 1 << 20;

/// A file of the official distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfficialFile {
    /// Its name.
    pub name: &'static str,
    /// Its size, where it is known.
    pub size_bytes: Option<u64>,
    /// Its MD5 in hexadecimal.
    pub md5: &'static str,
}

/// The training images: a tar of 1000 tars with 1,281,167 images.
pub const TRAIN_TAR: OfficialFile = OfficialFile {
    name: "ILSVRC2012_img_train.tar",
    size_bytes: Some(147_897_477_120),
    md5: "1d675b47d978889d74fa0da5fadfb00e",
};

/// The validation images: a tar of 50,000 images.
pub const VAL_TAR: OfficialFile = OfficialFile {
    name: "ILSVRC2012_img_val.tar",
    size_bytes: Some(6_744_924_160),
    md5: "29b22e2961454d5413ddabcf34fc5622",
};

/// The development kit of tasks 1 and 2.
pub const DEVKIT: OfficialFile = OfficialFile {
    name: "ILSVRC2012_devkit_t12.tar.gz",
    size_bytes: None,
    md5: "fa75699e90414af021442c21a62c3abf",
};

/// Images of the training and of the validation split.
const IMAGES: [usize; 2] = [1_281_167, 50_000];

/// Whether a source has as many images in one of its splits as ILSVRC-2012, all of which can be decoded.
pub fn is_complete(source: &dyn Source) -> bool {
    Split::ALL.into_iter().zip(IMAGES).any(|(split, images)| source.entries(split).len() == images)
}

/// Compares an archive of images that is called as the official one with what is known about that.
///
/// # Errors
/// [`SourceError::OfficialImages`] if it has the official size, but not as many images.
pub(crate) fn compare(path: &Path, bytes: u64, found: &Found) -> Result<Option<Note>, SourceError> {
    let official = [TRAIN_TAR, VAL_TAR].into_iter().zip(IMAGES);
    let Some((official, images)) =
        official.into_iter().find(|(official, _)| path.file_name().is_some_and(|name| name == official.name))
    else {
        return Ok(None);
    };
    if official.size_bytes == Some(bytes) && found.len() != images {
        return Err(SourceError::OfficialImages {
            path: path.to_owned(),
            official: official.name,
            expected: images,
            found: found.len(),
        });
    }
    let known_bytes = official.size_bytes.unwrap_or_default();
    let message = format!(
        "{} images in {bytes} bytes; the official file has {images} in {known_bytes} bytes",
        found.len()
    );
    let note = Note {
        kind: "not-official",
        path: path.to_owned(),
        count: found.len() as u64,
        message,
        names: Vec::new(),
    };
    Ok((found.len() != images || bytes != known_bytes).then_some(note))
}

/// Checks that each file is the official one that it is paired with: first all sizes, then all contents.
///
/// `progress` is called with the bytes read so far and the bytes of all files together, about once per MiB.
///
/// # Errors
/// [`SourceError::OfficialSize`] or [`SourceError::OfficialDigest`] for the first file that differs, and
/// [`SourceError::Io`] when one cannot be read.
pub fn verify_tars(
    files: &[(OfficialFile, &Path)],
    mut progress: impl FnMut(u64, u64),
) -> Result<(), SourceError> {
    let mut total_bytes = 0;
    for (official, path) in files {
        let found_bytes = path.metadata().map_err(io_error(path, "read its size"))?.len();
        total_bytes += found_bytes;
        match official.size_bytes {
            Some(expected_bytes) if expected_bytes != found_bytes => {
                return Err(SourceError::OfficialSize {
                    path: path.to_path_buf(),
                    official: official.name,
                    expected_bytes,
                    found_bytes,
                });
            }
            _ => {}
        }
    }
    let mut done_bytes = 0;
    let mut buffer = vec![0; READ_BYTES];
    for (official, path) in files {
        let mut file = open_file(path)?;
        let mut md5 = Md5::new();
        loop {
            let n = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(io_error(path, "read")(e)),
            };
            md5.update(&buffer[..n]);
            done_bytes += n as u64;
            progress(done_bytes, total_bytes);
        }
        let found: String = md5.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if found != official.md5 {
            return Err(SourceError::OfficialDigest {
                path: path.to_path_buf(),
                official: official.name,
                expected: official.md5,
                found,
            });
        }
    }
    Ok(())
}
