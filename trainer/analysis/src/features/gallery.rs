//! Single images of a data set, to be shown and looked at.

use std::sync::Arc;

use fovea_pipeline::dataset::DatasetError;
use fovea_pipeline::decode::JpegDecoder;
use fovea_pipeline::geometry::Size;
use fovea_pipeline::view::Scratch;
use fovea_pipeline::{EvalCrops, Records};
use fovea_trainer::training::TrainingError;

/// The images of a split, one by one.
#[derive(Debug)]
pub struct Gallery {
    records: Arc<Records>,
    decoder: JpegDecoder,
}

/// `count` numbers below `of`, or all of them, evenly spread and rising.
#[must_use]
pub fn spread(count: usize, of: usize) -> Vec<usize> {
    let count = count.min(of);
    (0..count).map(|index| index * of / count).collect()
}

impl Gallery {
    /// A look at `records`.
    #[must_use]
    pub fn new(records: Arc<Records>) -> Self {
        Self { records, decoder: JpegDecoder::default() }
    }

    /// The images' records.
    #[must_use]
    pub fn records(&self) -> &Arc<Records> {
        &self.records
    }

    /// The centre of image `index`, `u8 [3,H,W]`, as evaluation sees it.
    ///
    /// # Errors
    /// [`TrainingError::Dataset`] when its checksum is wrong or it cannot be decoded.
    ///
    /// # Panics
    /// When there is no such image, or `crop` is larger than it.
    pub fn center(&mut self, index: usize, crop: Size) -> Result<Vec<u8>, TrainingError> {
        let Self { records, decoder } = self;
        let mut scratch = Scratch::default();
        let mut view = records.view(index, decoder, &mut scratch).map_err(DatasetError::from)?;
        EvalCrops::Center.apply(0, crop, &mut view);
        let mut planes = vec![0; 3 * crop.area()];
        view.write_u8(&mut planes);
        Ok(planes)
    }

    /// The centres of several images, `u8 [N,3,H,W]`.
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
    fn a_spread_reaches_over_all_and_has_no_number_twice() {
        assert_eq!(spread(4, 100), [0, 25, 50, 75]);
        assert_eq!(spread(5, 3), [0, 1, 2]);
        assert_eq!(spread(3, 0), [0; 0]);
    }
}
