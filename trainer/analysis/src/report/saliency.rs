//! How much the network's answer depends on each pixel of an image.

use fovea_pipeline::geometry::Size;
use fovea_runtime::OnnxRuntime;
use fovea_trainer::backend::{Inference, OrtOptions};
use fovea_trainer::names;
use fovea_trainer::training::{TrainedModel, TrainingError};

use crate::figure::Picture;

/// The share of the pixels that are white: a few large values would leave the others black.
const WHITE: f64 = 0.01;

/// A network with the derivative of its highest logit.
pub(super) struct Saliency {
    network: Inference,
}

impl Saliency {
    /// Prepares `trained`.
    ///
    /// # Errors
    /// Those of [`TrainedModel::saliency_graph`], and [`TrainingError::Backend`] when the device cannot be
    /// used.
    pub fn new(
        trained: &TrainedModel,
        loaded: &OnnxRuntime,
        options: &OrtOptions,
    ) -> Result<Self, TrainingError> {
        let graph = trained.saliency_graph()?;
        Ok(Self { network: Inference::new(loaded, &graph, options)? })
    }

    /// A map for each of the images `u8 [N,3,H,W]` of this size, and their logits `f32 [N,K]`.
    ///
    /// # Errors
    /// [`TrainingError::Backend`].
    pub fn maps(&mut self, images: &[u8], size: Size) -> Result<(Vec<Picture>, Vec<f32>), TrainingError> {
        let mut outputs = self.network.run(images)?;
        let mut take = |name| outputs.remove(name).unwrap_or_default();
        let maps = take(names::SALIENCY);
        let maps = maps.chunks_exact(size.area()).map(|map| picture(map, size)).collect();
        Ok((maps, take(names::LOGITS)))
    }
}

/// A map in grey, from black for 0 to white for what few pixels reach.
fn picture(map: &[f32], size: Size) -> Picture {
    let plane = grey(map);
    Picture::from_planes(size.width, size.height, &[&plane[..], &plane, &plane].concat())
}

/// Values scaled to 0..=255; black if none is above 0.
fn grey(map: &[f32]) -> Vec<u8> {
    let mut sorted: Vec<f32> = map.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_unstable_by(f32::total_cmp);
    let white = (sorted.len() as f64 * (1.0 - WHITE)) as usize;
    let white = sorted.get(white).copied().filter(|&white| white > 0.0);
    let white = white.or_else(|| sorted.last().copied()).filter(|&white| white > 0.0).unwrap_or(1.0);
    // `as` saturates, and turns NaN into 0.
    map.iter().map(|value| (255.0 * value / white).round() as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_a_hundred_is_white_and_the_rest_in_proportion() {
        let map: Vec<f32> = (0..200).map(|at| at as f32).collect();
        let grey = grey(&map);
        assert_eq!((grey[0], grey[99], grey[197], grey[198], grey[199]), (0, 128, 254, 255, 255));
    }

    #[test]
    fn a_map_without_values_is_black_and_a_single_point_is_white() {
        assert_eq!(grey(&[0.0; 4]), [0; 4]);
        assert_eq!(grey(&[f32::NAN, 0.0, f32::NAN, 0.0]), [0; 4]);
        let mut map = [0.0; 400];
        map[7] = 1e-20;
        assert_eq!(grey(&map).iter().filter(|&&value| value == 255).count(), 1);
    }
}
