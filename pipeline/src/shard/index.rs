//! What a shard says about its records, copied out of the memory map.

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt32Type};
use arrow_array::{Array, RecordBatch};

use super::ShardHeader;
use crate::Encoding;

/// Label, key, checksum and place of each record: 24 bytes and the key.
///
/// A copy, because text and numbers in a map can change under the program when the file does; all of it is
/// checked after it was copied.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: Vec<Entry>,
    /// All keys, one after the other.
    keys: String,
}

/// One record.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Position of the image in the file.
    image_start: u64,
    image_bytes: u32,
    label: u32,
    crc32: u32,
    /// Where its key ends in [`Index::keys`].
    key_end: u32,
}

impl Index {
    /// The number of records.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The bytes of the file that hold the image of record `index`.
    pub(super) fn image(&self, index: usize) -> Range<usize> {
        let entry = self.entries[index];
        let start = entry.image_start as usize;
        start..start + entry.image_bytes as usize
    }

    /// The position of record `index`'s class in the class list.
    pub(super) fn label(&self, index: usize) -> u32 {
        self.entries[index].label
    }

    /// The name of record `index`.
    pub(super) fn key(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.entries[before].key_end);
        &self.keys[start as usize..self.entries[index].key_end as usize]
    }

    /// The CRC-32 of record `index`'s image.
    pub(super) fn crc32(&self, index: usize) -> u32 {
        self.entries[index].crc32
    }

    /// The digest of all records; see [`RecordsHasher`].
    pub(super) fn blake3(&self) -> String {
        let mut hasher = RecordsHasher::default();
        for (index, entry) in self.entries.iter().enumerate() {
            hasher.add(entry.image_bytes, entry.label, entry.crc32, self.key(index));
        }
        hasher.finish()
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
        let labels = batch.column(1).as_primitive::<Int64Type>().values();
        let keys = batch.column(2).as_string::<i32>();
        let crc32 = batch.column(3).as_primitive::<UInt32Type>().values();
        let classes = header.classes.len();
        self.entries.reserve(batch.num_rows());
        for row in 0..batch.num_rows() {
            let image = match header.encoding {
                Encoding::Raw => batch.column(0).as_fixed_size_binary().value(row),
                Encoding::Jpeg => batch.column(0).as_binary::<i32>().value(row),
            };
            let bad = |what: String| format!("row {row}: {what}");
            let image_start = place(image, file).ok_or_else(|| bad("an image outside the file".into()))?;
            let label = labels[row];
            let label = u32::try_from(label)
                .ok()
                .filter(|&label| (label as usize) < classes)
                .ok_or_else(|| bad(format!("label {label}, but there are {classes} classes")))?;
            self.push_key(keys.value_data(), keys.value_offsets(), row).map_err(bad)?;
            self.entries.push(Entry {
                image_start,
                // A fixed-size or 32-bit binary value.
                image_bytes: image.len() as u32,
                label,
                crc32: crc32[row],
                key_end: self.keys.len() as u32,
            });
        }
        Ok(())
    }

    /// Copies a key, then checks it: Arrow's own check was of bytes that may have changed since.
    fn push_key(&mut self, text: &[u8], offsets: &[i32], row: usize) -> Result<(), String> {
        let [start, end] = [offsets[row], offsets[row + 1]].map(usize::try_from);
        let key = start.ok().zip(end.ok()).and_then(|(start, end)| text.get(start..end));
        let key = key.ok_or("a key outside its column")?.to_vec();
        self.keys.push_str(&String::from_utf8(key).map_err(|_| "a key that is not UTF-8")?);
        match u32::try_from(self.keys.len()) {
            Ok(_) => Ok(()),
            Err(_) => Err("keys of more than 4 GiB".into()),
        }
    }
}

/// Where in `file` the bytes `part` are; `None` when they lie elsewhere.
fn place(part: &[u8], file: &[u8]) -> Option<u64> {
    if part.is_empty() {
        return Some(0);
    }
    let start = part.as_ptr().addr().checked_sub(file.as_ptr().addr())?;
    (start.checked_add(part.len())? <= file.len()).then_some(start as u64)
}

/// BLAKE3 over all that a shard says about its records: for each, in order, the size of the image, the label,
/// the CRC-32 of the image and the size of the key, as 32-bit little-endian numbers, and then the key.
#[derive(Default)]
pub(super) struct RecordsHasher(blake3::Hasher);

impl RecordsHasher {
    pub(super) fn add(&mut self, image_bytes: u32, label: u32, crc32: u32, key: &str) {
        for number in [image_bytes, label, crc32, key.len() as u32] {
            self.0.update(&number.to_le_bytes());
        }
        self.0.update(key.as_bytes());
    }

    pub(super) fn finish(&self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}
