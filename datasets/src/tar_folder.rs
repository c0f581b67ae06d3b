//! A tar or tar.gz archive: opened for reading at any place, and inflated for that where needed.

use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::slice;
use std::sync::Arc;

use crate::compression::{self, GZIP_MAGIC};
use crate::gunzip::Gunzip;
use crate::others::Others;
use crate::positioned::{PositionedFile, check_size, io_error, open_file};
use crate::tar_header::{self, BLOCK};
use crate::tar_index;
use crate::tar_members::{Member, Members};
use crate::{Note, SourceError};

const INFLATE_BUFFER_BYTES: usize = 1 << 20;

/// An archive and the list of its members.
#[derive(Debug)]
pub(crate) struct Archive {
    /// The tar file, or the temporary file that it was inflated to.
    pub(crate) file: Arc<PositionedFile>,
    /// Its regular files.
    pub(crate) members: Vec<Member>,
    /// What is in it beside them.
    pub(crate) others: Others,
    /// What is to be said about it.
    pub(crate) notes: Vec<Note>,
}

impl Archive {
    /// Opens and indexes a tar or tar.gz; `None` if the file is neither.
    ///
    /// A tar.gz is inflated into an unnamed file in `scratch_dir`, which vanishes with the process.
    pub(crate) fn open(path: &Path, scratch_dir: &Path) -> Result<Option<Self>, SourceError> {
        let mut file = PositionedFile::open(path)?;
        let mut start = first_block(&file)?;
        if tar_header::is_header(&start) {
            return Self::of_tar(file).map(Some);
        }
        let is_inflated = start.starts_with(&GZIP_MAGIC);
        if is_inflated {
            file = inflate(path, scratch_dir)?;
            start = first_block(&file)?;
        }
        if tar_header::is_header(&start) {
            return Self::of_tar(file).map(Some);
        }
        compression::refuse(path, &start, is_inflated)?;
        Ok(None)
    }

    fn of_tar(file: PositionedFile) -> Result<Self, SourceError> {
        let members = tar_index::index(&file)?;
        let notes = notes_on(file.path(), slice::from_ref(&members));
        Ok(Self { file: Arc::new(file), members: members.files, others: members.others, notes })
    }

    /// The content of a member of at most `limit_bytes`.
    pub(crate) fn read(&self, member: &Member, limit_bytes: u64) -> Result<Vec<u8>, SourceError> {
        check_size(&self.file.path().join(&member.name), member.size, limit_bytes)?;
        let mut bytes = vec![0; member.size as usize];
        self.file.read_at(member.offset, &mut bytes)?;
        Ok(bytes)
    }
}

/// What is to be said about archives in the file at `path`: members that a later one of the same name
/// replaced, names that are not relative ones, and long ends of zeros.
pub(crate) fn notes_on(path: &Path, archives: &[Members]) -> Vec<Note> {
    let note = |kind, count: u64, message| {
        let note = || Note { kind, path: path.to_owned(), count, message, names: Vec::new() };
        (count > 0).then(note)
    };
    let replaced = archives.iter().map(|archive| archive.replaced).sum();
    let have = if replaced == 1 { "1 member has" } else { &format!("{replaced} members have") };
    let about_replaced = format!("{have} a later one of the same name, as after tar --update, which counts");
    let renamed = archives.iter().map(|archive| archive.renamed).sum();
    let are = if renamed == 1 { "1 member has" } else { &format!("{renamed} members have") };
    let about_renamed =
        format!("{are} an absolute name, or `..` in it, and count by the path below the top of the archive");
    let tails: Vec<u64> =
        archives.iter().map(|archive| archive.zero_tail_bytes).filter(|&bytes| bytes > 0).collect();
    let end = if tails.len() == 1 { "1 archive ends" } else { &format!("{} archives end", tails.len()) };
    let about_tails = format!(
        "{end} with more zeros than usual, {} bytes; if a download broke off there, images are missing",
        tails.iter().sum::<u64>()
    );
    let notes = [
        note("replaced-members", replaced, about_replaced),
        note("renamed-members", renamed, about_renamed),
        note("zeros-at-end", tails.len() as u64, about_tails),
    ];
    notes.into_iter().flatten().collect()
}

/// The start of the file, filled up with zeros.
fn first_block(file: &PositionedFile) -> Result<tar_header::Block, SourceError> {
    let mut block = [0; BLOCK as usize];
    let length = file.len().min(BLOCK) as usize;
    file.read_at(0, &mut block[..length])?;
    Ok(block)
}

fn inflate(path: &Path, scratch_dir: &Path) -> Result<PositionedFile, SourceError> {
    let mut input = Gunzip::new(BufReader::with_capacity(INFLATE_BUFFER_BYTES, open_file(path)?));
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
                    expected: "more gzip data or its end".to_owned(),
                    found: e.to_string(),
                    remedy: "the file is incomplete or damaged: download or copy it again",
                });
            }
        };
        let action = || format!("inflate {} into a temporary file in it", path.display());
        output.write_all(&buffer[..n]).map_err(|e| io_error(scratch_dir, &action())(e))?;
        inflated += n as u64;
    }
    PositionedFile::from_file(output, path)
}
