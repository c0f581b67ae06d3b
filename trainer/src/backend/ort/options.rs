//! How sessions are to compute.

use super::flat::Binding;
use crate::backend::{BackendError, Device, Precision};

/// Number of the CUDA graph of a step's first batch.
pub(super) const FIRST_GRAPH: u32 = 1;
/// Number of that of its further batches, whose gradients go elsewhere.
pub(super) const FURTHER_GRAPH: u32 = 2;

/// How ONNX Runtime is to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrtOptions {
    /// Where.
    pub device: Device,
    /// With what numbers.
    pub precision: Precision,
    /// Whether a GPU records the step at its first run and replays it from then on, which spares the launching of its kernels
    /// one by one.
    pub cuda_graph: bool,
}

impl OrtOptions {
    /// On `device`, in full single precision, without a CUDA graph.
    #[must_use]
    pub fn new(device: Device) -> Self {
        Self { device, precision: Precision::F32, cuda_graph: false }
    }

    /// Has runs of `binding` recorded if asked for.
    pub(super) fn record(&self, binding: &mut Binding, number: u32) -> Result<(), BackendError> {
        if !self.cuda_graph {
            return Ok(());
        }
        binding.record_as(number).map_err(BackendError::session("set up a CUDA graph"))
    }
}
