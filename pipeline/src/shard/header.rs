//! The header that every shard carries in its schema's metadata.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ShardError;
use crate::{Class, Encoding, LabelKind, Split};

/// The latest version of the layout that this crate reads; it writes that of the labels'
/// [`format_version`](LabelKind::format_version).
pub const FORMAT_VERSION: u32 = 2;

/// Names of the columns.
const IMAGE: &str = "image";
const LABEL: &str = "label";
const KEY: &str = "key";
const CRC32: &str = "crc32";

/// Metadata key of the header.
const FOVEA: &str = "fovea";

/// The header of a shard: enough to use it without the other shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardHeader {
    /// [`LabelKind::format_version`] of its labels.
    pub format_version: u32,
    /// The program and version that wrote the shard.
    pub writer: String,
    /// Where the images came from, e.g. `ilsvrc2012-tars`.
    pub source: String,
    /// The split that the shard is a part of.
    pub split: Split,
    /// Position of the shard in its split.
    pub shard: u32,
    /// How images are stored.
    pub encoding: Encoding,
    /// Side S of every image in pixels.
    pub image_size: u32,
    /// What the labels are.
    #[serde(default, skip_serializing_if = "LabelKind::is_class")]
    pub labels: LabelKind,
    /// The classes of the data set; a label is a position in this list, or a mark or number for each element
    /// of it.
    pub classes: Vec<Class>,
}

impl ShardHeader {
    /// The file's name in its directory: `<split>-<shard, 5 digits>.arrow`.
    #[must_use]
    pub fn file_name(&self) -> String {
        shard_file_name(self.split, self.shard)
    }

    /// Bytes of a raw image of this shard: 3·S·S.
    #[must_use]
    pub fn raw_image_bytes(&self) -> usize {
        3 * self.image_size as usize * self.image_size as usize
    }

    /// The Arrow schema of a shard with this header.
    pub(crate) fn schema(&self) -> Schema {
        let image_type = match self.encoding {
            Encoding::Raw => DataType::FixedSizeBinary(self.raw_image_bytes() as i32),
            Encoding::Jpeg => DataType::Binary,
        };
        // No value is ever missing, but `datasets` reads its metadata only if the columns are nullable.
        let fields = vec![
            Field::new(IMAGE, image_type, true),
            Field::new(LABEL, self.label_type(), true),
            Field::new(KEY, DataType::Utf8, true),
            Field::new(CRC32, DataType::UInt32, true),
        ];
        let header = serde_json::to_string(self).expect("a header has only strings and numbers");
        let metadata =
            HashMap::from([(FOVEA.into(), header), ("huggingface".into(), self.hugging_face_features())]);
        Schema::new(fields).with_metadata(metadata)
    }

    fn label_type(&self) -> DataType {
        let list = |element| {
            let outputs = i32::try_from(self.classes.len()).unwrap_or(i32::MAX);
            DataType::FixedSizeList(Arc::new(list_item(element)), outputs)
        };
        match self.labels {
            LabelKind::Class => DataType::Int64,
            LabelKind::MultiHot => list(DataType::UInt8),
            LabelKind::Values => list(DataType::Float32),
        }
    }

    /// The `features` of Hugging Face `datasets`: labels with names, JPEG images decoded on access.
    fn hugging_face_features(&self) -> String {
        let image = match self.encoding {
            Encoding::Raw => {
                let dtype = format!("fixed_size_binary[{}]", self.raw_image_bytes());
                json!({ "_type": "Value", "dtype": dtype })
            }
            Encoding::Jpeg => json!({ "_type": "Image" }),
        };
        let wnids: Vec<&str> = self.classes.iter().map(|class| class.wnid.as_str()).collect();
        let list = |dtype| {
            let feature = json!({ "_type": "Value", "dtype": dtype });
            json!({ "_type": "List", "feature": feature, "length": wnids.len() })
        };
        let label = match self.labels {
            LabelKind::Class => json!({ "_type": "ClassLabel", "names": wnids }),
            LabelKind::MultiHot => list("uint8"),
            LabelKind::Values => list("float32"),
        };
        json!({ "info": { "features": {
            IMAGE: image,
            LABEL: label,
            KEY: { "_type": "Value", "dtype": "string" },
            CRC32: { "_type": "Value", "dtype": "uint32" },
        } } })
        .to_string()
    }

    /// Reads the header from a schema and checks that the columns agree with it.
    pub(crate) fn from_schema(path: &Path, schema: &Schema) -> Result<Self, ShardError> {
        let foreign = |reason: String| ShardError::Foreign { path: path.into(), reason };
        let text = schema
            .metadata()
            .get(FOVEA)
            .ok_or_else(|| foreign(format!("its schema has no metadata `{FOVEA}`")))?;
        let version = serde_json::from_str::<VersionOnly>(text)
            .map_err(|error| foreign(format!("its metadata `{FOVEA}` are unreadable: {error}")))?
            .format_version;
        if !(1..=FORMAT_VERSION).contains(&version) {
            return Err(ShardError::Version { path: path.into(), found: version, expected: FORMAT_VERSION });
        }
        let header: Self = serde_json::from_str(text)
            .map_err(|error| foreign(format!("its metadata `{FOVEA}` are unreadable: {error}")))?;
        if version != header.labels.format_version() {
            return Err(foreign(format!("labels of the kind {} in format version {version}", header.labels)));
        }
        if !(1..=MAX_IMAGE_SIZE).contains(&header.image_size) {
            return Err(foreign(format!(
                "image size {}, expected 1 to {MAX_IMAGE_SIZE} pixels",
                header.image_size
            )));
        }
        let expected = header.schema();
        if describe_columns(schema) != describe_columns(&expected) {
            return Err(foreign(format!(
                "columns {}, expected {}",
                describe_columns(schema),
                describe_columns(&expected)
            )));
        }
        Ok(header)
    }
}

/// The elements of a label that is a list.
pub(super) fn list_item(element: DataType) -> Field {
    Field::new("item", element, true)
}

/// A raw image of this side just fits the length of a fixed-size binary value, an i32.
pub(crate) const MAX_IMAGE_SIZE: u32 = 16_384;

/// The name of a shard file: `train-00000.arrow`.
#[must_use]
pub fn shard_file_name(split: Split, shard: u32) -> String {
    format!("{split}-{shard:05}.arrow")
}

/// The only field that is read before the version is known.
#[derive(Deserialize)]
struct VersionOnly {
    format_version: u32,
}

/// Names and types of the columns. Nullability is left out: the reader checks for missing values.
fn describe_columns(schema: &Schema) -> String {
    let columns: Vec<String> =
        schema.fields().iter().map(|field| format!("{}: {}", field.name(), field.data_type())).collect();
    format!("({})", columns.join(", "))
}
