//! The records of a split, across its shards.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Encoding;
use crate::decode::JpegDecoder;
use crate::geometry::Size;
use crate::shard::{Record, Shard, ShardError};
use crate::view::{Pixels, Scratch, View};

/// All records of a split, numbered across its shards.
#[derive(Debug)]
pub struct Records {
    shards: Vec<Shard>,
    /// Records before each shard, then the total.
    starts: Vec<usize>,
    /// A bit for each record: whether its checksum has been verified.
    verified: Vec<AtomicU64>,
}

impl Records {
    pub(crate) fn new(shards: Vec<Shard>) -> Self {
        let mut starts = vec![0];
        for shard in &shards {
            starts.push(starts[starts.len() - 1] + shard.len());
        }
        let words = starts[starts.len() - 1].div_ceil(64);
        Self { shards, starts, verified: (0..words).map(|_| AtomicU64::new(0)).collect() }
    }

    /// The number of records.
    #[expect(clippy::len_without_is_empty, reason = "a split without records is refused when it is opened")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts[self.starts.len() - 1]
    }

    /// Side of every image in pixels.
    #[must_use]
    pub fn image_size(&self) -> u32 {
        self.shards[0].header().image_size
    }

    /// How the images are stored.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.shards[0].header().encoding
    }

    /// The shards, in order.
    #[must_use]
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// The record at `index`, unchecked against its checksum.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    #[must_use]
    pub fn record(&self, index: usize) -> Record<'_> {
        let (shard, row) = self.locate(index);
        shard.record(row)
    }

    /// The shard of record `index`, and the record's position in it.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    #[must_use]
    pub fn locate(&self, index: usize) -> (&Shard, usize) {
        assert!(index < self.len(), "record {index} of {} records", self.len());
        let shard = self.starts.partition_point(|&start| start <= index) - 1;
        (&self.shards[shard], index - self.starts[shard])
    }

    /// The record at `index`, checked against its checksum at its first use.
    ///
    /// Checking 192 KB takes as long as cropping them, so each record is checked once per process. Its pages
    /// stay in the page cache after that, or are read again from the same disk.
    ///
    /// # Errors
    /// [`ShardError::Checksum`] when the image's bytes have changed.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    pub fn verified_record(&self, index: usize) -> Result<Record<'_>, ShardError> {
        let (shard, row) = self.locate(index);
        let (word, bit) = (&self.verified[index / 64], 1 << (index % 64));
        // Relaxed: the bit guards no other memory; the worst is to check a record twice.
        if word.load(Ordering::Relaxed) & bit == 0 {
            shard.verify(row)?;
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(shard.record(row))
    }

    /// The pixels of record `index`, unchecked against its checksum: its own bytes, or those in `decoder`.
    ///
    /// # Errors
    /// [`ShardError::Decode`] when the record is no JPEG file of the data set's size.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    pub fn pixels<'a>(
        &'a self,
        index: usize,
        decoder: &'a mut JpegDecoder,
    ) -> Result<Pixels<'a>, ShardError> {
        let (shard, row) = self.locate(index);
        let record = shard.record(row);
        let size = Size::square(self.image_size());
        match self.encoding() {
            Encoding::Raw => Ok(Pixels::planar(record.image, size)),
            Encoding::Jpeg => match decoder.decode(record.image, size.width) {
                Ok(pixels) => Ok(Pixels::interleaved(pixels, size)),
                Err(reason) => {
                    let (path, key) = (shard.path().into(), record.key.into());
                    Err(ShardError::Decode { path, index: row, key, reason })
                }
            },
        }
    }

    /// The view of the whole image of record `index`, checked against its checksum at its first use.
    ///
    /// # Errors
    /// [`ShardError::Checksum`] when the image's bytes have changed, [`ShardError::Decode`] when they are no
    /// image.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    pub fn view<'a>(
        &'a self,
        index: usize,
        decoder: &'a mut JpegDecoder,
        scratch: &'a mut Scratch,
    ) -> Result<View<'a>, ShardError> {
        self.verified_record(index)?;
        Ok(self.pixels(index, decoder)?.view(scratch))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::test_support;
    use crate::{Dataset, Split};

    #[test]
    fn records_are_numbered_across_the_shards() {
        let directory = test_support::dataset(Encoding::Raw, 8);
        let records = Dataset::open(directory.path()).unwrap().records(Split::Train).unwrap();
        assert_eq!((records.len(), records.shards().len()), (8, 3));
        for index in 0..8 {
            assert_eq!(records.record(index).key, format!("image-{index}"));
        }
    }

    #[test]
    fn a_view_of_a_record_shows_its_whole_image_in_both_encodings() {
        for encoding in Encoding::ALL {
            let directory = test_support::dataset(encoding, 8);
            let records = Dataset::open(directory.path()).unwrap().records(Split::Train).unwrap();
            let (mut decoder, mut scratch) = (JpegDecoder::default(), Scratch::default());
            let view = records.view(5, &mut decoder, &mut scratch).unwrap();
            assert_eq!(view.size(), Size::square(test_support::SIDE));
            let mut planes = vec![0; 3 * view.size().area()];
            view.write_u8(&mut planes);
            let expected = test_support::pixels(5);
            let differences = planes.iter().zip(&expected).map(|(a, b)| f64::from(a.abs_diff(*b)));
            let mean = differences.sum::<f64>() / planes.len() as f64;
            assert!(mean <= if encoding == Encoding::Raw { 0.0 } else { 3.0 }, "{encoding}: {mean}");
        }
    }

    #[test]
    fn a_view_of_a_damaged_record_is_refused_by_name() {
        let directory = test_support::dataset(Encoding::Raw, 8);
        let records = Dataset::open(directory.path()).unwrap().records(Split::Train).unwrap();
        let path = directory.path().join("train-00001.arrow");
        let image = test_support::encoded(Encoding::Raw, 5);
        let bytes = fs::read(&path).unwrap();
        let place = bytes.windows(image.len()).position(|window| window == image).unwrap();
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_at(&[image[0] ^ 1], place as u64).unwrap();
        let (mut decoder, mut scratch) = (JpegDecoder::default(), Scratch::default());
        let error = records.view(5, &mut decoder, &mut scratch).unwrap_err().to_string();
        assert!(error.contains("train-00001.arrow: record 1 (image-5): checksum"), "{error}");
    }

    #[test]
    fn a_record_is_checked_at_its_first_use_only() {
        let directory = test_support::dataset(Encoding::Raw, 280);
        let records = Dataset::open(directory.path()).unwrap().records(Split::Train).unwrap();
        // 70 is in the second word of bits, 6 at the same place of the first.
        for index in [6, 7, 71, 69] {
            records.verified_record(index).unwrap();
        }
        let flip_bit_of = |index: usize| {
            let path = directory.path().join("train-00000.arrow");
            let image = test_support::encoded(Encoding::Raw, index);
            let place =
                fs::read(&path).unwrap().windows(image.len()).position(|window| window == image).unwrap();
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.write_at(&[image[0] ^ 1], place as u64).unwrap();
        };
        flip_bit_of(70);
        let error = records.verified_record(70).unwrap_err().to_string();
        assert!(error.contains("record 70 (image-70): checksum"), "{error}");
        records.verified_record(6).unwrap();
        flip_bit_of(6);
        records.verified_record(6).unwrap();
    }
}
