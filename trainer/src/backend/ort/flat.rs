//! Flat buffers of f32 and bindings of pieces of them to a session's inputs and outputs.
//!
//! `ort` makes tensors that own their memory or borrow it, and deadlocks on borrowed ones in bindings. The pieces here are
//! tensors over someone else's memory that look owned to `ort`; they never leave this file, and a [`Binding`] that
//! holds them holds the buffer too.

use std::{
    ffi::c_void,
    ptr::{self, NonNull},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ort::{
    AsPointer,
    memory::{AllocationDevice, Allocator},
    session::{IoBinding, Session},
    sys::{ONNXTensorElementDataType, OrtValue},
    value::{Tensor, Value, ValueTypeMarker},
};

/// A flat buffer that bindings share; a run locks all it works on.
pub(super) type SharedFlat = Arc<Mutex<Flat>>;

/// A buffer of f32 on the device.
pub(super) struct Flat {
    tensor: Tensor<f32>,
    allocator: Arc<Allocator>,
    len: usize,
}

impl Flat {
    /// A buffer of `len` zeros from `allocator`.
    pub fn zeros(allocator: &Arc<Allocator>, len: usize) -> ort::Result<SharedFlat> {
        let mut tensor = Tensor::new(allocator, [len])?;
        if is_host(&tensor) {
            host_values(&mut tensor).fill(0.0);
        } else {
            host_tensor(vec![0.0; len])?.copy_into(&mut tensor)?;
        }
        Ok(Arc::new(Mutex::new(Self { tensor, allocator: Arc::clone(allocator), len })))
    }

    /// Lends the values, copied from the device if need be.
    pub fn read<R>(&mut self, read: impl FnOnce(&[f32]) -> R) -> ort::Result<R> {
        if is_host(&self.tensor) {
            return Ok(read(host_values(&mut self.tensor)));
        }
        let mut host = Tensor::<f32>::new(&Allocator::default(), [self.len])?;
        self.tensor.copy_into(&mut host)?;
        Ok(read(host_values(&mut host)))
    }

    /// Has all values written anew; what `write` sees before is unspecified.
    pub fn write<R>(&mut self, write: impl FnOnce(&mut [f32]) -> R) -> ort::Result<R> {
        if is_host(&self.tensor) {
            return Ok(write(host_values(&mut self.tensor)));
        }
        let mut host = host_tensor(vec![0.0; self.len])?;
        let result = write(host_values(&mut host));
        host.copy_into(&mut self.tensor)?;
        Ok(result)
    }

    /// A tensor over the values from `offset` on, to be dropped before the buffer is.
    fn view(&mut self, offset: usize, shape: &[usize]) -> ort::Result<Tensor<f32>> {
        let count: usize = shape.iter().product();
        let inside = offset.checked_add(count).is_some_and(|end| end <= self.len);
        assert!(inside, "{count} values from {offset} on are not inside a buffer of {}", self.len);
        let shape: Vec<i64> = shape.iter().map(|&length| length as i64).collect();
        let mut value: *mut OrtValue = ptr::null_mut();
        // SAFETY: offset and count lie inside the buffer, whose address never changes; the memory info is that of the
        // buffer; ONNX Runtime copies the shape. The new value does not own the memory: `Binding` keeps the buffer longer.
        let status = unsafe {
            (ort::api().CreateTensorWithDataAsOrtValue)(
                self.tensor.memory_info().ptr(),
                self.tensor.data_ptr_mut().cast::<f32>().add(offset).cast::<c_void>(),
                count * size_of::<f32>(),
                shape.as_ptr(),
                shape.len(),
                ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                &mut value,
            )
        };
        // SAFETY: the status was just returned by ONNX Runtime and is used once.
        unsafe { ort::Error::result_from_status(status) }?;
        let value = NonNull::new(value).ok_or_else(|| ort::Error::new("no tensor came back"))?;
        // SAFETY: a valid tensor of f32 that nobody else releases; the allocator is only kept alive by it.
        Ok(unsafe { Tensor::from_ptr(value, Some(&self.allocator)) })
    }
}

/// Locks a buffer; one that a panic has left behind is still a buffer.
pub(super) fn lock(flat: &Mutex<Flat>) -> MutexGuard<'_, Flat> {
    flat.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the processor can read a tensor's memory.
pub(super) fn is_host(tensor: &Tensor<f32>) -> bool {
    tensor.memory_info().allocation_device() == AllocationDevice::CPU
}

fn host_values(tensor: &mut Tensor<f32>) -> &mut [f32] {
    tensor.extract_tensor_mut().1
}

fn host_tensor(values: Vec<f32>) -> ort::Result<Tensor<f32>> {
    Tensor::from_array(([values.len()], values))
}

/// Inputs and outputs of a session, bound once and used for every run.
pub(super) struct Binding {
    // Dropped before the buffers, which its views point into.
    binding: IoBinding,
    buffers: Vec<SharedFlat>,
}

impl Binding {
    pub fn new(session: &Session) -> ort::Result<Self> {
        Ok(Self { binding: session.create_binding()?, buffers: Vec::new() })
    }

    /// Binds a tensor that lies where the session wants it; its memory is used in place.
    pub fn input<T: ValueTypeMarker + ?Sized>(&mut self, name: &str, value: &Value<T>) -> ort::Result<()> {
        self.binding.bind_input(name, value)
    }

    /// Binds a tensor that was made with `Tensor::new`.
    pub fn output(&mut self, name: &str, value: &mut Tensor<f32>) -> ort::Result<()> {
        self.binding.bind_output(name, value)
    }

    /// Binds the values of `flat` from `offset` on.
    pub fn input_view(
        &mut self,
        name: &str,
        flat: &SharedFlat,
        offset: usize,
        shape: &[usize],
    ) -> ort::Result<()> {
        let view = lock(flat).view(offset, shape)?;
        self.hold(flat);
        self.binding.bind_input(name, &view)
    }

    /// Binds the values of `flat` from `offset` on.
    pub fn output_view(
        &mut self,
        name: &str,
        flat: &SharedFlat,
        offset: usize,
        shape: &[usize],
    ) -> ort::Result<()> {
        let mut view = lock(flat).view(offset, shape)?;
        self.hold(flat);
        self.binding.bind_output(name, &mut view)
    }

    /// Runs the session, with all buffers locked.
    pub fn run(&self, session: &mut Session) -> ort::Result<()> {
        let _locked: Vec<_> = self.buffers.iter().map(|flat| lock(flat)).collect();
        session.run_binding(&self.binding).map(drop)
    }

    fn hold(&mut self, flat: &SharedFlat) {
        if !self.buffers.iter().any(|held| Arc::ptr_eq(held, flat)) {
            self.buffers.push(Arc::clone(flat));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        graph::{Builder, Lowering, Target, TensorType},
        support,
    };

    fn doubling(len: usize) -> Session {
        let mut g = Builder::new("double", Lowering::evaluation(Target::Cpu));
        let x = g.input("x", TensorType::f32([len])).unwrap();
        let y = g.add(x, x).unwrap();
        g.output("y", y).unwrap();
        support::session(&g.finish().to_bytes())
    }

    fn counting(len: usize) -> SharedFlat {
        let flat = Flat::zeros(&Arc::new(Allocator::default()), len).unwrap();
        let count = |values: &mut [f32]| values.iter_mut().enumerate().for_each(|(i, v)| *v = i as f32);
        lock(&flat).write(count).unwrap();
        flat
    }

    #[test]
    fn a_session_reads_and_writes_pieces_of_a_buffer_in_place() {
        let mut session = doubling(3);
        let (from, to) = (counting(8), counting(6));
        let mut binding = Binding::new(&session).unwrap();
        binding.input_view("x", &from, 2, &[3]).unwrap();
        binding.output_view("y", &to, 1, &[3]).unwrap();
        binding.run(&mut session).unwrap();
        assert_eq!(lock(&to).read(<[f32]>::to_vec).unwrap(), [0.0, 4.0, 6.0, 8.0, 4.0, 5.0]);
        lock(&from).write(|values| values[2] = 50.0).unwrap();
        binding.run(&mut session).unwrap();
        assert_eq!(lock(&to).read(|values| values[1]).unwrap(), 100.0);
    }

    #[test]
    fn one_piece_can_be_input_and_output() {
        let mut session = doubling(2);
        let flat = counting(4);
        let mut binding = Binding::new(&session).unwrap();
        binding.input_view("x", &flat, 1, &[2]).unwrap();
        binding.output_view("y", &flat, 1, &[2]).unwrap();
        for _ in 0..3 {
            binding.run(&mut session).unwrap();
        }
        assert_eq!(lock(&flat).read(<[f32]>::to_vec).unwrap(), [0.0, 8.0, 16.0, 3.0]);
    }

    #[test]
    fn a_binding_keeps_its_buffers() {
        let mut session = doubling(2);
        let to = counting(2);
        let mut binding = Binding::new(&session).unwrap();
        binding.input_view("x", &counting(4), 2, &[2]).unwrap();
        binding.output_view("y", &to, 0, &[2]).unwrap();
        binding.run(&mut session).unwrap();
        assert_eq!(lock(&to).read(<[f32]>::to_vec).unwrap(), [4.0, 6.0]);
        let weak = Arc::downgrade(&to);
        drop(to);
        assert!(weak.upgrade().is_some());
        drop(binding);
        assert!(weak.upgrade().is_none());
    }

    #[test]
    #[should_panic(expected = "not inside a buffer of 4")]
    fn a_piece_outside_the_buffer_is_refused() {
        let session = doubling(3);
        let _ = Binding::new(&session).unwrap().input_view("x", &counting(4), 2, &[3]);
    }
}
