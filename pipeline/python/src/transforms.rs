//! Augmentations by their names in the registry.

use fovea_pipeline::augment::{self, AugmentationConfig};
use fovea_pipeline::random::sample_rng;
use fovea_pipeline::view::{Scratch, View};
use fovea_pipeline::{Chain, ColorStatistics, ImageSizes};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::errors::IntoException;

/// The names of all transforms.
#[pyfunction]
pub fn transform_names() -> Vec<&'static str> {
    augment::names().collect()
}

/// The chain that a JSON list of objects describes: `[{"op": "random_crop", "size": 224}, …]`.
pub fn chain(json: &str, input: ImageSizes, statistics: Option<&ColorStatistics>) -> PyResult<Chain> {
    let configs: Vec<AugmentationConfig> =
        serde_json::from_str(json).map_err(|error| PyValueError::new_err(format!("transform: {error}")))?;
    Chain::from_configs(&configs, input, statistics).map_err(IntoException::exception)
}

/// Draws of a chain that are looked at for colour offsets.
const DRAWS: u64 = 4;

/// Refuses a chain that leaves offsets to be added to the colours, which pixels u8 do not have.
pub fn check_no_color_offsets(chain: &Chain) -> PyResult<()> {
    let size = chain.input_sizes().smallest();
    let pixels = vec![0; 3 * size.area()];
    let mut scratch = Scratch::default();
    let offsets = (0..DRAWS).map(|position| {
        let mut view = View::planar(&pixels, size, &mut scratch);
        chain.apply(&mut view, &mut sample_rng(0, 0, position));
        view.color_offset()
    });
    let offsets: Vec<[f32; 3]> = offsets.collect();
    refuse_color_offsets(&offsets)
}

/// Refuses offsets that are still to be added to pixels u8.
pub fn refuse_color_offsets(offsets: &[[f32; 3]]) -> PyResult<()> {
    if offsets.iter().all(|offset| *offset == [0.0; 3]) {
        return Ok(());
    }
    Err(PyValueError::new_err(
        "a transform adds an offset to colours (pca_jitter), which dtype=\"uint8\" cannot hold: use \
         dtype=\"float16\" or \"float32\", or leave that transform out",
    ))
}
