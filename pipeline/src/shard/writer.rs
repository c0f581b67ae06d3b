//! Writing a shard, under a temporary name until it is complete.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, FixedSizeBinaryArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch,
    StringArray, UInt8Array, UInt32Array,
};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow_ipc::writer::FileWriter;
use arrow_schema::{ArrowError, DataType, SchemaRef};
use fovea_files::PartialFile;

use super::header::list_item;
use super::index::RecordsHasher;
use super::{ShardError, ShardHeader};
use crate::geometry::Size;
use crate::{Encoding, ImageShape, Label, LabelKind, ShardInfo};

/// Image bytes after which the buffered records become one Arrow record batch.
///
/// It limits the writer's memory; readers see no difference.
const RECORD_BATCH_BYTES: usize = 16 << 20;

/// Writes one shard record by record; the file appears under its name only when it is complete and on disk.
///
/// Until then it is named `NAME.partial`; dropped before [`finish`](Self::finish), it removes that.
pub struct ShardWriter {
    path: PathBuf,
    /// The path until the shard is complete.
    temporary: PathBuf,
    header: ShardHeader,
    schema: SchemaRef,
    file: FileWriter<BufWriter<HashingFile>>,
    pending: Pending,
    records: usize,
    records_hasher: RecordsHasher,
}

/// A shard that is complete and on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedShard {
    /// Where it is.
    pub path: PathBuf,
    /// Its entry in `dataset.json`.
    pub info: ShardInfo,
}

/// The columns of the current record batch.
#[derive(Default)]
struct Pending {
    images: Vec<u8>,
    image_ends: Vec<i32>,
    labels: Vec<i64>,
    marks: Vec<u8>,
    values: Vec<f32>,
    keys: Vec<String>,
    crc32: Vec<u32>,
    widths: Vec<u32>,
    heights: Vec<u32>,
}

impl ShardWriter {
    /// Opens `<split>-<shard>.arrow` in `directory` for writing, under a temporary name.
    ///
    /// # Errors
    /// [`ShardError::Io`] when the file cannot be created.
    pub fn create(directory: &Path, header: ShardHeader) -> Result<Self, ShardError> {
        let path = directory.join(header.file_name());
        let file = PartialFile::create(&path)?;
        let temporary = file.temporary_path().to_owned();
        let schema = Arc::new(header.schema());
        let hashing = HashingFile { file, hasher: blake3::Hasher::new(), bytes: 0 };
        let file =
            FileWriter::try_new_buffered(hashing, &schema).map_err(|error| write_error(&temporary, error))?;
        let (pending, records_hasher) = (Pending::default(), RecordsHasher::default());
        Ok(Self { path, temporary, header, schema, file, pending, records: 0, records_hasher })
    }

    /// Appends an image of a class, as by [`append_labelled`](Self::append_labelled).
    ///
    /// # Errors
    /// As there.
    pub fn append(&mut self, image: &[u8], label: u32, key: &str) -> Result<(), ShardError> {
        self.append_labelled(image, Label::Class(label), key)
    }

    /// Appends an image of S×S pixels, as by [`append_sized`](Self::append_sized).
    ///
    /// # Errors
    /// As there.
    pub fn append_labelled(&mut self, image: &[u8], label: Label<'_>, key: &str) -> Result<(), ShardError> {
        self.append_sized(image, Size::square(self.header.image_size), label, key)
    }

    /// Appends an image: `u8 [3,H,W]` for raw shards, a JPEG file of H×W pixels else.
    ///
    /// # Errors
    /// [`ShardError::Unfit`] for an image of the wrong size or a label that is no class, or of another kind;
    /// [`ShardError::Io`] when the disk is full, for instance.
    pub fn append_sized(
        &mut self,
        image: &[u8],
        size: Size,
        label: Label<'_>,
        key: &str,
    ) -> Result<(), ShardError> {
        self.check(image, size, label, key)?;
        if !self.pending.keys.is_empty() && self.pending.images.len() + image.len() > RECORD_BATCH_BYTES {
            self.write_pending()?;
        }
        self.pending.images.extend_from_slice(image);
        self.pending.image_ends.push(self.pending.images.len() as i32);
        match label {
            Label::Class(class) => self.pending.labels.push(i64::from(class)),
            Label::MultiHot(marks) => self.pending.marks.extend_from_slice(marks),
            Label::Values(values) => self.pending.values.extend_from_slice(values),
        }
        self.pending.keys.push(key.to_owned());
        let crc32 = crc32fast::hash(image);
        self.pending.crc32.push(crc32);
        let own_size = (!self.header.image_shape.is_square()).then_some(size);
        if let Some(size) = own_size {
            self.pending.widths.push(size.width);
            self.pending.heights.push(size.height);
        }
        self.records_hasher.add(image.len() as u32, label, crc32, key, own_size);
        self.records += 1;
        Ok(())
    }

    fn check(&self, image: &[u8], size: Size, label: Label<'_>, key: &str) -> Result<(), ShardError> {
        let of_label = || label.problem(self.header.labels, self.header.classes.len());
        match of_label().or_else(|| self.header.image_problem(size, image.len())) {
            None => Ok(()),
            Some(reason) => {
                let (path, key) = (self.path.clone(), key.into());
                Err(ShardError::Unfit { path, index: self.records, key, reason })
            }
        }
    }

    fn write_pending(&mut self) -> Result<(), ShardError> {
        let pending = std::mem::take(&mut self.pending);
        let images = Buffer::from_vec(pending.images);
        let images: ArrayRef = match (self.header.encoding, self.header.image_shape) {
            (Encoding::Raw, ImageShape::Square) => {
                Arc::new(FixedSizeBinaryArray::new(self.header.raw_image_bytes() as i32, images, None))
            }
            (Encoding::Raw, ImageShape::Keep) | (Encoding::Jpeg, _) => {
                let offsets: Vec<i32> = std::iter::once(0).chain(pending.image_ends).collect();
                Arc::new(BinaryArray::new(OffsetBuffer::new(ScalarBuffer::from(offsets)), images, None))
            }
        };
        let list = |element, values: ArrayRef| -> ArrayRef {
            let outputs = self.header.classes.len() as i32;
            Arc::new(FixedSizeListArray::new(Arc::new(list_item(element)), outputs, values, None))
        };
        let labels: ArrayRef = match self.header.labels {
            LabelKind::Class => Arc::new(Int64Array::from(pending.labels)),
            LabelKind::MultiHot => list(DataType::UInt8, Arc::new(UInt8Array::from(pending.marks))),
            LabelKind::Values => list(DataType::Float32, Arc::new(Float32Array::from(pending.values))),
        };
        let mut columns: Vec<ArrayRef> = vec![
            images,
            labels,
            Arc::new(StringArray::from(pending.keys)),
            Arc::new(UInt32Array::from(pending.crc32)),
        ];
        if !self.header.image_shape.is_square() {
            columns.push(Arc::new(UInt32Array::from(pending.widths)));
            columns.push(Arc::new(UInt32Array::from(pending.heights)));
        }
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .and_then(|batch| self.file.write(&batch))
            .map_err(|error| write_error(&self.temporary, error))
    }

    /// Completes the file, syncs it to the disk and gives it its name.
    ///
    /// # Errors
    /// [`ShardError::Io`] when the disk is full, for instance; there is no shard then.
    pub fn finish(mut self) -> Result<FinishedShard, ShardError> {
        if !self.pending.keys.is_empty() {
            self.write_pending()?;
        }
        let hashing = self
            .file
            .into_inner()
            .map_err(|error| write_error(&self.temporary, error))?
            .into_inner()
            .map_err(|error| io_error(&self.temporary, "write", error.into_error()))?;
        hashing.file.finish()?;
        let info = ShardInfo {
            file: self.header.file_name(),
            images: self.records as u64,
            bytes: hashing.bytes,
            blake3: hashing.hasher.finalize().to_hex().to_string(),
            records_blake3: Some(self.records_hasher.finish()),
        };
        Ok(FinishedShard { path: self.path, info })
    }
}

fn io_error(path: &Path, action: &'static str, source: io::Error) -> ShardError {
    ShardError::Io { path: path.into(), action, source }
}

/// Unwraps the system's error, a full disk for instance, from Arrow's.
fn write_error(path: &Path, error: ArrowError) -> ShardError {
    let source = match error {
        ArrowError::IoError(_, source) => source,
        other => io::Error::other(other),
    };
    io_error(path, "write", source)
}

/// A file that is hashed while it is written.
struct HashingFile {
    file: PartialFile,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Write for HashingFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.file.write(data)?;
        self.hasher.update(&data[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
