//! Reading a prepared data set again, every byte of it, and telling all that is wrong.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use fovea_pipeline::shard::{FORMAT_VERSION, Shard, ShardError, shard_file_name};
use fovea_pipeline::{DatasetInfo, Encoding, ShardInfo, Split};
use ndarray::Array3;
use ndarray_npy::ReadNpyExt;

use crate::photo::{Photo, PhotoFile};
use crate::prepare::{PARTIAL, PREPARATION_FILE};

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// What is wrong, with the position and the key of the record where it is about one.
    pub what: String,
}

/// What was found in a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Shards that were read.
    pub shards: usize,
    /// Records that were read.
    pub images: u64,
    /// All that is wrong, in the order of the files; empty if the data set is sound.
    pub problems: Vec<Problem>,
}

/// `dataset.json` is missing or unreadable, so there is nothing to compare with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A preparation that has not ended.
    #[error("{}: the preparation is not finished; run the same prepare_imagenet command again", directory.display())]
    Unfinished {
        /// The folder.
        directory: PathBuf,
    },
    /// The operating system refused.
    #[error("{}: cannot read: {source}; expected the folder of a prepared data set", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Not the description of a data set.
    #[error("{}: not the description of a data set: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Reads `dataset.json` in `directory`.
///
/// # Errors
/// When it is missing or unreadable.
pub fn read_info(directory: &Path) -> Result<DatasetInfo, VerifyError> {
    let path = directory.join(DatasetInfo::FILE_NAME);
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)
            .map_err(|error| VerifyError::Unreadable { path, reason: error.to_string() }),
        Err(error)
            if error.kind() == io::ErrorKind::NotFound && directory.join(PREPARATION_FILE).exists() =>
        {
            Err(VerifyError::Unfinished { directory: directory.into() })
        }
        Err(source) => Err(VerifyError::Io { path, source }),
    }
}

/// Checks every digest and checksum, every count, label and header, and that every JPEG decodes.
///
/// `on_shard` is called, by any thread, after each shard with the bytes that were read.
///
/// # Errors
/// When there is no readable `dataset.json`. All else that is wrong is in the report.
pub fn verify(
    directory: &Path,
    workers: NonZeroUsize,
    on_shard: &(dyn Fn(u64) + Sync),
) -> Result<Report, VerifyError> {
    let info = read_info(directory)?;
    let mut report = Report::default();
    if info.format_version != FORMAT_VERSION {
        report.problems.push(Problem {
            path: directory.join(DatasetInfo::FILE_NAME),
            what: format!("format version {}, expected {FORMAT_VERSION}", info.format_version),
        });
        return Ok(report);
    }
    let shards: Vec<(Split, u32, &ShardInfo)> = Split::ALL
        .into_iter()
        .flat_map(|split| (0..).zip(info.shards(split)).map(move |(number, shard)| (split, number, shard)))
        .collect();
    let checked = check_shards(directory, &info, &shards, workers, on_shard);
    let mut keys: [HashSet<String>; 2] = Default::default();
    for ((split, _, shard), outcome) in shards.iter().zip(checked) {
        report.shards += 1;
        report.images += outcome.images;
        let path = directory.join(&shard.file);
        let problem = |what| Problem { path: path.clone(), what };
        report.problems.extend(outcome.problems.into_iter().map(problem));
        for key in outcome.keys {
            if let Some(key) = keys[*split as usize].replace(key) {
                report.problems.push(problem(format!("key {key} is in this split more than once")));
            }
        }
    }
    report.problems.extend(check_mean_image(directory, &info));
    report.problems.extend(check_for_strays(directory, &shards));
    Ok(report)
}

/// What one shard is like.
#[derive(Default)]
struct Outcome {
    images: u64,
    keys: Vec<String>,
    problems: Vec<String>,
}

/// Checks the shards in parallel; the outcomes are in their order.
fn check_shards(
    directory: &Path,
    info: &DatasetInfo,
    shards: &[(Split, u32, &ShardInfo)],
    workers: NonZeroUsize,
    on_shard: &(dyn Fn(u64) + Sync),
) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut outcomes = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(&(split, number, shard)) = shards.get(index) else { return outcomes };
            outcomes.push((index, check_shard(directory, info, split, number, shard)));
            on_shard(shard.bytes);
        }
    };
    let mut outcomes: Vec<(usize, Outcome)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..workers.get().min(shards.len())).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    outcomes.sort_by_key(|(index, _)| *index);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

fn check_shard(
    directory: &Path,
    info: &DatasetInfo,
    split: Split,
    number: u32,
    listed: &ShardInfo,
) -> Outcome {
    let mut outcome = Outcome::default();
    let expected_name = shard_file_name(split, number);
    if listed.file != expected_name {
        outcome.problems.push(format!("dataset.json lists it where {expected_name} is expected"));
        return outcome;
    }
    let path = directory.join(&listed.file);
    match digest(&path) {
        Err(error) => {
            outcome.problems.push(format!("cannot read: {error}"));
            return outcome;
        }
        Ok((bytes, _)) if bytes != listed.bytes => {
            outcome.problems.push(format!("{bytes} bytes, dataset.json says {}", listed.bytes));
        }
        Ok((_, digest)) if digest != listed.blake3 => {
            outcome.problems.push(format!("BLAKE3 digest {digest}, dataset.json says {}", listed.blake3));
        }
        Ok(_) => {}
    }
    match Shard::open(&path) {
        Ok(shard) => check_records(&shard, info, split, number, listed, &mut outcome),
        Err(error) => outcome.problems.push(without_path(&error, &path)),
    }
    outcome
}

fn check_records(
    shard: &Shard,
    info: &DatasetInfo,
    split: Split,
    number: u32,
    listed: &ShardInfo,
    outcome: &mut Outcome,
) {
    let header = shard.header();
    let mut compare = |what: &str, found: String, expected: String| {
        if found != expected {
            outcome.problems.push(format!("its header says {what} {found}, dataset.json says {expected}"));
        }
    };
    compare("split", header.split.to_string(), split.to_string());
    compare("shard", header.shard.to_string(), number.to_string());
    compare("encoding", header.encoding.to_string(), info.encoding.to_string());
    compare("image size", header.image_size.to_string(), info.image_size.to_string());
    compare("source", header.source.clone(), info.source.clone());
    if header.classes != info.classes {
        outcome.problems.push("its class list is not that of dataset.json".into());
    }
    if shard.len() as u64 != listed.images {
        outcome.problems.push(format!("{} images, dataset.json says {}", shard.len(), listed.images));
    }
    let mut photo = Photo::default();
    for index in 0..shard.len() {
        let record = shard.record(index);
        outcome.images += 1;
        outcome.keys.push(record.key.to_owned());
        let place = format!("record {index} ({})", record.key);
        if let Err(error) = shard.verify(index) {
            outcome.problems.push(without_path(&error, shard.path()));
        } else if header.encoding == Encoding::Jpeg {
            let decoded = PhotoFile::parse(record.image).and_then(|file| file.decode(&mut photo));
            let size = header.image_size;
            match decoded {
                Err(error) => outcome.problems.push(format!("{place}: {error}")),
                Ok(()) if (photo.width, photo.height) != (size, size) => {
                    let (width, height) = (photo.width, photo.height);
                    outcome
                        .problems
                        .push(format!("{place}: {width}x{height} pixels, expected {size}x{size}"));
                }
                Ok(()) => {}
            }
        }
    }
}

/// Problems are told with their path already.
fn without_path(error: &ShardError, path: &Path) -> String {
    let text = error.to_string();
    text.strip_prefix(&format!("{}: ", path.display())).map(str::to_owned).unwrap_or(text)
}

fn digest(path: &Path) -> io::Result<(u64, String)> {
    let mut hasher = blake3::Hasher::new();
    let bytes = io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok((bytes, hasher.finalize().to_hex().to_string()))
}

/// Its shape, and that its channels average to the means in `dataset.json`.
fn check_mean_image(directory: &Path, info: &DatasetInfo) -> Option<Problem> {
    let statistics = info.statistics.as_ref()?;
    let path = directory.join(DatasetInfo::MEAN_IMAGE_FILE_NAME);
    let problem = |what| Some(Problem { path: path.clone(), what });
    let mean = match File::open(&path).map(Array3::<f32>::read_npy) {
        Ok(Ok(mean)) => mean,
        Ok(Err(error)) => return problem(format!("not a NumPy file of f32 [3,S,S]: {error}")),
        Err(error) => return problem(format!("cannot read: {error}")),
    };
    let side = info.image_size as usize;
    if mean.shape() != [3, side, side] {
        return problem(format!("shape {:?}, expected {:?}", mean.shape(), [3, side, side]));
    }
    for (channel, expected) in mean.outer_iter().zip(statistics.mean) {
        let found = channel.iter().map(|&value| f64::from(value)).sum::<f64>() / (side * side) as f64;
        let off = (found - expected).abs();
        if off.is_nan() || off > MEAN_TOLERANCE {
            return problem(format!("a channel averages {found}, dataset.json says {expected}"));
        }
    }
    None
}

/// What rounding each pixel of the mean image to f32 may change.
const MEAN_TOLERANCE: f64 = 1e-4;

/// Shards that `dataset.json` does not list, and files that were never completed.
fn check_for_strays(directory: &Path, shards: &[(Split, u32, &ShardInfo)]) -> Vec<Problem> {
    let listed: HashSet<&str> = shards.iter().map(|(_, _, shard)| shard.file.as_str()).collect();
    let mut names: Vec<String> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    let stray = |name: &String| {
        if name.ends_with(PARTIAL) {
            Some("left by a preparation that was stopped; it can be removed".to_owned())
        } else if name.ends_with(".arrow") && !listed.contains(name.as_str()) {
            Some("not listed in dataset.json; it belongs to another data set".to_owned())
        } else {
            None
        }
    };
    names
        .iter()
        .filter_map(|name| stray(name).map(|what| Problem { path: directory.join(name), what }))
        .collect()
}
