//! Options of sessions.

use fovea_graph::{ElementType, Target};
use fovea_runtime::Device;

use super::flat::Binding;
use crate::backend::{BackendError, Precision};
use crate::models::GraphOptions;
use crate::recipe::Recipe;

/// Number of the CUDA graph of a step's first micro-batch.
pub(super) const FIRST_GRAPH: u32 = 1;
/// Number of the CUDA graph whose gradients go to the second buffer; those of further buffers follow.
pub(super) const LATER_GRAPH: u32 = 2;

/// Options of ONNX Runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrtOptions {
    /// The device.
    pub device: Device,
    /// The precision of forward and backward.
    pub precision: Precision,
    /// Whether a GPU records the step at its first run and replays it afterwards, which saves the launches of
    /// single kernels. No effect on the CPU, nor for networks whose step ONNX Runtime does not replay
    /// faithfully. While it records, no other thread of the process may allocate or free memory of the GPU:
    /// CUDA ends the process then. (A loader's workers do neither.)
    pub cuda_graph: bool,
    /// Whether a GPU receives the images of the next batch while it computes a step; no effect on the CPU.
    pub copy_ahead: bool,
    /// Whether the device computes by kernels of Fovea's own what ONNX Runtime's kernels for standard
    /// operators are slow at.
    pub own_operators: bool,
}

impl OrtOptions {
    /// On `device`, in full single precision, with a CUDA graph and copies ahead, and kernels of our own on a
    /// processor that has what they were measured with; on a GPU they have not been measured.
    #[must_use]
    pub fn new(device: Device) -> Self {
        let own_operators = device == Device::Cpu && fovea_kernels::are_fast();
        Self { device, precision: Precision::F32, cuda_graph: true, copy_ahead: true, own_operators }
    }

    /// Whether the step is recorded.
    pub(super) fn records(&self) -> bool {
        self.cuda_graph && self.device != Device::Cpu
    }

    /// The graphs' options for `recipe` and batches of `rows`.
    #[must_use]
    pub fn graphs(&self, recipe: &Recipe, rows: usize) -> GraphOptions {
        let target = match (self.device, self.precision) {
            (Device::Cpu, _) => Target::Cpu,
            (Device::Cuda(_), Precision::F32) => Target::Cuda,
            (Device::Cuda(_), Precision::Tf32) => Target::CudaTf32,
            (Device::Cuda(_), Precision::F16) => Target::CudaF16,
        };
        let compute = match self.precision {
            Precision::F32 | Precision::Tf32 => ElementType::F32,
            Precision::F16 => ElementType::F16,
        };
        let own_operators = self.own_operators;
        GraphOptions { compute, own_operators, ..GraphOptions::from_recipe(recipe, rows, target) }
    }

    /// Makes runs of `binding` recorded if the options ask for it.
    pub(super) fn record(&self, binding: &mut Binding, number: u32) -> Result<(), BackendError> {
        if !self.records() {
            return Ok(());
        }
        binding.record_as(number).map_err(BackendError::session("set up a CUDA graph"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graphs_are_built_for_device_and_precision_and_only_a_gpu_records() {
        let recipe = Recipe::load("demo", &[]).unwrap();
        let built = |device, precision| {
            let graphs = OrtOptions { precision, ..OrtOptions::new(device) }.graphs(&recipe, 4);
            (graphs.target, graphs.compute)
        };
        use ElementType::{F16, F32};
        assert_eq!(built(Device::Cpu, Precision::F32), (Target::Cpu, F32));
        assert_eq!(built(Device::Cpu, Precision::F16), (Target::Cpu, F16));
        assert_eq!(built(Device::Cuda(1), Precision::F32), (Target::Cuda, F32));
        assert_eq!(built(Device::Cuda(0), Precision::Tf32), (Target::CudaTf32, F32));
        assert_eq!(built(Device::Cuda(0), Precision::F16), (Target::CudaF16, F16));
        assert!(OrtOptions::new(Device::Cuda(0)).records() && !OrtOptions::new(Device::Cpu).records());
    }
}
