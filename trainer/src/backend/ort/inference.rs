//! A trained network in a session of its own, for its outputs only.

use std::collections::BTreeMap;

use fovea_graph::Graph;
use fovea_runtime::OnnxRuntime;
use ort::session::Session;
use ort::value::Tensor;

use super::OrtOptions;
use super::session::{Role, open};
use crate::backend::BackendError;
use crate::names;

/// A session over a graph for export: images in, outputs out.
pub struct Inference {
    session: Session,
    px: usize,
}

impl Inference {
    /// Opens a session over a graph whose only input is images `u8 [N,3,H,W]` under the name
    /// [`names::IMAGES`].
    ///
    /// # Errors
    /// [`BackendError`] when ONNX Runtime rejects it or the device cannot be used.
    pub fn new(loaded: &OnnxRuntime, graph: &Graph, options: &OrtOptions) -> Result<Self, BackendError> {
        let px = graph.inputs().first().and_then(|port| port.ty.shape.last().copied()).unwrap_or(0);
        Ok(Self { session: open(loaded, options, graph, Role::Seldom)?, px })
    }

    /// Runs the network over images `u8 [N,3,H,W]`; gives every output, `f32 [N,…]`, by name.
    ///
    /// # Errors
    /// [`BackendError::Rows`] when that is not a whole number of images, at least one; otherwise
    /// [`BackendError::Session`].
    pub fn run(&mut self, images: &[u8]) -> Result<BTreeMap<String, Vec<f32>>, BackendError> {
        let row_bytes = 3 * self.px * self.px;
        if images.is_empty() || !images.len().is_multiple_of(row_bytes) {
            let (found, expected) = (images.len().to_string(), format!("a multiple of {row_bytes}"));
            return Err(BackendError::Rows { what: "bytes of images", found, expected });
        }
        let shape = [images.len() / row_bytes, 3, self.px, self.px];
        let mut run = || -> ort::Result<BTreeMap<String, Vec<f32>>> {
            let images = Tensor::from_array((shape, images.to_vec()))?;
            let outputs = self.session.run(ort::inputs![names::IMAGES => images])?;
            let values = |(name, value): (&str, ort::value::ValueRef<'_>)| {
                Ok((name.to_owned(), value.try_extract_tensor::<f32>()?.1.to_vec()))
            };
            outputs.iter().map(values).collect()
        };
        run().map_err(BackendError::session("run the network"))
    }
}
