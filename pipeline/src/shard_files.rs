//! Where the files of shards come from: a folder, or whatever brings them when they are needed.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::ShardInfo;
use crate::dataset_error::DatasetError;

/// Brings the files of a data set's shards, from any thread.
pub trait ShardFiles: Debug + Send + Sync {
    /// Whether every file stays where it is, so that a shard is mapped once and for all.
    fn are_permanent(&self) -> bool;

    /// Bytes of shards that can be here at the same time; `None` if all can.
    fn capacity(&self) -> Option<u64> {
        None
    }

    /// What can be said about these shards without waiting: for files that are there, whether all are, with
    /// the size that they were written with.
    ///
    /// # Errors
    /// [`DatasetError`] naming the first shard that is missing or of another size.
    fn check(&self, shards: &[ShardInfo]) -> Result<(), DatasetError>;

    /// The path of the complete file of `shard`; waits until it is there.
    ///
    /// `is_wanted` is asked now and then while it waits.
    ///
    /// # Errors
    /// [`DatasetError::NotFetched`] when the file cannot be had, [`DatasetError::Unwanted`] when it is not
    /// wanted any more.
    fn fetch(&self, shard: &ShardInfo, is_wanted: &dyn Fn() -> bool) -> Result<PathBuf, DatasetError>;

    /// Says that these shards are needed soon, in this order, and after those of earlier calls that were not
    /// released. Does not wait.
    fn fetch_ahead(&self, shards: &[&ShardInfo]);

    /// Says that nobody maps `shard` until it is fetched again, which will be soon: its file may go if others
    /// need the room. Does not wait.
    fn set_aside(&self, shard: &ShardInfo);

    /// Says that nobody needs `shard` at present, or maps it: its file may go. Does not wait.
    fn release(&self, shard: &ShardInfo);
}

/// Shards that lie in a folder.
#[derive(Debug)]
pub(crate) struct Folder(pub PathBuf);

impl Folder {
    fn path(&self, shard: &ShardInfo) -> PathBuf {
        self.0.join(&shard.file)
    }
}

impl ShardFiles for Folder {
    fn are_permanent(&self) -> bool {
        true
    }

    fn check(&self, shards: &[ShardInfo]) -> Result<(), DatasetError> {
        shards.iter().try_for_each(|shard| check_size(&self.path(shard), shard))
    }

    fn fetch(&self, shard: &ShardInfo, _is_wanted: &dyn Fn() -> bool) -> Result<PathBuf, DatasetError> {
        Ok(self.path(shard))
    }

    fn fetch_ahead(&self, _shards: &[&ShardInfo]) {}

    fn set_aside(&self, _shard: &ShardInfo) {}

    fn release(&self, _shard: &ShardInfo) {}
}

/// Checks that the file at `path` has the size of `shard`.
fn check_size(path: &Path, shard: &ShardInfo) -> Result<(), DatasetError> {
    let file = fs::metadata(path).and_then(|file| match file.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a regular file")),
    });
    let found = file.map_err(|source| DatasetError::Io { path: path.into(), source })?.len();
    match found == shard.bytes {
        true => Ok(()),
        false => Err(DatasetError::Disagreement {
            path: path.into(),
            what: "bytes",
            found: found.to_string(),
            expected: shard.bytes.to_string(),
        }),
    }
}
