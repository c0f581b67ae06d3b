//! Which image goes into which shard: decided before the first one is read.

use std::ops::Range;
use std::path::Path;

use fovea_files::seal;
use fovea_pipeline::shard::shard_file_name;
use fovea_pipeline::{DatasetInfo, Encoding, Label, LabelKind, Split};
use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{PrepareError, PrepareOptions, durable};
use crate::photo::{Filter, Fit, Orientation};
use crate::{Entry, Source};

/// The program and version that writes shards.
pub(crate) const WRITER: &str = concat!("fovea ", env!("CARGO_PKG_VERSION"));

/// Everything that the bytes of the shards depend on: the content of `preparation.json`.
///
/// A run continues an earlier one only if both have the same. The fields are named like the options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Preparation {
    /// Version of the shard format.
    pub format_version: u32,
    /// The program and version.
    pub writer: String,
    /// Name of the source's layout.
    pub source: String,
    /// Training images of the source.
    pub train_images: usize,
    /// Validation images of the source.
    pub val_images: usize,
    /// BLAKE3 digest of the source's classes, keys and labels.
    pub listing: String,
    /// Side of the images in pixels; the shorter side if photos keep their proportions.
    pub size: u32,
    /// Whether photos are turned upright; not in the file if they are not.
    #[serde(default, skip_serializing_if = "is_ignore")]
    pub orientation: Orientation,
    /// What becomes of a rectangle.
    pub resize: Fit,
    /// The kernel for resizing.
    pub filter: Filter,
    /// How images are stored.
    pub encoding: Encoding,
    /// JPEG quality, for JPEG shards.
    pub quality: Option<u8>,
    /// Seed of the order of the training images.
    pub seed: u64,
    /// Approximate size of a shard.
    pub shard_size: u64,
    /// Images of each class and split at most.
    pub limit_per_class: Option<usize>,
}

impl Preparation {
    /// The one in `directory`; `None` if there is none.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn read(directory: &Path) -> Result<Option<Self>, PrepareError> {
        durable::read_json(&directory.join(DatasetInfo::PREPARATION_FILE_NAME))
    }

    pub(crate) fn new(source: &dyn Source, options: &PrepareOptions) -> Self {
        Self {
            format_version: options.fit.image_shape().format_version(source.label_kind()),
            writer: WRITER.into(),
            source: source.name().into(),
            train_images: source.entries(Split::Train).len(),
            val_images: source.entries(Split::Val).len(),
            listing: listing_digest(source),
            size: options.size,
            orientation: options.orientation,
            resize: options.fit,
            filter: options.filter,
            encoding: options.encoding,
            quality: (options.encoding == Encoding::Jpeg).then_some(options.quality),
            seed: options.seed,
            shard_size: options.shard_bytes,
            limit_per_class: options.limit_per_class,
        }
    }

    /// The content of the file.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let sealed = seal(self).and_then(|sealed| serde_json::to_string_pretty(&sealed));
        let mut text = sealed.expect("a preparation is strings and numbers");
        text.push('\n');
        text.into_bytes()
    }

    /// The first option in which `other` differs: its name, the value here and the value there.
    pub(crate) fn difference(&self, other: &Self) -> Option<(String, String, String)> {
        // The images are compared one by one.
        let other = Self {
            train_images: self.train_images,
            val_images: self.val_images,
            listing: self.listing.clone(),
            ..other.clone()
        };
        let fields = |preparation: &Self| match serde_json::to_value(preparation) {
            Ok(Value::Object(mut fields)) => {
                fields.insert("orientation".into(), preparation.orientation.name().into());
                fields
            }
            _ => unreachable!("a preparation is a struct of strings and numbers"),
        };
        let there = fields(&other);
        fields(self).into_iter().find_map(|(name, here)| {
            let other = there.get(&name).unwrap_or(&Value::Null);
            (*other != here).then(|| (name, here.to_string(), other.to_string()))
        })
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_ignore(orientation: &Orientation) -> bool {
    *orientation == Orientation::Ignore
}

/// Digest of the classes, keys and labels of a source.
fn listing_digest(source: &dyn Source) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut text = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    for class in source.classes() {
        text(&class.wnid);
        text(&class.name);
        text(&class.ilsvrc_id.map(|id| id.to_string()).unwrap_or_default());
    }
    if source.label_kind() != LabelKind::Class {
        text(source.label_kind().name());
    }
    for split in Split::ALL {
        text(split.name());
        for (index, entry) in source.entries(split).iter().enumerate() {
            text(&entry.key);
            text(&label_text(source.label(split, index)));
        }
    }
    hasher.finalize().to_hex().to_string()
}

fn label_text(label: Label<'_>) -> String {
    match label {
        Label::Class(class) => class.to_string(),
        Label::MultiHot(marks) => marks.iter().map(u8::to_string).collect(),
        Label::Values(values) => values.iter().map(|value| format!("{:08x}", value.to_bits())).collect(),
    }
}

/// The images of both splits in the order in which they are written, cut into shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShardPlan {
    /// Positions in the source's entries, for each split.
    order: [Vec<u32>; 2],
    /// Training shards first.
    pub shards: Vec<PlannedShard>,
}

/// A shard to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlannedShard {
    pub split: Split,
    /// Position among the shards of its split.
    pub number: u32,
    /// Positions in the order of its split.
    pub positions: Range<usize>,
}

impl PlannedShard {
    pub(crate) fn file_name(&self) -> String {
        shard_file_name(self.split, self.number)
    }
}

impl ShardPlan {
    /// Plans the shards. Their boundaries depend on the number of images, never on their content.
    pub(crate) fn new(source: &dyn Source, options: &PrepareOptions) -> Result<Self, PrepareError> {
        let order = Split::ALL.map(|split| {
            let mut order = selection(source.entries(split), source.classes().len(), options.limit_per_class);
            if split == Split::Train {
                shuffle(&mut order, options.seed);
            }
            order
        });
        let per_shard = options.images_per_shard();
        let mut shards = Vec::new();
        for (split, order) in Split::ALL.into_iter().zip(&order) {
            for (number, start) in (0..order.len()).step_by(per_shard).enumerate() {
                let positions = start..order.len().min(start.saturating_add(per_shard));
                shards.push(PlannedShard { split, number: number as u32, positions });
            }
        }
        if shards.is_empty() {
            return Err(PrepareError::NoImages { source_name: source.name() });
        }
        Ok(Self { order, shards })
    }

    /// Positions in the source's entries, in the order in which they are written.
    pub(crate) fn order(&self, split: Split) -> &[u32] {
        match split {
            Split::Train => &self.order[0],
            Split::Val => &self.order[1],
        }
    }

    /// The number of images of both splits.
    pub(crate) fn images(&self) -> u64 {
        self.order.iter().map(|order| order.len() as u64).sum()
    }
}

/// The entries to prepare: all, or the first few of each class.
fn selection(entries: &[Entry], classes: usize, limit: Option<usize>) -> Vec<u32> {
    let mut taken = vec![0; classes];
    (0..entries.len() as u32)
        .filter(|&index| {
            let taken = &mut taken[entries[index as usize].label as usize];
            *taken += 1;
            limit.is_none_or(|limit| *taken <= limit)
        })
        .collect()
}

/// Fisher-Yates with ChaCha8, written out here so that a seed always means the same order.
fn shuffle(order: &mut [u32], seed: u64) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for last in (1..order.len()).rev() {
        // The high half of the product is uniform in 0..=last, but for a bias below 2^-32.
        let other = (u128::from(random.next_u64()) * (last as u128 + 1)) >> 64;
        order.swap(last, other as usize);
    }
}
