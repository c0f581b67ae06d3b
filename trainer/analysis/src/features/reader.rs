//! Reads single images of a data set.

use std::sync::Arc;

use fovea_pipeline::DatasetError;
use fovea_pipeline::decode::JpegDecoder;
use fovea_pipeline::geometry::Size;
use fovea_pipeline::view::Scratch;
use fovea_pipeline::{EvalCrops, Records};
use fovea_trainer::training::TrainingError;

/// Reads single images of a split.
#[derive(Debug)]
pub struct ImageReader {
    records: Arc<Records>,
    decoder: JpegDecoder,
}

/// `count` indices below `of`, evenly spread and ascending; all of them if there are fewer.
#[must_use]
pub fn spread(count: usize, of: usize) -> Vec<usize> {
    let count = count.min(of);
    (0..count).map(|index| index * of / count).collect()
}

impl ImageReader {
    /// A reader of `records`.
    #[must_use]
    pub fn new(records: Arc<Records>) -> Self {
        Self { records, decoder: JpegDecoder::default() }
    }

    /// The records that are read.
    #[must_use]
    pub fn records(&self) -> &Arc<Records> {
        &self.records
    }

    /// The centre crop of image `index`, `u8 [3,H,W]`, as in evaluation.
    ///
    /// # Errors
    /// [`TrainingError::Dataset`] when its checksum is wrong or it cannot be decoded.
    ///
    /// # Panics
    /// When there is no such image, or `crop` is larger than it.
    pub fn center(&mut self, index: usize, crop: Size) -> Result<Vec<u8>, TrainingError> {
        let Self { records, decoder } = self;
        let mut scratch = Scratch::default();
        let record = records.record(index)?;
        let mut view = record.view(decoder, &mut scratch).map_err(DatasetError::from)?;
        EvalCrops::Center.apply(0, crop, &mut view);
        let mut planes = vec![0; 3 * crop.area()];
        view.write_u8(&mut planes);
        Ok(planes)
    }

    /// The centre crops of several images, `u8 [N,3,H,W]`.
    ///
    /// # Errors
    /// As [`center`](Self::center).
    ///
    /// # Panics
    /// As [`center`](Self::center).
    pub fn centers(&mut self, indices: &[usize], crop: Size) -> Result<Vec<u8>, TrainingError> {
        let mut images = Vec::with_capacity(indices.len() * 3 * crop.area());
        for &index in indices {
            images.extend(self.center(index, crop)?);
        }
        Ok(images)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_indices_cover_the_range_without_duplicates() {
        assert_eq!(spread(4, 100), [0, 25, 50, 75]);
        assert_eq!(spread(5, 3), [0, 1, 2]);
        assert_eq!(spread(3, 0), [0; 0]);
    }
}
