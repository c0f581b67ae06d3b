//! The list of images that could not be decoded.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use fovea_files::read_regular_text;
use fovea_pipeline::summary;
use fovea_pipeline::text::printable;
use fovea_pipeline::{Class, DatasetInfo, LabelKind, Split};
use serde::{Deserialize, Serialize};

use super::plan::ShardPlan;
use super::{PrepareError, durable};
use crate::note::listed;
use crate::{Note, Source};

/// Name of the list, next to the shards.
pub const REJECTED_FILE: &str = "rejected.tsv";

/// Its first line.
pub(crate) const REJECTED_HEADER: &str = "split\tclass\tkey\treason\n";

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

impl Rejection {
    /// Split and key as they are written in the list.
    pub(crate) fn printable_name(&self) -> (String, String) {
        (self.split.name().to_owned(), printable(&self.key).into_owned())
    }
}

/// Writes the list; without rejections only its header. Images whose labels are no classes have `-` in place
/// of one.
pub(crate) fn write(
    directory: &Path,
    rejected: &[Rejection],
    info: &DatasetInfo,
) -> Result<(), PrepareError> {
    let mut text = String::from(REJECTED_HEADER);
    for rejection in rejected {
        let fields = [
            rejection.split.name(),
            match info.labels {
                LabelKind::Class => &info.classes[rejection.label as usize].wnid,
                LabelKind::MultiHot | LabelKind::Values => "-",
            },
            &rejection.key,
            &rejection.reason,
        ];
        let fields = fields.map(printable);
        text.push_str(&fields.join("\t"));
        text.push('\n');
    }
    durable::write(&directory.join(REJECTED_FILE), text.as_bytes())
}

/// Split and key, as they are written in the list, of each image in it: of `expected` images.
pub(crate) fn keys(directory: &Path, expected: u64) -> Result<HashSet<(String, String)>, PrepareError> {
    let text = read(directory)?;
    let keys: HashSet<_> = rows(&text).map(|[split, _, key]| (split.to_owned(), key.to_owned())).collect();
    if keys.len() as u64 != expected {
        return Err(PrepareError::Unreadable {
            path: directory.join(REJECTED_FILE),
            reason: format!(
                "it lists {}, but {expected} are in no shard: it was changed or damaged",
                summary::count(keys.len() as u64, "image")
            ),
        });
    }
    Ok(keys)
}

/// The number of images in the list.
pub(crate) fn count(directory: &Path) -> Result<u64, PrepareError> {
    Ok(read(directory)?.lines().skip(1).count() as u64)
}

/// A note for each split that names the classes all of whose images are in the list.
pub(crate) fn lost_classes(
    directory: &Path,
    source: &dyn Source,
    plan: &ShardPlan,
) -> Result<Vec<Note>, PrepareError> {
    if source.label_kind() != LabelKind::Class {
        return Ok(Vec::new());
    }
    let text = read(directory)?;
    let mut rejected: HashMap<(&str, &str), u64> = HashMap::new();
    for [split, class, _] in rows(&text) {
        *rejected.entry((split, class)).or_default() += 1;
    }
    let mut notes = Vec::new();
    for split in Split::ALL {
        let mut images = vec![0; source.classes().len()];
        for &entry in plan.order(split) {
            images[source.entries(split)[entry as usize].label as usize] += 1;
        }
        let is_lost = |class: &Class, images: u64| {
            images > 0 && rejected.get(&(split.name(), &*printable(&class.wnid))) == Some(&images)
        };
        let classes = source.classes().iter().zip(&images);
        let lost = classes.filter(|(class, images)| is_lost(class, **images));
        let names: Vec<String> = lost.map(|(class, _)| class.wnid.clone()).collect();
        if !names.is_empty() {
            let message = format!(
                "none of the {split} images of {} could be decoded: {}",
                summary::count(names.len() as u64, "class"),
                listed(&names, names.len())
            );
            notes.push(Note::about("rejected-classes", &directory.join(REJECTED_FILE), names, message));
        }
    }
    Ok(notes)
}

fn read(directory: &Path) -> Result<String, PrepareError> {
    let path = directory.join(REJECTED_FILE);
    read_regular_text(&path).map_err(PrepareError::io(&path, "read"))
}

/// Split, class and key of each image in the list.
fn rows(list: &str) -> impl Iterator<Item = [&str; 3]> {
    list.lines().skip(1).filter_map(|line| {
        let mut fields = line.split('\t');
        Some([fields.next()?, fields.next()?, fields.next()?])
    })
}
