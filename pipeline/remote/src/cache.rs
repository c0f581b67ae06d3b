//! The cache on disk: where files are, who uses them, and which go when room is needed.
//!
//! ```text
//! FOLDER/room.lock                       held while room is made
//! FOLDER/NAME-HASH/DIGEST/dataset.json   HASH is that of the URL, DIGEST that of this file
//!                        /mean_image.npy, preparation.json
//!                        /train-00000.arrow, …    whole, or absent
//!                        /train-00001.arrow.partial
//!                        /locks/train-00000.arrow
//! ```
//!
//! A process that fetches a shard holds its lock alone; one that uses a shard of a cache with a limit holds
//! it together with others. A shard whose lock nobody holds may be deleted. Locks end with their process.

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use std::{io, thread};

use fovea_files::{FileLock, PartialFile};

use crate::error::RemoteError;

/// Where what is fetched is kept.
#[derive(Clone, Debug)]
pub struct Cache {
    /// A folder; it is created when it does not exist.
    pub folder: PathBuf,
    /// The most bytes of shards in it, of all data sets.
    pub limit: Option<u64>,
}

const LOCKS: &str = "locks";
const ROOM: &str = "room.lock";

/// How long to wait for the lock of a process that makes room.
const LONGEST_LOCK: Duration = Duration::from_secs(60);

/// The folder of a data set in a cache.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    root: PathBuf,
    pub folder: PathBuf,
    pub limit: Option<u64>,
}

/// A file that may go.
struct Candidate {
    path: PathBuf,
    bytes: u64,
    is_own: bool,
    since: SystemTime,
}

impl Place {
    /// The folder of the data set at `url` whose `dataset.json` has these bytes.
    pub fn new(cache: &Cache, url: &str, dataset_json: &[u8]) -> Result<Self, RemoteError> {
        let folder = cache.folder.join(folder_name(url)).join(short_hash(dataset_json));
        let locks = folder.join(LOCKS);
        fs::create_dir_all(&locks).map_err(RemoteError::disk(&locks, "create"))?;
        Ok(Self { root: cache.folder.clone(), folder, limit: cache.limit })
    }

    /// The folder of the cache.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the shard `name` is, or will be.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Whether all bytes of the shard `name` are there.
    pub fn has(&self, name: &str, bytes: u64) -> bool {
        fs::metadata(self.path(name)).is_ok_and(|file| file.is_file() && file.len() == bytes)
    }

    /// The lock of the shard `name` for who fetches it; `None` while others fetch or use it.
    pub fn lock(&self, name: &str) -> Result<Option<FileLock>, RemoteError> {
        let path = self.folder.join(LOCKS).join(name);
        FileLock::try_acquire(&path).map_err(RemoteError::disk(&path, "lock"))
    }

    /// The lock of the shard `name` for who uses it; `None` while it is fetched or deleted.
    pub fn lock_to_use(&self, name: &str) -> Result<Option<FileLock>, RemoteError> {
        let path = self.folder.join(LOCKS).join(name);
        FileLock::try_acquire_shared(&path).map_err(RemoteError::disk(&path, "lock"))
    }

    /// What changes while another process fetches the shard `name`.
    pub fn sign_of_life(&self, name: &str) -> Option<SystemTime> {
        let path = self.folder.join(format!("{name}{}", PartialFile::SUFFIX));
        fs::metadata(path).and_then(|file| file.modified()).ok()
    }

    /// Creates the file of the shard `name` with all its bytes, for a process that holds its lock; deletes
    /// others if there is no room. `None` when those that nobody uses are not enough.
    pub fn create(&self, name: &str, bytes: u64) -> Result<Option<PartialFile>, RemoteError> {
        let _lock = self.lock_room()?;
        if let Some(limit) = self.limit
            && !self.make_room(bytes, limit)?
        {
            return Ok(None);
        }
        let path = self.path(name);
        let file = PartialFile::create(&path).map_err(|error| RemoteError::Disk {
            path: error.path,
            action: error.action,
            source: error.source,
        })?;
        // Others who make room see how large it will be.
        file.file().set_len(bytes).map_err(RemoteError::disk(file.temporary_path(), "enlarge"))?;
        Ok(Some(file))
    }

    fn lock_room(&self) -> Result<FileLock, RemoteError> {
        let path = self.root.join(ROOM);
        let begun = Instant::now();
        // It is held for the time of listing and deleting files.
        while begun.elapsed() < LONGEST_LOCK {
            if let Some(lock) = FileLock::try_acquire(&path).map_err(RemoteError::disk(&path, "lock"))? {
                return Ok(lock);
            }
            thread::sleep(Duration::from_millis(5));
        }
        let held = io::Error::new(io::ErrorKind::TimedOut, "a process holds it that does not go on; end it");
        Err(RemoteError::Disk { path, action: "lock", source: held })
    }

    /// Deletes what nobody uses until `bytes` more are within `limit`; returns whether they are.
    fn make_room(&self, bytes: u64, limit: u64) -> Result<bool, RemoteError> {
        let mut used = 0;
        let mut candidates = Vec::new();
        for folder in self.folders().map_err(RemoteError::disk(&self.root, "list"))? {
            // Another process may have deleted the folder.
            for (path, file) in shards_in(&folder).unwrap_or_default() {
                if path.extension().is_some_and(|extension| extension == "partial") {
                    used += if remove_dead(&folder, &path) { 0 } else { file.len() };
                    continue;
                }
                used += file.len();
                let since = file.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                candidates.push(Candidate { path, bytes: file.len(), is_own: folder == self.folder, since });
            }
        }
        // Those of other data sets first.
        candidates.sort_by_key(|candidate| (candidate.is_own, candidate.since));
        for candidate in candidates {
            if used.saturating_add(bytes) <= limit {
                break;
            }
            if remove_unused(&candidate.path) {
                used -= candidate.bytes;
            }
        }
        Ok(used.saturating_add(bytes) <= limit)
    }

    /// The folders of all data sets of the cache.
    fn folders(&self) -> io::Result<Vec<PathBuf>> {
        let mut folders = Vec::new();
        for name in fs::read_dir(&self.root)? {
            let Ok(digests) = fs::read_dir(name?.path()) else { continue };
            folders.extend(
                digests.flatten().map(|digest| digest.path()).filter(|path| path.join(LOCKS).is_dir()),
            );
        }
        Ok(folders)
    }
}

/// The name of the folder that is for a URL: its last part and a hash.
#[must_use]
pub fn folder_name(url: &str) -> String {
    let last = url.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let name: String = last.chars().filter(is_plain).take(40).collect();
    format!("{name}-{}", short_hash(url.as_bytes()))
}

fn short_hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_owned()
}

fn is_plain(letter: &char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_')
}

/// The shards in a folder, those that are not whole included.
fn shards_in(folder: &Path) -> io::Result<Vec<(PathBuf, Metadata)>> {
    let mut shards = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_shard = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| {
            let name = name.strip_suffix(PartialFile::SUFFIX).unwrap_or(name);
            folder.join(LOCKS).join(name).is_file()
        });
        // One that has gone meanwhile takes no room.
        if is_shard && let Ok(file) = fs::metadata(&path) {
            shards.push((path, file));
        }
    }
    Ok(shards)
}

/// Deletes what a process that has ended left of a shard; returns whether it did.
fn remove_dead(folder: &Path, partial: &Path) -> bool {
    let Some(name) = partial.file_stem() else { return false };
    let lock = FileLock::try_acquire(&folder.join(LOCKS).join(name));
    lock.is_ok_and(|lock| lock.is_some()) && fs::remove_file(partial).is_ok()
}

/// Deletes a shard unless somebody uses it; returns whether it did.
fn remove_unused(path: &Path) -> bool {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return false };
    let lock = FileLock::try_acquire(&folder.join(LOCKS).join(name));
    lock.is_ok_and(|lock| lock.is_some()) && fs::remove_file(path).is_ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn place(root: &Path, url: &str, limit: u64) -> Place {
        Place::new(&Cache { folder: root.into(), limit: Some(limit) }, url, b"{}").unwrap()
    }

    /// Puts a shard of this many bytes there; returns whether there was room.
    fn put(place: &Place, name: &str, bytes: u64) -> bool {
        let lock = place.lock(name).unwrap().expect("nobody uses it");
        let Some(mut file) = place.create(name, bytes).unwrap() else { return false };
        file.write_all(&vec![1; bytes as usize]).unwrap();
        file.finish().unwrap();
        drop(lock);
        // The time of a file may be as coarse as this.
        thread::sleep(Duration::from_millis(20));
        true
    }

    #[test]
    fn two_data_sets_never_mix() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache { folder: root.path().into(), limit: None };
        let folder = |url: &str, json: &[u8]| Place::new(&cache, url, json).unwrap().folder;
        let one = folder("s3://a/set", b"1");
        assert_eq!(one, folder("s3://a/set", b"1"));
        assert_ne!(one, folder("s3://b/set", b"1"));
        assert_ne!(one, folder("s3://a/set", b"2"));
    }

    #[test]
    fn what_nobody_uses_goes_when_room_is_needed_that_of_other_data_sets_first() {
        let root = tempfile::tempdir().unwrap();
        let (one, other) = (place(root.path(), "s3://a/one", 100), place(root.path(), "s3://a/other", 100));
        assert!(put(&one, "a", 30) && put(&one, "b", 30) && put(&other, "c", 30));
        let used = one.lock_to_use("a").unwrap().unwrap();
        assert!(put(&one, "d", 30));
        assert!(one.has("a", 30) && one.has("b", 30) && one.has("d", 30) && !other.has("c", 30));
        assert!(put(&one, "e", 30));
        assert!(one.has("a", 30) && !one.has("b", 30) && one.has("d", 30) && one.has("e", 30));
        assert!(!put(&one, "f", 71), "a is used");
        drop(used);
        assert!(put(&one, "f", 71));
        assert!(!one.has("a", 30));
    }

    #[test]
    fn a_shard_that_arrives_has_its_room_and_one_of_a_dead_process_has_none() {
        let root = tempfile::tempdir().unwrap();
        let place = place(root.path(), "s3://a/set", 100);
        let lock = place.lock("a").unwrap().unwrap();
        let arriving = place.create("a", 80).unwrap().unwrap();
        assert!(!put(&place, "b", 30));
        let left = arriving.temporary_path().to_owned();
        drop(arriving);
        // As a process that was killed leaves it.
        fs::write(&left, vec![0; 80]).unwrap();
        drop(lock);
        assert!(put(&place, "b", 30));
        assert!(!left.exists());
    }
}
