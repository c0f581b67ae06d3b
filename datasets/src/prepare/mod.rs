//! From a source of labelled images to shards, statistics and a list of what could not be read.
//!
//! A folder fills like this:
//!
//! | file | when |
//! | --- | --- |
//! | `files.tsv` | first: the images of the source, with their sizes and times |
//! | `preparation.json` | then: everything that the bytes of the shards depend on ([`Preparation`]) |
//! | `train-00000.arrow`, …, `val-00000.arrow`, … | one after the other, in this order |
//! | `progress.json` | replaced after each shard: what is finished, the sums over it; removed at the end |
//! | `rejected.tsv`, `mean_image.npy` | after the last shard |
//! | `dataset.json` | last: a data set that has it is complete |
//!
//! Each file is written under a temporary name, synced and renamed. A run that is killed at any moment leaves
//! finished shards and a state that matches them; the next run with the same options continues from there and
//! ends with the same bytes, for any number of workers. Of finished shards all but the pixels is checked;
//! [`verify`](crate::verify) reads every byte.
//!
//! An image that has been added, removed or changed since is noticed ([`Changes`]): where its size or time
//! differs from `files.tsv`, its pixels are compared with those in the shards.

mod changes;
mod compare;
mod durable;
mod error;
mod list;
mod options;
mod plan;
mod progress;
mod rejected;
mod run;
mod worker;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fovea_files::{FileLock, remove_partial_files, seal};
use fovea_pipeline::shard::{Shard, ShardHeader, shard_file_name};
use fovea_pipeline::{DatasetInfo, LabelKind, Split};
use ndarray_npy::WriteNpyExt;

pub use changes::Changes;
pub use error::PrepareError;
pub(crate) use list::{LIST_FILE, LIST_HEADER};
pub use options::PrepareOptions;
pub use plan::Preparation;
pub use progress::Progress;
pub(crate) use rejected::REJECTED_HEADER;
pub use rejected::{REJECTED_FILE, Rejection};

use plan::{ShardPlan, WRITER};
use progress::{Finished, PROGRESS_FILE};
use run::Run;

use crate::photo::Orientation;
use crate::{Note, Source};

/// A preparation that has locked its folder.
///
/// No other preparation can write there until this is dropped.
pub struct Preparer<'a> {
    source: &'a dyn Source,
    options: PrepareOptions,
    directory: PathBuf,
    plan: ShardPlan,
    finished: Finished,
    complete: Option<DatasetInfo>,
    taken_in: Option<Note>,
    /// On the folder itself.
    _lock: FileLock,
}

/// The result of a preparation.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The content of `dataset.json`.
    pub info: DatasetInfo,
    /// Whether photos were turned upright.
    pub orientation: Orientation,
    /// Images that could not be decoded; they are listed in `rejected.tsv`.
    pub rejected: u64,
    /// Shards that an earlier run had finished.
    pub shards_kept: usize,
    /// What is to be said about the result.
    pub notes: Vec<Note>,
}

impl<'a> Preparer<'a> {
    /// Creates the folder if need be, locks it and reads what an earlier run has finished.
    ///
    /// # Errors
    /// When an option is out of its range, the source is empty, or the folder cannot be written to, is in
    /// use, or holds another preparation.
    pub fn new(
        source: &'a dyn Source,
        options: PrepareOptions,
        directory: &Path,
    ) -> Result<Self, PrepareError> {
        options.validate()?;
        if options.limit_per_class.is_some() && source.label_kind() != LabelKind::Class {
            return Err(PrepareError::Option {
                option: "limit-per-class",
                given: format!("a limit for labels of the kind {}", source.label_kind()),
                expected: "labels of one class".into(),
            });
        }
        let plan = ShardPlan::new(source, &options)?;
        fs::create_dir_all(directory).map_err(PrepareError::io(directory, "create"))?;
        let lock = FileLock::try_acquire_folder(directory)?
            .ok_or_else(|| PrepareError::Busy { directory: directory.into() })?;
        let preparation = Preparation::new(source, &options);
        let there = preparation_there(&preparation, directory)?;
        remove_partial_files(directory)?;

        let list = list::of(source)?;
        let mut preparer = Preparer {
            source,
            complete: None,
            finished: Finished::nothing(options.mean_values()),
            taken_in: None,
            options,
            directory: directory.into(),
            plan,
            _lock: lock,
        };
        let is_begun =
            [DatasetInfo::FILE_NAME, PROGRESS_FILE].iter().any(|name| directory.join(name).exists());
        if let (Some(there), true) = (there, is_begun) {
            let changes = preparer.load(preparation == there, &list)?;
            if changes.is_empty() {
                return Ok(preparer);
            }
            preparer.begin_anew(changes)?;
        }
        // The list first: where a preparation has been begun, it has its list.
        list::write(directory, &list)?;
        durable::write(&directory.join(DatasetInfo::PREPARATION_FILE_NAME), &preparation.to_json())?;
        Ok(preparer)
    }

    /// Reads what an earlier run has finished; returns in what its images differ from those of `list`.
    fn load(&mut self, is_same: bool, list: &str) -> Result<Changes, PrepareError> {
        let before = list::read(&self.directory)?;
        let differences = before.as_deref().map(|before| list::compare(before, list)).unwrap_or_default();
        if !is_same {
            let names = |images: Vec<_>| images.into_iter().map(list::name).collect::<Vec<_>>();
            let (added, removed) = (names(differences.added), names(differences.removed));
            let changed = names([differences.moved, differences.touched].concat());
            let unlisted = added.is_empty() && removed.is_empty() && changed.is_empty();
            return Ok(Changes { added, removed, changed, unlisted, ..Changes::default() });
        }
        self.complete = durable::read_json(&self.directory.join(DatasetInfo::FILE_NAME))?;
        let rejected = if let Some(info) = &self.complete {
            let images: u64 = Split::ALL.into_iter().map(|split| info.images(split)).sum();
            rejected::keys(&self.directory, self.images().saturating_sub(images))?
        } else {
            let (classes, mean_values) = (self.source.classes().len(), self.options.mean_values());
            self.finished = Finished::load(&self.directory, &self.plan, classes, mean_values)?;
            check_finished(&mut self.finished, &self.directory)?;
            self.finished.rejected.iter().map(Rejection::printable_name).collect()
        };
        let shards = &self.plan.shards[..self.shards_kept()];
        let folder = compare::Folder { directory: &self.directory, shards, rejected };
        // Of images that a damaged list lacks nothing is known.
        let touched = [differences.touched, differences.added].concat().into_iter().collect();
        let changes = compare::look(self.source, &self.options, &self.plan, &folder, &touched)?;
        if changes.is_empty() && before.is_some_and(|before| before != list) {
            list::write(&self.directory, list)?;
        }
        Ok(changes)
    }

    /// Discards what an earlier run has finished, unless only `update` allows that.
    fn begin_anew(&mut self, changes: Changes) -> Result<(), PrepareError> {
        if !changes.only_mends() && !self.options.update {
            let directory = self.directory.clone();
            return Err(PrepareError::OtherImages { directory, changes: changes.into() });
        }
        // In this order: a state that is left would end with the old shards. They are replaced.
        remove_if_there(&self.directory.join(PROGRESS_FILE))?;
        remove_if_there(&self.directory.join(DatasetInfo::FILE_NAME))?;
        self.complete = None;
        self.finished = Finished::nothing(self.options.mean_values());
        let message = format!("prepared again, because its images have changed: {changes}");
        self.taken_in = Some(Note::about("prepared-again", &self.directory, changes.names(), message));
        Ok(())
    }

    /// What is to be said where an earlier preparation is done again because images have changed since.
    #[must_use]
    pub fn taken_in(&self) -> Option<&Note> {
        self.taken_in.as_ref()
    }

    /// Images of both splits.
    #[must_use]
    pub fn images(&self) -> u64 {
        self.plan.images()
    }

    /// Shards of both splits.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.plan.shards.len()
    }

    /// Shards that an earlier run has finished.
    #[must_use]
    pub fn shards_kept(&self) -> usize {
        match self.complete {
            Some(_) => self.shards(),
            None => self.finished.shards.len(),
        }
    }

    /// Images in the shards that an earlier run has finished, the rejected ones included.
    #[must_use]
    pub fn images_kept(&self) -> u64 {
        self.plan.shards[..self.shards_kept()].iter().map(|shard| shard.positions.len() as u64).sum()
    }

    /// Approximate size of the shards that are not written yet, in bytes.
    #[must_use]
    pub fn expected_bytes(&self) -> u64 {
        (self.images() - self.images_kept()) * self.options.expected_record_bytes()
    }

    /// Writes the missing shards, the statistics, and finally `dataset.json`. Returns at once if it is
    /// complete.
    ///
    /// # Errors
    /// When the source cannot be read, the disk is full, no image could be decoded at all, or `progress` was
    /// cancelled. Finished shards are kept, and a later run continues from them.
    pub fn run(self, progress: &Progress) -> Result<Summary, PrepareError> {
        let shards_kept = self.shards_kept();
        if let Some(info) = self.complete {
            // A run may have been killed between its last two steps.
            remove_if_there(&self.directory.join(PROGRESS_FILE))?;
            let rejected = rejected::count(&self.directory)?;
            progress.add(self.plan.images(), rejected);
            let notes = rejected::lost_classes(&self.directory, self.source, &self.plan)?;
            let orientation = self.options.orientation;
            return Ok(Summary { info, orientation, rejected, shards_kept, notes });
        }
        progress.add(self.images_kept(), self.finished.rejected.len() as u64);
        let image_shape = self.options.fit.image_shape();
        let format_version = image_shape.format_version(self.source.label_kind());
        let header = |split, shard| ShardHeader {
            format_version,
            writer: WRITER.into(),
            source: self.source.name().into(),
            split,
            shard,
            encoding: self.options.encoding,
            image_size: self.options.size,
            image_shape,
            labels: self.source.label_kind(),
            classes: self.source.classes().to_vec(),
        };
        let run = Run {
            source: self.source,
            options: &self.options,
            plan: &self.plan,
            directory: &self.directory,
            progress,
            header: &header,
        };
        let finished = run.write_shards(self.finished)?;
        let info = DatasetInfo {
            format_version,
            writer: WRITER.into(),
            source: self.source.name().into(),
            image_size: self.options.size,
            image_shape,
            encoding: self.options.encoding,
            train: finished.shards_of(Split::Train),
            val: finished.shards_of(Split::Val),
            statistics: finished.statistics.colors(),
            mean_image_blake3: None,
            turned_images: finished.turned,
            cut_images: finished.cut,
            labels: self.source.label_kind(),
            classes: self.source.classes().to_vec(),
        };
        let info = complete(&self.directory, &finished, info)?;
        let (orientation, rejected) = (self.options.orientation, finished.rejected.len() as u64);
        let notes = rejected::lost_classes(&self.directory, self.source, &self.plan)?;
        Ok(Summary { info, orientation, rejected, shards_kept, notes })
    }
}

/// Writes the files that follow the last shard; returns the content of `dataset.json`.
fn complete(
    directory: &Path,
    finished: &Finished,
    mut info: DatasetInfo,
) -> Result<DatasetInfo, PrepareError> {
    rejected::write(directory, &finished.rejected, &info)?;
    let images: u64 = Split::ALL.into_iter().map(|split| info.images(split)).sum();
    if images == 0 {
        return Err(PrepareError::AllRejected {
            images: finished.rejected.len() as u64,
            list: directory.join(REJECTED_FILE),
        });
    }
    if let Some(mean) = finished.statistics.mean_image() {
        let mut npy = Vec::new();
        mean.write_npy(&mut npy).expect("writing to memory does not fail");
        durable::write(&directory.join(DatasetInfo::MEAN_IMAGE_FILE_NAME), &npy)?;
        info.mean_image_blake3 = Some(blake3::hash(&npy).to_string());
    } else {
        remove_if_there(&directory.join(DatasetInfo::MEAN_IMAGE_FILE_NAME))?;
    }
    remove_other_shards(directory, &info)?;
    let sealed = seal(&info).and_then(|sealed| serde_json::to_string_pretty(&sealed));
    let mut text = sealed.expect("the description is strings and numbers");
    text.push('\n');
    durable::write(&directory.join(DatasetInfo::FILE_NAME), text.as_bytes())?;
    remove_if_there(&directory.join(PROGRESS_FILE))?;
    Ok(info)
}

/// Reads the `preparation.json` of the folder, if there is one, and compares the options.
fn preparation_there(here: &Preparation, directory: &Path) -> Result<Option<Preparation>, PrepareError> {
    if let Some(there) = Preparation::read(directory)? {
        return match here.difference(&there) {
            None => Ok(Some(there)),
            Some((field, here, there)) => {
                Err(PrepareError::OtherPreparation { directory: directory.into(), field, there, here })
            }
        };
    }
    if let Some(file) = file_names(directory)?.into_iter().find(|name| name.ends_with(".arrow")) {
        return Err(PrepareError::UnknownShards { directory: directory.into(), file });
    }
    Ok(None)
}

/// Checks size, number of records, labels, keys and checksums of the finished shards.
fn check_finished(finished: &mut Finished, directory: &Path) -> Result<(), PrepareError> {
    for (_, info) in &mut finished.shards {
        let path = directory.join(&info.file);
        let digest =
            |digest: &str| format!("{} bytes with the digest {digest} of labels and keys", info.bytes);
        let (found, expected) = match fs::metadata(&path) {
            Err(error) => (error.to_string(), format!("{} bytes", info.bytes)),
            Ok(metadata) if metadata.len() != info.bytes => {
                (format!("{} bytes", metadata.len()), format!("{} bytes", info.bytes))
            }
            Ok(_) => {
                let shard = Shard::open(&path)?;
                let found = shard.records_blake3();
                match &info.records_blake3 {
                    _ if shard.len() as u64 != info.images => {
                        (format!("{} images", shard.len()), format!("{} images", info.images))
                    }
                    Some(expected) if *expected != found => (digest(&found), digest(expected)),
                    _ => {
                        // It was finished by an earlier version, which had no digest.
                        info.records_blake3 = Some(found);
                        continue;
                    }
                }
            }
        };
        return Err(PrepareError::Changed { path, found, expected, progress: directory.join(PROGRESS_FILE) });
    }
    Ok(())
}

/// Removes the shards of an earlier preparation that had more of them.
fn remove_other_shards(directory: &Path, info: &DatasetInfo) -> Result<(), PrepareError> {
    let is_shard = |split: Split, name: &str| {
        let number = name.strip_prefix(split.name()).and_then(|name| name.strip_prefix('-'));
        number
            .and_then(|name| name.strip_suffix(".arrow")?.parse().ok())
            .is_some_and(|number| shard_file_name(split, number) == name)
    };
    for name in file_names(directory)? {
        for split in Split::ALL {
            if is_shard(split, &name) && info.shards(split).iter().all(|shard| shard.file != name) {
                remove_if_there(&directory.join(&name))?;
            }
        }
    }
    Ok(())
}

fn file_names(directory: &Path) -> Result<Vec<String>, PrepareError> {
    let read = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort();
        Ok(names)
    };
    read().map_err(PrepareError::io(directory, "list"))
}

fn remove_if_there(path: &Path) -> Result<(), PrepareError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PrepareError::io(path, "remove")(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod keep_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod update_tests;
