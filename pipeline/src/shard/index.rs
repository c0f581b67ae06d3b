//! What a shard says about its records.

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type, UInt8Type, UInt32Type};
use arrow_array::{Array, RecordBatch};

use super::ShardHeader;
use crate::geometry::Size;
use crate::{Encoding, ImageShape, Label, LabelKind};

/// Labels and places of the records, copied out of the memory map: 8 bytes each, 4 in a raw shard of squares,
/// 16 where images have sizes of their own.
///
/// A copy, because numbers in a map can change under the program when the file does; they are checked after
/// they were copied. Keys and checksums stay in the map: nothing goes wrong by another name, and another
/// checksum does not match.
#[derive(Debug, Default)]
pub(super) struct Index {
    batches: Vec<Batch>,
    /// Of labels of other kinds, which stay in the map, only the length.
    labels: Vec<u32>,
    kind: LabelKind,
    outputs: usize,
    /// Where the image of each record ends among those of its batch, if they differ in size.
    image_ends: Vec<u32>,
    /// The size of each image, if they differ.
    image_sizes: Vec<Size>,
}

/// The places of an Arrow record batch's values in the file.
#[derive(Debug)]
struct Batch {
    /// Its first row.
    first: usize,
    images: u64,
    sizes: Sizes,
    key_text: u64,
    key_ends: u64,
    crc32: u64,
    /// Of marks or numbers.
    labels: u64,
}

/// The sizes of the images of a batch.
#[derive(Clone, Copy, Debug)]
enum Sizes {
    /// All the same, in bytes.
    Same(usize),
    /// By [`Index::image_ends`]; the first image begins here.
    Differ { first_start: u32 },
}

impl Index {
    /// The number of records.
    pub(super) fn len(&self) -> usize {
        self.labels.len()
    }

    /// The bytes of the file that hold the image of record `index`.
    pub(super) fn image(&self, index: usize) -> Range<usize> {
        let (batch, row) = self.batch(index);
        let (start, end) = match batch.sizes {
            Sizes::Same(bytes) => (row * bytes, (row + 1) * bytes),
            Sizes::Differ { first_start } => {
                let start = if row == 0 { first_start } else { self.image_ends[index - 1] };
                (start as usize, self.image_ends[index] as usize)
            }
        };
        let images = batch.images as usize;
        images + start..images + end
    }

    /// The size of the image of record `index`, if images differ in it.
    pub(super) fn image_size(&self, index: usize) -> Option<Size> {
        self.image_sizes.get(index).copied()
    }

    /// The label of record `index`; marks and numbers as `file` has them.
    pub(super) fn label<'a>(&self, index: usize, file: &'a [u8]) -> Label<'a> {
        let in_file = |bytes: usize| {
            let (batch, row) = self.batch(index);
            &file[batch.labels as usize + row * self.outputs * bytes..][..self.outputs * bytes]
        };
        match self.kind {
            LabelKind::Class => Label::Class(self.labels[index]),
            LabelKind::MultiHot => Label::MultiHot(in_file(1)),
            LabelKind::Values => Label::Values(as_f32(in_file(4))),
        }
    }

    /// The name of record `index`, as `file` has it.
    pub(super) fn key(&self, index: usize, file: &[u8]) -> String {
        let (batch, row) = self.batch(index);
        let [start, end] = [0, 4].map(|next| number(file, batch.key_ends as usize + 4 * row + next));
        let text = batch.key_text as usize;
        // Checked when the shard was opened; a file that has changed since has any name, or none.
        let key = file.get(text + start as usize..text + end as usize).unwrap_or_default().to_vec();
        String::from_utf8_lossy(&key).into_owned()
    }

    /// The CRC-32 of record `index`'s image, as `file` has it.
    pub(super) fn crc32(&self, index: usize, file: &[u8]) -> u32 {
        let (batch, row) = self.batch(index);
        number(file, batch.crc32 as usize + 4 * row)
    }

    /// The digest of all records; see [`RecordsHasher`].
    pub(super) fn blake3(&self, file: &[u8]) -> String {
        let mut hasher = RecordsHasher::default();
        for index in 0..self.len() {
            let image_bytes = self.image(index).len() as u32;
            let (label, crc32) = (self.label(index, file), self.crc32(index, file));
            hasher.add(image_bytes, label, crc32, &self.key(index, file), self.image_size(index));
        }
        hasher.finish()
    }

    /// The batch of record `index`, and the record's row in it.
    fn batch(&self, index: usize) -> (&Batch, usize) {
        let batch = &self.batches[self.batches.partition_point(|batch| batch.first <= index) - 1];
        (batch, index - batch.first)
    }

    /// Appends the records of an Arrow record batch whose values lie in `file`.
    ///
    /// # Errors
    /// What is wrong, and in which row.
    pub(super) fn append(
        &mut self,
        batch: &RecordBatch,
        header: &ShardHeader,
        file: &[u8],
    ) -> Result<(), String> {
        if let Some(column) = batch.columns().iter().position(|column| column.null_count() > 0) {
            return Err(format!("column `{}` has missing values", batch.schema().field(column).name()));
        }
        // The types are those of the schema, which was compared with the header's.
        let keys = batch.column(2).as_string::<i32>();
        let crc32 = batch.column(3).as_primitive::<UInt32Type>().values();
        let first = self.len();
        let (images, sizes) = match (header.encoding, header.image_shape) {
            (Encoding::Raw, ImageShape::Square) => {
                (batch.column(0).as_fixed_size_binary().value_data(), Sizes::Same(header.raw_image_bytes()))
            }
            (Encoding::Raw, ImageShape::Keep) | (Encoding::Jpeg, _) => {
                let images = batch.column(0).as_binary::<i32>();
                let first_start =
                    self.append_image_ends(images.value_offsets(), images.value_data().len())?;
                (images.value_data(), Sizes::Differ { first_start })
            }
        };
        let labels = self.append_labels(batch.column(1), header)?;
        if let (Sizes::Differ { first_start }, ImageShape::Keep) = (sizes, header.image_shape) {
            self.append_image_sizes(batch, header, first_start)?;
        }
        check_keys(keys.value_offsets(), keys.value_data())?;
        let place = |values: &[u8], what| place(values, file).ok_or(format!("{what} outside the file"));
        self.batches.push(Batch {
            first,
            images: place(images, "images")?,
            sizes,
            key_text: place(keys.value_data(), "keys")?,
            key_ends: place(keys.offsets().inner().inner(), "keys")?,
            crc32: place(crc32.inner(), "checksums")?,
            labels: place(labels, "labels")?,
        });
        Ok(())
    }

    /// Copies where the images end, and returns where the first begins.
    fn append_image_ends(&mut self, offsets: &[i32], bytes: usize) -> Result<u32, String> {
        let copies =
            copied_offsets(offsets, bytes).map_err(|row| format!("row {row}: no place for its image"))?;
        let (&first_start, ends) = copies.split_first().ok_or("a column without offsets")?;
        self.image_ends.extend(ends);
        Ok(first_start)
    }

    /// Copies the sizes of images, and checks that they are possible and, of raw images, agree with the
    /// bytes.
    fn append_image_sizes(
        &mut self,
        batch: &RecordBatch,
        header: &ShardHeader,
        mut start: u32,
    ) -> Result<(), String> {
        let first = self.image_sizes.len();
        let [widths, heights] =
            [4, 5].map(|column| batch.column(column).as_primitive::<UInt32Type>().values().iter().copied());
        self.image_sizes.extend(widths.zip(heights).map(|(width, height)| Size { width, height }));
        let images = self.image_sizes[first..].iter().zip(&self.image_ends[first..]);
        for (row, (&size, &end)) in images.enumerate() {
            if let Some(problem) = header.image_problem(size, (end - start) as usize) {
                return Err(format!("row {row}: {problem}"));
            }
            start = end;
        }
        Ok(())
    }

    /// Checks the labels, copies classes, and returns the bytes of marks or numbers.
    fn append_labels<'a>(&mut self, column: &'a dyn Array, header: &ShardHeader) -> Result<&'a [u8], String> {
        (self.kind, self.outputs) = (header.labels, header.classes.len());
        let bad = |row: usize, problem: String| format!("row {row}: {problem}");
        if self.kind == LabelKind::Class {
            for (row, label) in column.as_primitive::<Int64Type>().values().iter().copied().enumerate() {
                let class = u32::try_from(label).ok().filter(|&class| (class as usize) < self.outputs);
                let problem = || bad(row, format!("label {label}, but there are {} classes", self.outputs));
                self.labels.push(class.ok_or_else(problem)?);
            }
            return Ok(&[]);
        }
        let list = column.as_fixed_size_list();
        let elements = list.values();
        let expected = column.len() * self.outputs;
        if elements.null_count() > 0 || elements.len() != expected {
            let (found, missing) = (elements.len(), elements.null_count());
            return Err(format!("labels of {found} elements, {missing} missing, expected {expected}"));
        }
        let bytes: &[u8] = match self.kind {
            LabelKind::MultiHot => elements.as_primitive::<UInt8Type>().values().inner(),
            _ => elements.as_primitive::<Float32Type>().values().inner(),
        };
        for row in 0..column.len() {
            let of_row = bytes.len() / column.len();
            let own = &bytes[row * of_row..][..of_row];
            let label = match self.kind {
                LabelKind::MultiHot => Label::MultiHot(own),
                _ => Label::Values(as_f32(own)),
            };
            if let Some(problem) = label.problem(self.kind, self.outputs) {
                return Err(bad(row, problem));
            }
        }
        self.labels.resize(self.labels.len() + column.len(), 0);
        Ok(bytes)
    }
}

/// The numbers in bytes of the map, where Arrow aligns them.
fn as_f32(bytes: &[u8]) -> &[f32] {
    // SAFETY: any bytes are an f32.
    let (before, values, after) = unsafe { bytes.align_to::<f32>() };
    assert!(before.is_empty() && after.is_empty(), "the reader requires aligned columns");
    values
}

/// A copy of offsets of values among `bytes`, if none is before another or outside; else the row of the first
/// that is.
fn copied_offsets(offsets: &[i32], bytes: usize) -> Result<Vec<u32>, usize> {
    let mut copies = Vec::with_capacity(offsets.len());
    let mut last = 0;
    for (row, offset) in offsets.iter().copied().enumerate() {
        last = u32::try_from(offset)
            .ok()
            .filter(|&offset| offset >= last && offset as usize <= bytes)
            .ok_or(row.saturating_sub(1))?;
        copies.push(last);
    }
    Ok(copies)
}

/// Checks that all keys are text.
fn check_keys(offsets: &[i32], text: &[u8]) -> Result<(), String> {
    let offsets =
        copied_offsets(offsets, text.len()).map_err(|row| format!("row {row}: no place for its key"))?;
    for (row, ends) in offsets.windows(2).enumerate() {
        let key = text[ends[0] as usize..ends[1] as usize].to_vec();
        String::from_utf8(key).map_err(|_| format!("row {row}: a key that is not UTF-8"))?;
    }
    Ok(())
}

/// Where in `file` the bytes `part` are; `None` when they lie elsewhere.
fn place(part: &[u8], file: &[u8]) -> Option<u64> {
    if part.is_empty() {
        return Some(0);
    }
    let start = part.as_ptr().addr().checked_sub(file.as_ptr().addr())?;
    (start.checked_add(part.len())? <= file.len()).then_some(start as u64)
}

/// The number in four bytes of `file`.
fn number(file: &[u8], start: usize) -> u32 {
    let bytes = file[start..start + 4].try_into().expect("the slice has four bytes");
    u32::from_le_bytes(bytes)
}

/// BLAKE3 over all that a shard says about its records: for each, in order, the size of the image, the label,
/// the CRC-32 of the image and the size of the key, as 32-bit little-endian numbers, and then the key; for
/// labels of other kinds than classes 0 as the label, and the marks or numbers after the key; at the end
/// width and height, if images differ in them.
#[derive(Default)]
pub(super) struct RecordsHasher(blake3::Hasher);

impl RecordsHasher {
    pub(super) fn add(
        &mut self,
        image_bytes: u32,
        label: Label<'_>,
        crc32: u32,
        key: &str,
        size: Option<Size>,
    ) {
        for number in [image_bytes, label.class(), crc32, key.len() as u32] {
            self.0.update(&number.to_le_bytes());
        }
        self.0.update(key.as_bytes());
        let further: Vec<u8> = label.further_bytes().collect();
        self.0.update(&further);
        for number in size.into_iter().flat_map(|size| [size.width, size.height]) {
            self.0.update(&number.to_le_bytes());
        }
    }

    pub(super) fn finish(&self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}
