//! Mean image and colour statistics, from exact integer sums.
//!
//! Sums of integers do not depend on the order of the images, so any number of workers gives the same last
//! bit.

use fovea_pipeline::ColorStatistics;
use ndarray::Array3;
use serde::{Deserialize, Serialize};

use crate::eigen::symmetric_eigen;

/// Sums over the pixels of some images: of R, G, B and of their products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColorSums {
    /// Number of pixels.
    pixels: u64,
    /// Σ c of each channel.
    sums: [u64; 3],
    /// Σ R·R, R·G, R·B, G·G, G·B, B·B.
    products: [u64; 6],
}

/// Pixels whose products of two u8 are summed in 32 bits before they go to 64.
const BLOCK: usize = 1 << 14;

impl ColorSums {
    /// Adds an image, `u8 [3,H,W]`.
    fn add_image(&mut self, planes: &[u8]) {
        let pixels = planes.len() / 3;
        let (red, rest) = planes.split_at(pixels);
        let (green, blue) = rest.split_at(pixels);
        self.pixels += pixels as u64;
        for ((red, green), blue) in red.chunks(BLOCK).zip(green.chunks(BLOCK)).zip(blue.chunks(BLOCK)) {
            let channels = [red, green, blue];
            for (sum, channel) in self.sums.iter_mut().zip(channels) {
                *sum += u64::from(channel.iter().map(|&value| u32::from(value)).sum::<u32>());
            }
            let pairs = [(red, red), (red, green), (red, blue), (green, green), (green, blue), (blue, blue)];
            for (sum, (a, b)) in self.products.iter_mut().zip(pairs) {
                *sum += u64::from(dot(a, b));
            }
        }
    }

    fn add(&mut self, other: &Self) {
        self.pixels += other.pixels;
        for (sum, more) in self.sums.iter_mut().zip(other.sums) {
            *sum += more;
        }
        for (sum, more) in self.products.iter_mut().zip(other.products) {
            *sum += more;
        }
    }

    /// Mean, covariance (of the whole population, divided by the number of pixels) and its principal axes;
    /// `None` without pixels.
    #[must_use]
    pub fn statistics(&self) -> Option<ColorStatistics> {
        if self.pixels == 0 {
            return None;
        }
        let pixels = self.pixels as f64;
        let [rr, rg, rb, gg, gb, bb] = self.products;
        let products = [[rr, rg, rb], [rg, gg, gb], [rb, gb, bb]];
        let covariance: [[f64; 3]; 3] = std::array::from_fn(|i| {
            std::array::from_fn(|j| {
                // n·Σab − Σa·Σb is exact: below 2^100 for the whole of ImageNet.
                let scaled = i128::from(self.pixels) * i128::from(products[i][j])
                    - i128::from(self.sums[i]) * i128::from(self.sums[j]);
                scaled as f64 / pixels / pixels
            })
        });
        let (eigenvalues, eigenvectors) = symmetric_eigen(covariance);
        Some(ColorStatistics {
            mean: self.sums.map(|sum| sum as f64 / pixels),
            covariance,
            eigenvalues,
            eigenvectors,
        })
    }
}

/// Σ a·b; the slices hold at most [`BLOCK`] values.
fn dot(a: &[u8], b: &[u8]) -> u32 {
    a.iter().zip(b).map(|(&a, &b)| u32::from(a) * u32::from(b)).sum()
}

/// Sums over a few images, kept small: a worker collects them before they are added to [`Statistics`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchSums {
    color: ColorSums,
    images: u16,
    /// u16 `[3,S,S]`; empty where images differ in size.
    pixels: Vec<u16>,
}

impl BatchSums {
    /// Images that the 16-bit sums have room for.
    pub const MAX_IMAGES: usize = (u16::MAX / u8::MAX as u16) as usize;

    /// Sums over no image, for a mean image of `mean_values` = 3·S·S values; 0 for images of differing sizes,
    /// which have none.
    #[must_use]
    pub fn new(mean_values: usize) -> Self {
        Self { color: ColorSums::default(), images: 0, pixels: vec![0; mean_values] }
    }

    /// Forgets all images.
    pub fn clear(&mut self) {
        self.color = ColorSums::default();
        self.images = 0;
        self.pixels.fill(0);
    }

    /// Adds an image, `u8 [3,H,W]`.
    ///
    /// # Panics
    /// When it has another size than the mean image, or after [`MAX_IMAGES`](Self::MAX_IMAGES).
    pub fn add_image(&mut self, planes: &[u8]) {
        let has_size = self.pixels.is_empty() || planes.len() == self.pixels.len();
        assert!(has_size, "{} values, but the mean image has {}", planes.len(), self.pixels.len());
        assert!(usize::from(self.images) < Self::MAX_IMAGES, "no room for a further image");
        self.images += 1;
        self.color.add_image(planes);
        for (sum, &value) in self.pixels.iter_mut().zip(planes) {
            *sum += u16::from(value);
        }
    }
}

/// Sums over any number of images; they can be stored and continued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    color: ColorSums,
    images: u64,
    /// u64 `[3,S,S]`; empty where images differ in size.
    pixels: Vec<u64>,
}

impl Statistics {
    /// Sums over no image, for a mean image of `mean_values` = 3·S·S values; 0 for images of differing sizes,
    /// which have none.
    #[must_use]
    pub fn new(mean_values: usize) -> Self {
        Self { color: ColorSums::default(), images: 0, pixels: vec![0; mean_values] }
    }

    /// Adds what a worker has collected.
    pub fn add_batch(&mut self, batch: &BatchSums) {
        self.color.add(&batch.color);
        self.images += u64::from(batch.images);
        for (sum, &more) in self.pixels.iter_mut().zip(&batch.pixels) {
            *sum += u64::from(more);
        }
    }

    /// Adds all images of `other`.
    pub fn add(&mut self, other: &Self) {
        self.color.add(&other.color);
        self.images += other.images;
        for (sum, &more) in self.pixels.iter_mut().zip(&other.pixels) {
            *sum += more;
        }
    }

    /// Whether these can be the sums over `images` images of this size.
    #[must_use]
    pub fn is_possible(&self, images: u64) -> bool {
        let pixels = match self.pixels.len() as u64 / 3 {
            // Of any size.
            0 => Some(self.color.pixels).filter(|&pixels| pixels >= images && (images > 0) == (pixels > 0)),
            of_image => images.checked_mul(of_image),
        };
        let color = &self.color;
        let at_most =
            |sums: &[u64], most: Option<u64>| most.is_some_and(|most| sums.iter().all(|&sum| sum <= most));
        self.images == images
            && pixels == Some(color.pixels)
            && at_most(&color.sums, color.pixels.checked_mul(255))
            && at_most(&color.products, color.pixels.checked_mul(255 * 255))
            && at_most(&self.pixels, images.checked_mul(255))
    }

    /// How many images were added.
    #[must_use]
    pub fn images(&self) -> u64 {
        self.images
    }

    /// How many values the sums of the mean image have: 3·S·S, or 0.
    #[must_use]
    pub fn mean_values(&self) -> usize {
        self.pixels.len()
    }

    /// The colour statistics; `None` without images.
    #[must_use]
    pub fn colors(&self) -> Option<ColorStatistics> {
        self.color.statistics()
    }

    /// The mean image, `f32 [3,S,S]` 0..=255; `None` without images, and where they differ in size.
    #[must_use]
    pub fn mean_image(&self) -> Option<Array3<f32>> {
        if self.images == 0 || self.pixels.is_empty() {
            return None;
        }
        let side = (self.pixels.len() / 3).isqrt();
        let mean = self.pixels.iter().map(|&sum| (sum as f64 / self.images as f64) as f32).collect();
        Some(Array3::from_shape_vec((3, side, side), mean).expect("images are square"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two images of 2×2 pixels, `u8 [3,2,2]`.
    const IMAGES: [[u8; 12]; 2] =
        [[0, 10, 20, 255, 5, 5, 5, 5, 0, 0, 100, 200], [1, 2, 3, 4, 250, 251, 252, 253, 9, 8, 7, 6]];

    fn sums() -> Statistics {
        let mut batch = BatchSums::new(12);
        for image in &IMAGES {
            batch.add_image(image);
        }
        let mut statistics = Statistics::new(12);
        statistics.add_batch(&batch);
        statistics
    }

    #[test]
    fn mean_image_is_the_mean_of_every_pixel() {
        let mean = sums().mean_image().unwrap();
        assert_eq!(mean.shape(), [3, 2, 2]);
        let expected: Vec<f32> =
            (0..12).map(|i| (f32::from(IMAGES[0][i]) + f32::from(IMAGES[1][i])) / 2.0).collect();
        assert_eq!(mean.as_slice().unwrap(), expected);
    }

    #[test]
    fn colors_agree_with_the_two_pass_formula() {
        let colors = sums().colors().unwrap();
        let values = |c: usize| IMAGES.iter().flat_map(move |image| image[4 * c..4 * c + 4].iter().copied());
        let mean: [f64; 3] = std::array::from_fn(|c| values(c).map(f64::from).sum::<f64>() / 8.0);
        assert_eq!(colors.mean, mean);
        for i in 0..3 {
            for j in 0..3 {
                let expected = values(i)
                    .zip(values(j))
                    .map(|(a, b)| (f64::from(a) - mean[i]) * (f64::from(b) - mean[j]))
                    .sum::<f64>()
                    / 8.0;
                let difference = (colors.covariance[i][j] - expected).abs();
                assert!(difference < 1e-9, "covariance[{i}][{j}] is off by {difference}");
            }
        }
    }

    #[test]
    fn splitting_the_images_changes_no_bit() {
        let parts = IMAGES.map(|image| {
            let mut batch = BatchSums::new(12);
            batch.add_image(&image);
            batch
        });
        let mut statistics = Statistics::new(12);
        statistics.add_batch(&parts[1]);
        let mut other = Statistics::new(12);
        other.add_batch(&parts[0]);
        statistics.add(&other);
        assert_eq!(statistics, sums());
    }

    #[test]
    fn sums_of_the_brightest_images_do_not_overflow() {
        let side = 200;
        let white = vec![255; 3 * side * side];
        let mut batch = BatchSums::new(white.len());
        for _ in 0..BatchSums::MAX_IMAGES {
            batch.add_image(&white);
        }
        let mut statistics = Statistics::new(white.len());
        statistics.add_batch(&batch);
        assert!(statistics.mean_image().unwrap().iter().all(|&mean| mean == 255.0));
        let colors = statistics.colors().unwrap();
        assert_eq!(colors.mean, [255.0; 3]);
        assert_eq!(colors.covariance, [[0.0; 3]; 3]);
    }

    #[test]
    fn without_images_there_are_no_statistics() {
        assert_eq!(Statistics::new(12).colors(), None);
        assert_eq!(Statistics::new(12).mean_image(), None);
    }
}
