//! Whether a shard is the one that `dataset.json` means.

use crate::dataset_error::DatasetError;
use crate::shard::Shard;
use crate::{DatasetInfo, ShardInfo, Split};

/// Every mismatch between `shard` and the entry of shard `number` of `split` in `info`, each as a
/// [`DatasetError::Disagreement`].
pub(crate) fn disagreements(
    info: &DatasetInfo,
    shard: &Shard,
    split: Split,
    number: usize,
) -> Vec<DatasetError> {
    let header = shard.header();
    let images = info.shards(split)[number].images;
    let mut values = vec![
        ("image size", header.image_size.to_string(), info.image_size.to_string()),
        ("shape of its images", header.image_shape.to_string(), info.image_shape.to_string()),
        ("encoding", header.encoding.to_string(), info.encoding.to_string()),
        ("split", header.split.to_string(), split.to_string()),
        ("position in its split", header.shard.to_string(), number.to_string()),
        ("kind of labels", header.labels.to_string(), info.labels.to_string()),
        ("source", header.source.clone(), info.source.clone()),
        ("number of classes", header.classes.len().to_string(), info.classes.len().to_string()),
        ("number of images", shard.len().to_string(), images.to_string()),
    ];
    if let Some((found, expected)) = header.classes.iter().zip(&info.classes).find(|(a, b)| a != b) {
        values.push(("class", format!("{found:?}"), format!("{expected:?}")));
    }
    values
        .into_iter()
        .filter(|(_, found, expected)| found != expected)
        .map(|(what, found, expected)| {
            let path = shard.path().into();
            DatasetError::Disagreement { path, what, found, expected }
        })
        .collect()
}

/// Checks that the shard is the one that was written: its size, and what it says about its records.
///
/// A changed label would be trained on without a word. Changed pixels are noticed at their first use.
pub(crate) fn check_content(shard: &Shard, listed: &ShardInfo) -> Result<(), DatasetError> {
    let differs = |what, found, expected| {
        Err(DatasetError::Disagreement { path: shard.path().into(), what, found, expected })
    };
    if shard.file_bytes() != listed.bytes {
        return differs("bytes", shard.file_bytes().to_string(), listed.bytes.to_string());
    }
    match &listed.records_blake3 {
        Some(expected) if shard.records_blake3() != *expected => {
            differs("digest of labels, keys and checksums", shard.records_blake3(), expected.clone())
        }
        _ => Ok(()),
    }
}
