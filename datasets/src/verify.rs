//! Reads every byte of a prepared data set again and lists every problem.

use std::collections::HashSet;
use std::fmt::Display;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{io, thread};

use fovea_files::{PartialFile, open_regular};
use fovea_pipeline::geometry::Size;
use fovea_pipeline::shard::{Shard, shard_file_name};
use fovea_pipeline::threads::MOST_THREADS;
use fovea_pipeline::{Dataset, DatasetError, DatasetInfo, Encoding, ShardInfo, Split};

use crate::photo::{Orientation, Photo, PhotoFile};

mod lists;

/// A file that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// What is wrong, with the position and the key of the record if it is about one.
    pub what: String,
}

/// The result of checking a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Shards that were read.
    pub shards: usize,
    /// Records that were read.
    pub images: u64,
    /// All problems, in the order of the files; empty if the data set is intact.
    pub problems: Vec<Problem>,
}

/// There is no data set to compare with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A preparation that is not finished.
    #[error("{}: the preparation is not finished; run the same prepare_imagenet command again", directory.display())]
    Unfinished {
        /// The folder.
        directory: PathBuf,
    },
    /// `dataset.json` is missing or unreadable.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
}

/// Opens the data set in `directory`.
///
/// # Errors
/// When its `dataset.json` is missing or unreadable.
pub fn open(directory: &Path) -> Result<Dataset, VerifyError> {
    Dataset::open(directory).map_err(|error| match error {
        DatasetError::NotPrepared { .. } if directory.join(DatasetInfo::PREPARATION_FILE_NAME).exists() => {
            VerifyError::Unfinished { directory: directory.into() }
        }
        error => error.into(),
    })
}

/// Checks every digest and checksum, every count, label and header, and that every JPEG decodes.
///
/// `on_shard` is called, by any thread, after each shard with the bytes that were read.
pub fn verify(dataset: &Dataset, workers: NonZeroUsize, on_shard: &(dyn Fn(u64) + Sync)) -> Report {
    let (directory, info) = (dataset.directory(), dataset.info());
    let mut report = Report::default();
    let shards: Vec<(Split, u32, &ShardInfo)> = Split::ALL
        .into_iter()
        .flat_map(|split| (0..).zip(info.shards(split)).map(move |(number, shard)| (split, number, shard)))
        .collect();
    let checked = check_shards(dataset, &shards, workers, on_shard);
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
    report.problems.extend(check_mean_image(dataset));
    report.problems.extend(lists::check(dataset, &keys));
    report.problems.extend(check_for_strays(directory, &shards));
    report
}

/// The result of checking one shard.
#[derive(Default)]
struct Outcome {
    images: u64,
    keys: Vec<String>,
    problems: Vec<String>,
}

/// Checks the shards in parallel; the outcomes are in their order.
fn check_shards(
    dataset: &Dataset,
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
            outcomes.push((index, check_shard(dataset, split, number, shard)));
            on_shard(shard.bytes);
        }
    };
    let mut outcomes: Vec<(usize, Outcome)> = thread::scope(|scope| {
        // This thread works too, and alone where the system starts no other.
        let others = (1..workers.get().min(shards.len()).min(MOST_THREADS))
            .map_while(|_| thread::Builder::new().spawn_scoped(scope, work).ok());
        let others: Vec<_> = others.collect();
        let mut outcomes = work();
        for thread in others {
            outcomes.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        outcomes
    });
    outcomes.sort_by_key(|(index, _)| *index);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

fn check_shard(dataset: &Dataset, split: Split, number: u32, listed: &ShardInfo) -> Outcome {
    let mut outcome = Outcome::default();
    let expected_name = shard_file_name(split, number);
    if listed.file != expected_name {
        outcome.problems.push(format!("dataset.json lists it where {expected_name} is expected"));
        return outcome;
    }
    let path = match dataset.files().fetch(listed, &|| true) {
        Ok(path) => path,
        Err(error) => {
            outcome.problems.push(error.to_string());
            return outcome;
        }
    };
    check_file(dataset, (split, number, listed), &path, &mut outcome);
    dataset.files().release(listed);
    outcome
}

fn check_file(
    dataset: &Dataset,
    (split, number, listed): (Split, u32, &ShardInfo),
    path: &Path,
    outcome: &mut Outcome,
) {
    match digest(path) {
        Err(error) => {
            outcome.problems.push(format!("cannot read: {error}"));
            return;
        }
        Ok((bytes, _)) if bytes != listed.bytes => {
            outcome.problems.push(format!("{bytes} bytes, dataset.json says {}", listed.bytes));
        }
        Ok((_, digest)) if digest != listed.blake3 => {
            outcome.problems.push(format!("BLAKE3 digest {digest}, dataset.json says {}", listed.blake3));
        }
        Ok(_) => {}
    }
    match Shard::open(path) {
        Ok(shard) => {
            let disagreements = dataset.disagreements(&shard, split, number as usize);
            outcome.problems.extend(disagreements.iter().map(|error| without_path(error, path)));
            check_records(&shard, outcome);
        }
        Err(error) => outcome.problems.push(without_path(&error, path)),
    }
}

fn check_records(shard: &Shard, outcome: &mut Outcome) {
    let header = shard.header();
    let mut photo = Photo::default();
    for index in 0..shard.len() {
        let record = shard.record(index);
        outcome.images += 1;
        let key = shard.key(index);
        let place = format!("record {index} ({key})");
        outcome.keys.push(key);
        if let Err(error) = shard.verify(index) {
            outcome.problems.push(without_path(&error, shard.path()));
        } else if header.encoding == Encoding::Jpeg {
            let decoded =
                PhotoFile::parse(record.image).and_then(|file| file.decode(Orientation::Ignore, &mut photo));
            let found = Size { width: photo.width, height: photo.height };
            match decoded {
                Err(error) => outcome.problems.push(format!("{place}: {error}")),
                Ok(()) if found != record.size => {
                    outcome.problems.push(format!("{place}: {found} pixels, expected {}", record.size));
                }
                Ok(()) => {}
            }
        }
    }
}

/// The text without its path, which a [`Problem`] has already.
fn without_path(error: &impl Display, path: &Path) -> String {
    let text = error.to_string();
    text.strip_prefix(&format!("{}: ", path.display())).map(str::to_owned).unwrap_or(text)
}

fn digest(path: &Path) -> io::Result<(u64, String)> {
    let mut hasher = blake3::Hasher::new();
    let bytes = io::copy(&mut open_regular(path)?, &mut hasher)?;
    Ok((bytes, hasher.finalize().to_hex().to_string()))
}

/// Checks the shape of the mean image, if images have one, and that its channels average to the means in
/// `dataset.json`.
fn check_mean_image(dataset: &Dataset) -> Option<Problem> {
    let statistics = dataset.info().statistics.as_ref().filter(|_| dataset.info().image_shape.is_square())?;
    let path = dataset.directory().join(DatasetInfo::MEAN_IMAGE_FILE_NAME);
    let mean = match dataset.mean_image() {
        Ok(mean) => mean,
        Err(error) => return Some(Problem { what: without_path(&error, &path), path }),
    };
    for (channel, expected) in mean.outer_iter().zip(statistics.mean) {
        let found = channel.iter().map(|&value| f64::from(value)).sum::<f64>() / channel.len() as f64;
        let off = (found - expected).abs();
        if off.is_nan() || off > MEAN_TOLERANCE {
            return Some(Problem {
                path,
                what: format!("a channel averages {found}, dataset.json says {expected}"),
            });
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
        if name.ends_with(PartialFile::SUFFIX) {
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
