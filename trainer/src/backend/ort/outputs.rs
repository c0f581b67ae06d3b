//! Scalar outputs of a run.

use ort::memory::Allocator;
use ort::value::Tensor;

use super::flat::{Binding, is_host};
use crate::metrics::BatchMetrics;
use crate::names;

/// A scalar output.
#[derive(Debug)]
pub(super) struct ScalarOutput {
    tensor: Tensor<f32>,
}

impl ScalarOutput {
    /// A scalar in memory of `place`.
    pub fn new(place: &Allocator) -> ort::Result<Self> {
        Ok(Self { tensor: Tensor::new(place, Vec::<i64>::new())? })
    }

    /// Binds it as the output `name`.
    pub fn bind(&mut self, name: &str, binding: &mut Binding) -> ort::Result<()> {
        binding.output(name, &mut self.tensor)
    }

    /// The value of the last run, copied from the device if necessary.
    pub fn read(&self) -> ort::Result<f32> {
        if is_host(&self.tensor) {
            return Ok(self.tensor.extract_tensor().1[0]);
        }
        let mut host = Tensor::<f32>::new(&Allocator::default(), Vec::<i64>::new())?;
        self.tensor.copy_into(&mut host)?;
        Ok(host.extract_tensor().1[0])
    }
}

/// The metrics of a batch.
#[derive(Debug)]
pub(super) struct ScalarOutputs {
    loss: ScalarOutput,
    top1: ScalarOutput,
    top5: ScalarOutput,
}

impl ScalarOutputs {
    /// Three scalars in memory of `place`.
    pub fn new(place: &Allocator) -> ort::Result<Self> {
        Ok(Self {
            loss: ScalarOutput::new(place)?,
            top1: ScalarOutput::new(place)?,
            top5: ScalarOutput::new(place)?,
        })
    }

    /// Binds them under their names.
    pub fn bind(&mut self, binding: &mut Binding) -> ort::Result<()> {
        self.loss.bind(names::LOSS, binding)?;
        self.top1.bind(names::TOP1, binding)?;
        self.top5.bind(names::TOP5, binding)
    }

    /// The metrics of the last run over a batch of `rows` rows.
    pub fn read(&self, rows: usize) -> ort::Result<BatchMetrics> {
        // Counts are whole numbers below 2²⁴, which f32 holds exactly.
        let (top1, top5) = (self.top1.read()? as u64, self.top5.read()? as u64);
        Ok(BatchMetrics { rows: rows as u64, loss: self.loss.read()?.into(), top1, top5 })
    }
}
