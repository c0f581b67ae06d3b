//! Scalar outputs of a run.

use ort::memory::Allocator;
use ort::value::Tensor;

use super::flat::{Binding, is_host};
use crate::metrics::BatchMetrics;
use crate::names;
use crate::recipe::Loss;

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
    first: ScalarOutput,
    second: ScalarOutput,
    /// Whether they are counts of rows of the right class.
    are_counts: bool,
}

impl ScalarOutputs {
    /// Three scalars in memory of `place`, those of `loss`.
    pub fn new(place: &Allocator, loss: Loss) -> ort::Result<Self> {
        Ok(Self {
            loss: ScalarOutput::new(place)?,
            first: ScalarOutput::new(place)?,
            second: ScalarOutput::new(place)?,
            are_counts: loss == Loss::CrossEntropy,
        })
    }

    /// Binds them under their names.
    pub fn bind(&mut self, binding: &mut Binding) -> ort::Result<()> {
        self.loss.bind(names::LOSS, binding)?;
        let [first, second] = match self.are_counts {
            true => [names::TOP1, names::TOP5],
            false => [names::FIRST_ERROR, names::SECOND_ERROR],
        };
        self.first.bind(first, binding)?;
        self.second.bind(second, binding)
    }

    /// The metrics of the last run over a batch of `rows` rows.
    pub fn read(&self, rows: usize) -> ort::Result<BatchMetrics> {
        let (rows, loss) = (rows as u64, f64::from(self.loss.read()?));
        let (first, second) = (self.first.read()?, self.second.read()?);
        if !self.are_counts {
            return Ok(BatchMetrics::from_errors(rows, loss, [first.into(), second.into()]));
        }
        // Counts are whole numbers below 2²⁴, which f32 holds exactly.
        Ok(BatchMetrics { rows, loss, top1: first as u64, top5: second as u64, errors: [0.0; 2] })
    }
}
