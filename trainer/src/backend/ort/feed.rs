//! Inputs that the host writes for every run.

use std::fmt::Debug;

use fovea_runtime::Device;
use ort::memory::Allocator;
use ort::session::Session;
use ort::value::{PrimitiveTensorElementType, Tensor};

use super::flat::{Binding, copy_to};
use super::session::{device_allocator, staging_allocator};
use crate::backend::BackendError;

/// An input that the host writes: in place on the CPU, through staging memory for a GPU.
///
/// Its address on the device is constant, so that it is bound once.
#[derive(Debug)]
pub(super) struct Feed<T: PrimitiveTensorElementType + Debug> {
    name: String,
    host: Tensor<T>,
    device: Option<Tensor<T>>,
    /// Whether the device has the current values of the host's side.
    is_sent: bool,
}

impl<T: PrimitiveTensorElementType + Debug + Copy + Default + PartialEq + 'static> Feed<T> {
    /// An input of `session` with this name and shape, filled with the type's default.
    pub fn new(session: &Session, device: Device, name: &str, shape: &[usize]) -> Result<Self, BackendError> {
        let shape: Vec<i64> = shape.iter().map(|&length| length as i64).collect();
        let make = |allocator: &Allocator| {
            Tensor::<T>::new(allocator, shape.clone()).map_err(BackendError::session("allocate an input"))
        };
        let mut host = make(&staging_allocator(session, device)?)?;
        host.extract_tensor_mut().1.fill(T::default());
        let device = match device {
            Device::Cpu => None,
            Device::Cuda(_) => Some(make(&device_allocator(session, device)?)?),
        };
        Ok(Self { name: name.to_owned(), host, device, is_sent: false })
    }

    /// Binds it.
    pub fn bind(&self, binding: &mut Binding) -> Result<(), BackendError> {
        let tensor = self.device.as_ref().unwrap_or(&self.host);
        binding.input(&self.name, tensor).map_err(BackendError::session("bind an input"))
    }

    /// Calls `write` with the values and copies them to the device.
    pub fn write(&mut self, write: impl FnOnce(&mut [T])) -> Result<(), BackendError> {
        write(self.host.extract_tensor_mut().1);
        if let Some(device) = &mut self.device {
            self.host.copy_into(device).map_err(BackendError::session("copy an input to the GPU"))?;
            self.is_sent = true;
        }
        Ok(())
    }

    /// Sets all values to `value`; skips the copy if the device has them already, as every copy waits for the
    /// GPU.
    pub fn fill(&mut self, value: T) -> Result<(), BackendError> {
        if self.is_sent && self.host.extract_tensor().1.iter().all(|&there| there == value) {
            return Ok(());
        }
        self.write(|values| values.fill(value))
    }

    /// Runs a session with `values` as this input. If they fill the input, the CPU reads them in place and a
    /// GPU copies them directly; if they are fewer, the previous values of the host's side follow them.
    pub fn run_with(
        &mut self,
        values: &[T],
        binding: &mut Binding,
        session: &mut Session,
        doing: &'static str,
    ) -> Result<(), BackendError> {
        let len = self.len();
        let run = if self.device.is_none() && values.len() >= len {
            binding.run_with(session, &self.name, &values[..len], &self.host)
        } else {
            self.copy_from(values)?;
            binding.run(session)
        };
        run.map_err(BackendError::session(doing))
    }

    /// The host's side of this input, into which values were copied.
    #[cfg(test)]
    pub fn copied(&self) -> &[T] {
        self.host.extract_tensor().1
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.host.shape().num_elements()
    }

    /// The tensor that sessions read, for all of its values to be replaced.
    pub fn overwritten(&mut self) -> &mut Tensor<T> {
        self.is_sent = false;
        self.device.as_mut().unwrap_or(&mut self.host)
    }

    /// Copies `values` to the device; if they are fewer than the input has, the previous values of the host's
    /// side follow them.
    pub fn copy_from(&mut self, values: &[T]) -> Result<(), BackendError> {
        let len = self.len();
        match &mut self.device {
            Some(device) if values.len() >= len => {
                self.is_sent = false;
                copy_to(&values[..len], device).map_err(BackendError::session("copy an input to the GPU"))
            }
            _ => self.write(|host| {
                let len = host.len().min(values.len());
                host[..len].copy_from_slice(&values[..len]);
            }),
        }
    }
}
