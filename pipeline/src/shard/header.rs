//! The header that every shard carries in its schema's metadata.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ShardError;
use crate::geometry::Size;
use crate::{Class, Encoding, ImageShape, ImageSizes, LabelKind, Split};

/// The latest version of the layout that this crate reads; it writes the
/// [`format_version`](ImageShape::format_version) of images and labels.
pub const FORMAT_VERSION: u32 = 3;

/// Names of the columns.
const IMAGE: &str = "image";
const LABEL: &str = "label";
const KEY: &str = "key";
const CRC32: &str = "crc32";
const WIDTH: &str = "width";
const HEIGHT: &str = "height";

/// Metadata key of the header.
const FOVEA: &str = "fovea";

/// The header of a shard: enough to use it without the other shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardHeader {
    /// [`ImageShape::format_version`] of its images and labels.
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
    /// Side S of every image in pixels; the shorter side, if images keep the proportions of their photos.
    pub image_size: u32,
    /// The shape of the images.
    #[serde(default, skip_serializing_if = "ImageShape::is_square")]
    pub image_shape: ImageShape,
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

    /// Sizes of the images of this shard.
    #[must_use]
    pub fn image_sizes(&self) -> ImageSizes {
        self.image_shape.sizes(self.image_size)
    }

    /// Bytes of each raw image of a shard of squares: 3·S·S.
    #[must_use]
    pub fn raw_image_bytes(&self) -> usize {
        3 * self.image_size as usize * self.image_size as usize
    }

    /// Why `bytes` bytes cannot be an image of this size in the shard, if they cannot.
    pub(super) fn image_problem(&self, size: Size, bytes: usize) -> Option<String> {
        if let Some(problem) = self.image_sizes().problem(size) {
            return Some(problem);
        }
        let expected = 3 * size.area();
        match self.encoding {
            Encoding::Raw if bytes != expected => Some(format!(
                "{bytes} bytes, expected {expected} for 3x{}x{} pixels",
                size.height, size.width
            )),
            Encoding::Jpeg if i32::try_from(bytes).is_err() => {
                Some(format!("{bytes} bytes, expected at most {}", i32::MAX))
            }
            Encoding::Raw | Encoding::Jpeg => None,
        }
    }

    /// The Arrow schema of a shard with this header.
    pub(crate) fn schema(&self) -> Schema {
        let image_type = match (self.encoding, self.image_shape) {
            (Encoding::Raw, ImageShape::Square) => DataType::FixedSizeBinary(self.raw_image_bytes() as i32),
            (Encoding::Raw, ImageShape::Keep) | (Encoding::Jpeg, _) => DataType::Binary,
        };
        // No value is ever missing, but `datasets` reads its metadata only if the columns are nullable.
        let mut fields = vec![
            Field::new(IMAGE, image_type, true),
            Field::new(LABEL, self.label_type(), true),
            Field::new(KEY, DataType::Utf8, true),
            Field::new(CRC32, DataType::UInt32, true),
        ];
        if !self.image_shape.is_square() {
            fields.extend([WIDTH, HEIGHT].map(|name| Field::new(name, DataType::UInt32, true)));
        }
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
        let image = match (self.encoding, self.image_shape) {
            (Encoding::Raw, ImageShape::Keep) => json!({ "_type": "Value", "dtype": "binary" }),
            (Encoding::Raw, ImageShape::Square) => {
                let dtype = format!("fixed_size_binary[{}]", self.raw_image_bytes());
                json!({ "_type": "Value", "dtype": dtype })
            }
            (Encoding::Jpeg, _) => json!({ "_type": "Image" }),
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
        let number = || json!({ "_type": "Value", "dtype": "uint32" });
        let mut features = json!({
            IMAGE: image,
            LABEL: label,
            KEY: { "_type": "Value", "dtype": "string" },
            CRC32: number(),
        });
        if !self.image_shape.is_square() {
            (features[WIDTH], features[HEIGHT]) = (number(), number());
        }
        json!({ "info": { "features": features } }).to_string()
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
        if version != header.image_shape.format_version(header.labels) {
            let (labels, shape) = (header.labels, header.image_shape);
            return Err(foreign(format!(
                "images of the shape {shape} with labels of the kind {labels} in format version {version}"
            )));
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
