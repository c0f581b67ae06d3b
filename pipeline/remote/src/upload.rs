//! Uploads a prepared data set, `dataset.json` last: who finds that finds all of it.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use fovea_pipeline::{Dataset, DatasetInfo, Split};

use crate::address::Address;
use crate::error::RemoteError;
use crate::fault::{Fault, Kind};
use crate::open::source_of;
use crate::retry::Attempts;
use crate::settings::Settings;
use crate::shards::with_remedy;
use crate::source::{Source, Uploaded};

/// Files that are uploaded at the same time.
const AT_ONCE: usize = 4;

/// What an upload did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upload {
    /// Files that were uploaded.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were there already, with the same bytes.
    pub skipped: usize,
}

/// A file of a data set.
#[derive(Clone)]
struct Sent {
    name: String,
    bytes: u64,
    blake3: String,
}

/// Uploads the data set in `folder` to `url`, except for files that are there already; `uploaded` gets the
/// bytes of each file.
///
/// While shards are replaced, there is no `dataset.json`; it comes back last.
///
/// # Errors
/// [`RemoteError`] when `folder` has no data set, or the server does not take a file.
pub fn upload(
    folder: &Path,
    url: &str,
    settings: &Settings,
    uploaded: &(dyn Fn(u64) + Sync),
) -> Result<Upload, RemoteError> {
    let address = Address::parse(url)?;
    let source = source_of(&address, settings)?;
    let to = Destination { address: &address, source: &*source, settings };
    let dataset = Dataset::open(folder);
    let dataset =
        dataset.map_err(|source| RemoteError::Dataset { url: folder.display().to_string(), source })?;
    let mut files: Vec<Sent> = Split::ALL
        .iter()
        .flat_map(|split| dataset.info().shards(*split))
        .map(|shard| Sent { name: shard.file.clone(), bytes: shard.bytes, blake3: shard.blake3.clone() })
        .collect();
    for name in [DatasetInfo::MEAN_IMAGE_FILE_NAME, DatasetInfo::PREPARATION_FILE_NAME] {
        if folder.join(name).is_file() {
            files.push(sent(folder, name)?);
        }
    }
    let json = sent(folder, DatasetInfo::FILE_NAME)?;
    files.push(json.clone());
    let missing = to.missing(&files)?;
    let all = files.len();
    if missing.is_empty() {
        return Ok(Upload { skipped: all, ..Upload::default() });
    }
    to.ask(&json.name, || source.remove(&json.name))?;
    files.retain(|file| missing.contains(&file.name) && file.name != json.name);
    let send = |file: &Sent| {
        to.ask(&file.name, || source.put(&file.name, &folder.join(&file.name), &file.blake3))?;
        uploaded(file.bytes);
        Ok(())
    };
    in_parallel(&files, send)?;
    send(&json)?;
    let bytes = files.iter().map(|file| file.bytes).sum::<u64>() + json.bytes;
    Ok(Upload { files: files.len() + 1, bytes, skipped: all - files.len() - 1 })
}

/// Checks that the server answers for `url`, and that it is of a kind that can be written to.
///
/// # Errors
/// [`RemoteError`] otherwise.
pub fn check_destination(url: &str, settings: &Settings) -> Result<(), RemoteError> {
    let address = Address::parse(url)?;
    let source = source_of(&address, settings)?;
    let name = DatasetInfo::FILE_NAME;
    let to = Destination { address: &address, source: &*source, settings };
    to.ask(name, || source.uploaded(name))?;
    // An answer with a body says whether it is the file or the bucket that is missing.
    to.ask(name, || match source.get(name, None) {
        Err(fault)
            if fault.kind == Kind::Missing && !NO_BUCKET.iter().any(|code| fault.text.contains(code)) =>
        {
            Ok(())
        }
        got => got.map(|_| ()),
    })
}

/// How object storage says that there is no bucket.
const NO_BUCKET: [&str; 3] = ["NoSuchBucket", "ContainerNotFound", "bucket does not exist"];

fn sent(folder: &Path, name: &str) -> Result<Sent, RemoteError> {
    let path = folder.join(name);
    let bytes = fs::read(&path).map_err(RemoteError::disk(&path, "read"))?;
    Ok(Sent { name: name.to_owned(), bytes: bytes.len() as u64, blake3: blake3::hash(&bytes).to_string() })
}

/// Calls a function with each file, several at the same time; the first error ends it.
fn in_parallel(
    files: &[Sent],
    call: impl Fn(&Sent) -> Result<(), RemoteError> + Sync,
) -> Result<(), RemoteError> {
    let (next, has_failed, failure) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(Ok(())));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(files.len()) {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed))
                    && !has_failed.load(Ordering::Relaxed)
                {
                    if let Err(error) = call(file)
                        && !has_failed.swap(true, Ordering::Relaxed)
                    {
                        *failure.lock().expect("no thread panics with it") = Err(error);
                    }
                }
            });
        }
    });
    failure.into_inner().expect("no thread panics with it")
}

/// Where a data set goes.
struct Destination<'a> {
    address: &'a Address,
    source: &'a dyn Source,
    settings: &'a Settings,
}

impl Destination<'_> {
    /// The names of those files that are not there with these bytes.
    fn missing(&self, files: &[Sent]) -> Result<HashSet<String>, RemoteError> {
        let missing = Mutex::new(HashSet::new());
        in_parallel(files, |file| {
            let wanted = Uploaded { bytes: file.bytes, blake3: Some(file.blake3.clone()) };
            if self.ask(&file.name, || self.source.uploaded(&file.name))? != Some(wanted) {
                missing.lock().expect("no thread panics with it").insert(file.name.clone());
            }
            Ok(())
        })?;
        Ok(missing.into_inner().expect("no thread panics with it"))
    }

    /// Does something with a file, as often as it takes.
    fn ask<T>(&self, name: &str, request: impl Fn() -> Result<T, Fault>) -> Result<T, RemoteError> {
        let mut attempts = Attempts::new(self.settings);
        let mut ask = || {
            loop {
                match request() {
                    Err(fault) => attempts.after(fault, || self.source.look_again())?,
                    done => return done,
                }
            }
        };
        ask().map_err(|fault: Fault| {
            let url = self.address.file(name);
            match fault.kind {
                Kind::Stopped => RemoteError::Stopped { url },
                _ => RemoteError::Transfer { url, reason: with_remedy(&fault, self.source) },
            }
        })
    }
}
