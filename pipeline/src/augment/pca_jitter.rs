//! Colour jitter along the principal axes of the training set's colours.

use rand_distr::{Distribution, StandardNormal};
use serde::Deserialize;

use super::{AugmentError, Augmentation};
use crate::ColorStatistics;
use crate::geometry::Size;
use crate::random::SampleRng;
use crate::view::View;

/// Adds Σₖ pₖ·αₖ·λₖ to every pixel of the image, with one α ~ N(0, 0.1) for each axis k and use.
///
/// Source: Krizhevsky, Sutskever, Hinton 2012, section 4.1.
#[derive(Clone, Debug)]
pub struct PcaJitter {
    /// `axes[k]`: what one standard deviation of α along axis k adds to R, G and B, in units of 0..=255.
    axes: [[f64; 3]; 3],
}

/// How far a principal axis reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PcaScale {
    /// λ, the eigenvalue for pixels in 0..=1, as the paper prints it: about 5.5 of 255 along the first axis.
    Eigenvalue,
    /// √λ, the standard deviation, as the authors' code has it: about 12.2 of 255 along the first axis. (That
    /// code also divides the image by 1.1, which belongs to the normalisation.)
    Stddev,
}

/// Where the principal axes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PcaStatistics {
    /// The data set's own training images.
    Dataset,
    /// ILSVRC-2012.
    Imagenet,
}

/// Parameters of [`PcaJitter`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Parameters {
    /// Standard deviation of α; 0.1 by default.
    pub stddev: f64,
    /// How far an axis reaches; the eigenvalue by default.
    pub scale: PcaScale,
    /// Where the axes come from; the data set's own training images by default.
    pub statistics: PcaStatistics,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { stddev: 0.1, scale: PcaScale::Eigenvalue, statistics: PcaStatistics::Dataset }
    }
}

impl PcaJitter {
    /// Name in recipes.
    pub const OP: &str = "pca_jitter";

    /// Checks the parameters and takes the axes from the statistics of the data set, or of ILSVRC-2012.
    ///
    /// # Errors
    /// [`AugmentError::Parameters`] when the standard deviation is negative, [`AugmentError::NoStatistics`]
    /// when the data set's statistics are needed and it has none.
    pub fn new(parameters: Parameters, statistics: Option<&ColorStatistics>) -> Result<Self, AugmentError> {
        if !(parameters.stddev >= 0.0 && parameters.stddev.is_finite()) {
            let reason = format!("stddev = {:?}, expected 0 or more", parameters.stddev);
            return Err(AugmentError::Parameters { op: Self::OP.into(), reason });
        }
        let imagenet = ColorStatistics::imagenet();
        let statistics = match parameters.statistics {
            PcaStatistics::Imagenet => &imagenet,
            PcaStatistics::Dataset => statistics.ok_or(AugmentError::NoStatistics { op: Self::OP })?,
        };
        let axes = std::array::from_fn(|k| {
            // Rounding can leave a tiny negative eigenvalue where the images have no colour.
            let eigenvalue = statistics.eigenvalues[k].max(0.0);
            let reach = match parameters.scale {
                // λ in units of [0,1]² is λ/255²; the offset in units of 0..=255 is 255 times that.
                PcaScale::Eigenvalue => eigenvalue / 255.0,
                PcaScale::Stddev => eigenvalue.sqrt(),
            };
            statistics.eigenvectors[k].map(|component| component * reach * parameters.stddev)
        });
        Ok(Self { axes })
    }
}

impl Augmentation for PcaJitter {
    fn output_size(&self, input: Size) -> Result<Size, AugmentError> {
        Ok(input)
    }

    fn apply(&self, view: &mut View<'_>, rng: &mut SampleRng) {
        let alpha: [f64; 3] = std::array::from_fn(|_| StandardNormal.sample(rng));
        view.add_color_offset(std::array::from_fn(|channel| {
            (0..3).map(|k| alpha[k] * self.axes[k][channel]).sum::<f64>() as f32
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::sample_rng;
    use crate::view::Scratch;

    /// The standard deviation of the offset along the first principal axis of ImageNet.
    fn reach_of_first_axis(scale: PcaScale) -> f64 {
        let parameters = Parameters { scale, statistics: PcaStatistics::Imagenet, ..Parameters::default() };
        let jitter = PcaJitter::new(parameters, None).unwrap();
        let axis = ColorStatistics::imagenet().eigenvectors[0];
        let draws = 20_000;
        let sum_of_squares: f64 = (0..draws)
            .map(|position| {
                let mut scratch = Scratch::default();
                let mut view = View::planar(&[0; 3], Size::square(1), &mut scratch);
                jitter.apply(&mut view, &mut sample_rng(0, 0, position));
                let along: f64 = view.color_offset().iter().zip(axis).map(|(&o, a)| f64::from(o) * a).sum();
                along * along
            })
            .sum();
        (sum_of_squares / draws as f64).sqrt()
    }

    #[test]
    fn the_first_axis_reaches_as_far_as_the_paper_and_its_code_say() {
        let printed = reach_of_first_axis(PcaScale::Eigenvalue);
        assert!((printed - 121.78 * 121.78 / 255.0 * 0.1).abs() < 0.1, "{printed}, expected about 5.82");
        let code = reach_of_first_axis(PcaScale::Stddev);
        assert!((code - 12.178).abs() < 0.2, "{code}, expected about 12.18");
    }

    #[test]
    fn the_axes_are_independent_and_reach_as_far_as_their_own_eigenvalues() {
        let statistics = ColorStatistics {
            eigenvalues: [3600.0, 400.0, -1e-9],
            eigenvectors: [[0.6, 0.8, 0.0], [0.0, 0.0, 1.0], [0.8, -0.6, 0.0]],
            ..ColorStatistics::imagenet()
        };
        let parameters = Parameters { stddev: 0.5, scale: PcaScale::Stddev, ..Parameters::default() };
        let jitter = PcaJitter::new(parameters, Some(&statistics)).unwrap();
        let draws = 20_000;
        let mut covariance = [[0.0; 3]; 3];
        for position in 0..draws {
            let mut scratch = Scratch::default();
            let mut view = View::planar(&[0; 3], Size::square(1), &mut scratch);
            jitter.apply(&mut view, &mut sample_rng(0, 0, position));
            let offset = view.color_offset().map(f64::from);
            for (i, row) in covariance.iter_mut().enumerate() {
                for (j, sum) in row.iter_mut().enumerate() {
                    *sum += offset[i] * offset[j] / draws as f64;
                }
            }
        }
        // 0.5² · 3600 = 900 along (0.6, 0.8, 0), 0.5² · 400 = 100 along blue, nothing along the third.
        let expected = [[324.0, 432.0, 0.0], [432.0, 576.0, 0.0], [0.0, 0.0, 100.0]];
        for (found, expected) in covariance.iter().flatten().zip(expected.iter().flatten()) {
            assert!((found - expected).abs() < 20.0, "{covariance:?}, expected {expected:?}");
        }
    }

    #[test]
    fn the_statistics_of_imagenet_are_used_where_they_are_asked_for() {
        let grey = ColorStatistics { eigenvalues: [0.0; 3], ..ColorStatistics::imagenet() };
        let offset = |statistics| {
            let parameters = Parameters { statistics, ..Parameters::default() };
            let mut scratch = Scratch::default();
            let mut view = View::planar(&[0; 3], Size::square(1), &mut scratch);
            PcaJitter::new(parameters, Some(&grey)).unwrap().apply(&mut view, &mut sample_rng(0, 0, 0));
            view.color_offset()
        };
        assert_eq!(offset(PcaStatistics::Dataset), [0.0; 3]);
        assert_ne!(offset(PcaStatistics::Imagenet), [0.0; 3]);
    }

    #[test]
    fn a_data_set_without_statistics_is_refused_with_the_remedy() {
        let error = PcaJitter::new(Parameters::default(), None).unwrap_err().to_string();
        assert!(error.contains("statistics = \"imagenet\""), "{error}");
    }
}
