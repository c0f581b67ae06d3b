//! Opens a data set elsewhere: fetches what lies beside its shards.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use fovea_files::{SealError, unseal, write_atomically};
use fovea_pipeline::room::Room;
use fovea_pipeline::shard_files::ShardFiles;
use fovea_pipeline::{Dataset, DatasetError, DatasetInfo, ShardInfo};
use serde_json::Value;

use crate::address::{Address, Scheme};
use crate::cache::{Cache, Place};
use crate::download::small;
use crate::error::RemoteError;
use crate::fault::{Fault, Kind};
use crate::folder::Folder;
use crate::settings::Settings;
use crate::shards::{Failure, Shards, with_remedy};
use crate::source::Source;
use crate::web::Web;

/// More than `dataset.json` has for a million shards.
const MOST_BYTES: u64 = 1 << 30;

/// More than a mean image, and the record of a preparation, has.
const MOST_SMALL_BYTES: u64 = 64 << 20;

/// Opens the data set at `url`. What lies beside its shards is fetched now, a shard when it is needed.
///
/// # Errors
/// [`RemoteError`] when `url` is none of a data set, the server does not give it, or the cache cannot hold
/// it.
pub fn open(url: &str, cache: &Cache, settings: &Settings) -> Result<Dataset, RemoteError> {
    let address = Address::parse(url)?;
    let source = source_of(&address, settings)?;
    let beside = Beside { address: &address, source: &*source, settings };
    let json = beside.dataset_json()?;
    let place = Place::new(cache, &identity(&address), &json)?;
    beside.keep(&place, DatasetInfo::FILE_NAME, &json)?;
    let (folder, limit) = (place.folder.clone(), place.limit);
    let of_dataset = |source| RemoteError::Dataset { url: address.base.clone(), source };
    // The first look is for what is needed to fetch the rest.
    let info = Dataset::open(&folder).map_err(of_dataset)?.info().clone();
    check_limit(limit, &info, &address.base)?;
    beside.keep_mean_image(&place, &info)?;
    beside.keep_if_there(&place, DatasetInfo::PREPARATION_FILE_NAME)?;
    let shards = Shards::new(address.clone(), source, place, settings);
    Dataset::open_with_files(&folder, Arc::new(shards)).map_err(of_dataset)
}

/// Where the files at an address come from.
pub(crate) fn source_of(address: &Address, settings: &Settings) -> Result<Box<dyn Source>, RemoteError> {
    Ok(match address.scheme {
        Scheme::Web => Box::new(Web::new(address, settings.silence)?),
        Scheme::File => Box::new(Folder::new(address)),
        #[cfg(feature = "object-store")]
        Scheme::S3 | Scheme::Google | Scheme::Azure => {
            Box::new(crate::bucket::Bucket::new(address, settings)?)
        }
        #[cfg(not(feature = "object-store"))]
        Scheme::S3 | Scheme::Google | Scheme::Azure => {
            return Err(RemoteError::Url {
                url: address.base.clone(),
                reason:
                    "this program was built without object storage; build it with the feature object-store"
                        .into(),
            });
        }
    })
}

/// The name of the data set in a cache. Buckets of one name may be at several servers.
fn identity(address: &Address) -> String {
    let endpoint = match address.scheme {
        Scheme::S3 => "AWS_ENDPOINT_URL",
        Scheme::Azure => "AZURE_STORAGE_ACCOUNT_NAME",
        _ => return address.base.clone(),
    };
    match std::env::var(endpoint) {
        Ok(endpoint) if !endpoint.is_empty() => format!("{endpoint} {}", address.base),
        _ => address.base.clone(),
    }
}

/// Refuses a limit with which no image can be read while the next shard arrives.
fn check_limit(limit: Option<u64>, info: &DatasetInfo, url: &str) -> Result<(), RemoteError> {
    let room = Room::of(info);
    match limit {
        Some(limit) if limit < room.reading_bytes => {
            Err(RemoteError::SmallLimit { url: url.to_owned(), limit, remedy: room.remedy(limit) })
        }
        _ => Ok(()),
    }
}

/// The files beside the shards.
struct Beside<'a> {
    address: &'a Address,
    source: &'a dyn Source,
    settings: &'a Settings,
}

impl Beside<'_> {
    fn dataset_json(&self) -> Result<Vec<u8>, RemoteError> {
        let name = DatasetInfo::FILE_NAME;
        let mut fetched = Err(Fault::stopped());
        // One that was damaged on its way is fetched once more.
        for _ in 0..2 {
            fetched = small(self.source, name, MOST_BYTES, self.settings);
            let is_damaged = |bytes: &Vec<u8>| matches!(unseal::<Value>(bytes), Err(SealError::Hash { .. }));
            if !fetched.as_ref().is_ok_and(is_damaged) {
                break;
            }
        }
        let json = fetched.map_err(|fault| match fault.kind {
            Kind::Missing => RemoteError::NotPrepared { url: self.address.base.clone(), reason: fault.text },
            _ => self.error(name, &fault),
        })?;
        match unseal::<Value>(&json) {
            Ok(_) => Ok(json),
            Err(error) => {
                let reason = format!("{error}; prepare and upload the data set again");
                Err(RemoteError::Transfer { url: self.address.file(name), reason })
            }
        }
    }

    fn keep_mean_image(&self, place: &Place, info: &DatasetInfo) -> Result<(), RemoteError> {
        let name = DatasetInfo::MEAN_IMAGE_FILE_NAME;
        let Some(expected) = &info.mean_image_blake3 else { return self.keep_if_there(place, name) };
        let is_it = |bytes: &[u8]| blake3::hash(bytes).to_string() == *expected;
        if fs::read(place.path(name)).is_ok_and(|bytes| is_it(&bytes)) {
            return Ok(());
        }
        for _ in 0..2 {
            let bytes = small(self.source, name, MOST_SMALL_BYTES, self.settings);
            let bytes = bytes.map_err(|fault| self.error(name, &fault))?;
            if is_it(&bytes) {
                return self.keep(place, name, &bytes);
            }
        }
        let reason =
            format!("its BLAKE3 digest is not {expected}, as dataset.json says; upload the data set again");
        Err(RemoteError::Transfer { url: self.address.file(name), reason })
    }

    /// Keeps a file that a data set need not have.
    fn keep_if_there(&self, place: &Place, name: &str) -> Result<(), RemoteError> {
        if place.path(name).is_file() {
            return Ok(());
        }
        match small(self.source, name, MOST_SMALL_BYTES, self.settings) {
            Ok(bytes) => self.keep(place, name, &bytes),
            // Storage that does not let a user list a bucket refuses what is not there.
            Err(fault) if matches!(fault.kind, Kind::Missing | Kind::Refused) => Ok(()),
            Err(fault) => Err(self.error(name, &fault)),
        }
    }

    fn keep(&self, place: &Place, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        let path = place.path(name);
        if fs::read(&path).is_ok_and(|kept| kept == bytes) {
            return Ok(());
        }
        write_atomically(&path, |out| std::io::Write::write_all(out, bytes))
            .map_err(RemoteError::disk(&path, "write"))
    }

    fn error(&self, name: &str, fault: &Fault) -> RemoteError {
        let url = self.address.file(name);
        match fault.kind {
            Kind::Stopped => RemoteError::Stopped { url },
            _ => RemoteError::Transfer { url, reason: with_remedy(fault, self.source) },
        }
    }
}

impl ShardFiles for Shards {
    fn are_permanent(&self) -> bool {
        false
    }

    fn capacity(&self) -> Option<u64> {
        self.limit()
    }

    fn check(&self, _: &[ShardInfo]) -> Result<(), DatasetError> {
        Ok(())
    }

    fn fetch(&self, shard: &ShardInfo, is_wanted: &dyn Fn() -> bool) -> Result<PathBuf, DatasetError> {
        self.fetch(shard, is_wanted).map_err(|failure| match failure {
            Failure::Stopped => DatasetError::Unwanted { file: self.url(shard) },
            Failure::Failed(reason) => DatasetError::NotFetched { file: self.url(shard), reason },
        })
    }

    fn fetch_ahead(&self, shards: &[&ShardInfo]) {
        self.fetch_ahead(shards);
    }

    fn set_aside(&self, shard: &ShardInfo) {
        self.set_aside(shard);
    }

    fn release(&self, shard: &ShardInfo) {
        self.release(shard);
    }
}
