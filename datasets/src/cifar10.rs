//! CIFAR-10 in its binary form: `data_batch_1.bin` … `data_batch_5.bin` and `test_batch.bin`, in a folder or
//! in `cifar-10-binary.tar.gz`.
//!
//! A record has 3073 bytes: the label, then the planes R, G and B of 32×32 pixels each.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fovea_pipeline::summary::count;
use fovea_pipeline::{Class, Split};

use crate::collection::ClassList;
use crate::note::listed;
use crate::positioned::{PositionedFile, stamp};
use crate::tar_folder::Archive;
use crate::{Entry, Note, Payload, Source, SourceError, Stamp};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const RECORD: usize = 1 + 3 * PLANE;
const TRAIN_BATCHES: [&str; 5] =
    ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];
/// Records of each batch of the official files.
const RECORDS: u64 = 10_000;
const VAL_BATCHES: [&str; 1] = ["test_batch.bin"];
const NAMES: &str = "batches.meta.txt";
/// The names in the order of the labels, which is that of the alphabet.
const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// The images and labels of CIFAR-10.
#[derive(Debug)]
pub(crate) struct Cifar10 {
    classes: Vec<Class>,
    train: SplitRecords,
    val: SplitRecords,
    notes: Vec<Note>,
}

#[derive(Debug, Default)]
struct SplitRecords {
    entries: Vec<Entry>,
    /// The batch file and the place of each image's record.
    records: Vec<(Arc<PositionedFile>, u64)>,
}

/// A file of the data set: its name and where it lies.
struct Part {
    name: &'static str,
    file: Arc<PositionedFile>,
    range: Range<u64>,
}

/// The folder with the batches: `root` or the one in it with the usual name.
pub(crate) fn find(root: &Path) -> Option<PathBuf> {
    [root.to_owned(), root.join("cifar-10-batches-bin")]
        .into_iter()
        .find(|folder| all_batches().any(|batch| folder.join(batch).is_file()))
}

/// Whether the archive holds the batches.
pub(crate) fn is_in(archive: &Archive) -> bool {
    archive.members.iter().any(|member| all_batches().any(|batch| file_name(&member.name) == batch))
}

fn all_batches() -> impl Iterator<Item = &'static str> {
    TRAIN_BATCHES.into_iter().chain(VAL_BATCHES)
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

impl Cifar10 {
    /// Opens the folder that [`find`] found.
    pub(crate) fn in_folder(folder: &Path) -> Result<Self, SourceError> {
        let mut parts = Vec::new();
        for name in all_batches().chain([NAMES]).filter(|name| folder.join(name).is_file()) {
            let file = Arc::new(PositionedFile::open(&folder.join(name))?);
            let range = 0..file.len();
            parts.push(Part { name, file, range });
        }
        Self::from_parts(folder, parts)
    }

    /// Opens the archive that [`is_in`] approved.
    pub(crate) fn in_archive(archive: &Archive) -> Result<Self, SourceError> {
        let mut parts = Vec::new();
        for name in all_batches().chain([NAMES]) {
            if let Some(member) = archive.members.iter().find(|member| file_name(&member.name) == name) {
                parts.push(Part { name, file: Arc::clone(&archive.file), range: member.range() });
            }
        }
        Self::from_parts(archive.file.path(), parts)
    }

    /// `origin` is the folder or archive, for errors.
    fn from_parts(origin: &Path, parts: Vec<Part>) -> Result<Self, SourceError> {
        let names = match parts.iter().find(|part| part.name == NAMES) {
            Some(part) => read_names(part)?,
            None => CLASSES.map(str::to_owned).to_vec(),
        };
        let list = ClassList::from_names(names.clone(), origin)?;
        // Labels follow the order of the names, indices the order of the alphabet.
        let labels: Vec<u32> = names.iter().filter_map(|name| list.index(name)).map(|i| i as u32).collect();
        let images = |batches: &[&str]| {
            let mut images = SplitRecords::default();
            for batch in batches {
                let Some(part) = parts.iter().find(|part| part.name == *batch) else {
                    return Err(SourceError::Missing {
                        path: origin.to_owned(),
                        missing: (*batch).to_owned(),
                        remedy: "download CIFAR-10 again; it has six batches".to_owned(),
                    });
                };
                images.read_labels(part, &labels)?;
            }
            Ok(images)
        };
        let (train, val) = (images(&TRAIN_BATCHES)?, images(&VAL_BATCHES)?);
        let notes = other_counts(origin, &parts).into_iter().collect();
        Ok(Self { classes: list.classes, train, val, notes })
    }

    fn images(&self, split: Split) -> &SplitRecords {
        match split {
            Split::Train => &self.train,
            Split::Val => &self.val,
        }
    }
}

/// Compares the batches with the official ones.
fn other_counts(origin: &Path, parts: &[Part]) -> Option<Note> {
    let records = |part: &Part| (part.range.end - part.range.start) / RECORD as u64;
    let others: Vec<&Part> =
        parts.iter().filter(|part| part.name != NAMES && records(part) != RECORDS).collect();
    let described = others.iter().map(|part| format!("{} in {}", count(records(part), "image"), part.name));
    let message = format!(
        "not the batches of CIFAR-10, which have {RECORDS} images each: {}",
        listed(described, others.len())
    );
    let names: Vec<String> = others.iter().map(|part| part.name.to_owned()).collect();
    (!names.is_empty()).then(|| Note::about("counts", origin, names, message))
}

impl SplitRecords {
    fn read_labels(&mut self, part: &Part, labels: &[u32]) -> Result<(), SourceError> {
        let bytes = part.range.end - part.range.start;
        let damaged = |offset: u64, expected: String, found: String| SourceError::Damaged {
            path: part.file.path().to_owned(),
            offset,
            expected,
            found,
            remedy: "download CIFAR-10 again",
        };
        if bytes == 0 || !bytes.is_multiple_of(RECORD as u64) {
            let expected = format!("records of {RECORD} bytes in {}", part.name);
            return Err(damaged(part.range.start, expected, format!("{bytes} bytes")));
        }
        let stem = part.name.trim_end_matches(".bin");
        for (i, offset) in part.range.clone().step_by(RECORD).enumerate() {
            let mut byte = [0];
            part.file.read_at(offset, &mut byte)?;
            let Some(&label) = labels.get(usize::from(byte[0])) else {
                return Err(damaged(offset, format!("a label below {}", labels.len()), byte[0].to_string()));
            };
            self.entries.push(Entry { key: format!("{stem}/{i:05}"), label });
            self.records.push((Arc::clone(&part.file), offset));
        }
        Ok(())
    }
}

fn read_names(part: &Part) -> Result<Vec<String>, SourceError> {
    const MAX_BYTES: u64 = 1 << 16;
    let mut bytes = vec![0; (part.range.end - part.range.start).min(MAX_BYTES) as usize];
    part.file.read_at(part.range.start, &mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

impl Source for Cifar10 {
    fn name(&self) -> &'static str {
        "cifar10"
    }

    fn classes(&self) -> &[Class] {
        &self.classes
    }

    fn entries(&self, split: Split) -> &[Entry] {
        &self.images(split).entries
    }

    fn notes(&self) -> &[Note] {
        &self.notes
    }

    fn stamp(&self, split: Split, index: usize) -> Result<Option<Stamp>, SourceError> {
        let (file, _) = &self.images(split).records[index];
        Ok(Some(Stamp { bytes: RECORD as u64, changed: stamp(file.path())?.changed }))
    }

    fn read<'b>(
        &self,
        split: Split,
        index: usize,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Payload<'b>, SourceError> {
        let (file, offset) = &self.images(split).records[index];
        let mut planes = [0; 3 * PLANE];
        file.read_at(offset + 1, &mut planes)?;
        buffer.clear();
        buffer.extend((0..PLANE).flat_map(|i| [planes[i], planes[PLANE + i], planes[2 * PLANE + i]]));
        Ok(Payload::Pixels { width: SIDE as u32, height: SIDE as u32, rgb: buffer })
    }
}
