//! A tar or tar.gz archive: opened for reading at any place, and inflated for that where needed.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;

use crate::SourceError;
use crate::positioned::{PositionedFile, io_error};
use crate::tar_index::{self, GZIP_MAGIC, Member};

const INFLATE_BUFFER_BYTES: usize = 1 << 20;

/// An archive and the list of its members.
#[derive(Debug)]
pub(crate) struct Archive {
    /// The tar file, or the temporary file that it was inflated to.
    pub(crate) file: Arc<PositionedFile>,
    /// Its regular files.
    pub(crate) members: Vec<Member>,
}

impl Archive {
    /// Opens and indexes a tar or tar.gz; `None` if the file is neither.
    ///
    /// A tar.gz is inflated into an unnamed file in `scratch_dir`, which vanishes with the process.
    pub(crate) fn open(path: &Path, scratch_dir: &Path) -> Result<Option<Self>, SourceError> {
        let mut start = Vec::new();
        let mut file = File::open(path).map_err(io_error(path, "open"))?;
        file.by_ref().take(512).read_to_end(&mut start).map_err(io_error(path, "read"))?;
        let file = if start.starts_with(&GZIP_MAGIC) {
            let file = inflate(path, scratch_dir)?;
            start.resize(512, 0);
            let length = file.len().min(512) as usize;
            file.read_at(0, &mut start[..length])?;
            file
        } else {
            PositionedFile::from_file(file, path)?
        };
        match start.first_chunk() {
            Some(block) if tar_index::is_header(block) => {
                let members = tar_index::index(&file)?;
                Ok(Some(Self { file: Arc::new(file), members }))
            }
            _ => Ok(None),
        }
    }
}

fn inflate(path: &Path, scratch_dir: &Path) -> Result<PositionedFile, SourceError> {
    let file = File::open(path).map_err(io_error(path, "open"))?;
    let mut input = MultiGzDecoder::new(BufReader::with_capacity(INFLATE_BUFFER_BYTES, file));
    let mut output =
        tempfile::tempfile_in(scratch_dir).map_err(io_error(scratch_dir, "create a temporary file in it"))?;
    let mut buffer = vec![0; INFLATE_BUFFER_BYTES];
    let mut inflated = 0;
    loop {
        let n = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => {
                return Err(SourceError::Damaged {
                    path: path.to_owned(),
                    offset: inflated,
                    expected: "more gzip data".to_owned(),
                    found: e.to_string(),
                    remedy: "the file is incomplete or damaged: download or copy it again",
                });
            }
        };
        let action = || format!("inflate {} into a temporary file in it", path.display());
        io::Write::write_all(&mut output, &buffer[..n]).map_err(|e| io_error(scratch_dir, &action())(e))?;
        inflated += n as u64;
    }
    PositionedFile::from_file(output, path)
}
