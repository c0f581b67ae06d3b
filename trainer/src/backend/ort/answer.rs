//! Numbers that come back from a run.

use ort::{memory::Allocator, value::Tensor};

use super::flat::{Binding, is_host};

/// A scalar output.
#[derive(Debug)]
pub(super) struct Answer {
    tensor: Tensor<f32>,
}

impl Answer {
    /// A scalar in memory of `place`.
    pub fn new(place: &Allocator) -> ort::Result<Self> {
        Ok(Self { tensor: Tensor::new(place, Vec::<i64>::new())? })
    }

    /// Makes it the output `name`.
    pub fn bind(&mut self, name: &str, binding: &mut Binding) -> ort::Result<()> {
        binding.output(name, &mut self.tensor)
    }

    /// What the last run wrote, copied from the device if need be.
    pub fn read(&self) -> ort::Result<f32> {
        if is_host(&self.tensor) {
            return Ok(self.tensor.extract_tensor().1[0]);
        }
        let mut host = Tensor::<f32>::new(&Allocator::default(), Vec::<i64>::new())?;
        self.tensor.copy_into(&mut host)?;
        Ok(host.extract_tensor().1[0])
    }
}
