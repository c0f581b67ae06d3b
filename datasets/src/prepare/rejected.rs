//! The list of images that could not be decoded.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use fovea_pipeline::text::printable;
use fovea_pipeline::{Class, Split};
use serde::{Deserialize, Serialize};

use super::{PrepareError, durable};

/// Name of the list, next to the shards.
pub const REJECTED_FILE: &str = "rejected.tsv";

const HEADER: &str = "split\tclass\tkey\treason\n";

/// An image that is in no shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// Its split.
    pub split: Split,
    /// Its name in the source.
    pub key: String,
    /// Position of its class in the class list.
    pub label: u32,
    /// Why it cannot be decoded, on one line.
    pub reason: String,
}

/// Writes the list; without rejections only its header.
pub(crate) fn write(directory: &Path, rejected: &[Rejection], classes: &[Class]) -> Result<(), PrepareError> {
    let mut text = String::from(HEADER);
    for rejection in rejected {
        let fields = [
            rejection.split.name(),
            &classes[rejection.label as usize].wnid,
            &rejection.key,
            &rejection.reason,
        ];
        let fields = fields.map(printable);
        text.push_str(&fields.join("\t"));
        text.push('\n');
    }
    durable::write(&directory.join(REJECTED_FILE), text.as_bytes())
}

/// Split and key, as they are written in the list, of each image in it.
pub(crate) fn keys(directory: &Path) -> Result<HashSet<(String, String)>, PrepareError> {
    let path = directory.join(REJECTED_FILE);
    let text = fs::read_to_string(&path).map_err(PrepareError::io(&path, "read"))?;
    let row = |line: &str| {
        let mut fields = line.split('\t');
        Some((fields.next()?.to_owned(), fields.nth(1)?.to_owned()))
    };
    Ok(text.lines().skip(1).filter_map(row).collect())
}

/// The number of images in the list.
pub(crate) fn count(directory: &Path) -> Result<u64, PrepareError> {
    let path = directory.join(REJECTED_FILE);
    let text = fs::read_to_string(&path).map_err(PrepareError::io(&path, "read"))?;
    Ok(text.lines().skip(1).count() as u64)
}
