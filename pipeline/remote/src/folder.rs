//! Files in a folder, on a network's file system for instance.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use fovea_files::open_regular;

use crate::address::Address;
use crate::fault::{Fault, Kind};
use crate::source::{Answer, Source, Uploaded};

/// The files of a folder.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub fn new(address: &Address) -> Self {
        Self(Path::new("/").join(address.path()))
    }

    fn read(&self, name: &str, range: Option<Range<u64>>) -> std::io::Result<Answer> {
        let mut file: File = open_regular(&self.0.join(name))?;
        let total = file.metadata()?.len();
        let range = range.unwrap_or(0..total);
        file.seek(SeekFrom::Start(range.start))?;
        let body = Box::new(file.take(range.end.saturating_sub(range.start)));
        Ok(Answer { start: range.start, total: Some(total), body })
    }
}

impl Source for Folder {
    fn get(&self, name: &str, range: Option<Range<u64>>) -> Result<Answer, Fault> {
        self.read(name, range).map_err(|error| {
            let kind = match error.kind() {
                ErrorKind::NotFound | ErrorKind::NotADirectory => Kind::Missing,
                ErrorKind::PermissionDenied => Kind::Refused,
                ErrorKind::InvalidInput => Kind::Final,
                _ => Kind::Passing,
            };
            Fault::new(kind, error.to_string())
        })
    }

    fn remedy(&self) -> &'static str {
        "give this user the right to read it"
    }

    fn uploaded(&self, _name: &str) -> Result<Option<Uploaded>, Fault> {
        Err(not_for_uploads())
    }

    fn put(&self, _name: &str, _file: &Path, _blake3: &str) -> Result<(), Fault> {
        Err(not_for_uploads())
    }

    fn remove(&self, _name: &str) -> Result<(), Fault> {
        Err(not_for_uploads())
    }
}

fn not_for_uploads() -> Fault {
    Fault::new(Kind::Final, "to write into a folder, name it by its path")
}
