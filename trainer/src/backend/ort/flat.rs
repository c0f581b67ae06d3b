//! Flat buffers of f32, and bindings of ranges of them to a session's inputs and outputs.
//!
//! `ort` makes tensors that own their memory or borrow it, and deadlocks on borrowed ones in bindings. The
//! views here are tensors over foreign memory that `ort` takes for owned; they never leave this file, and a
//! [`Binding`] that holds them also holds the buffer.

use std::ffi::c_void;
use std::fmt::Debug;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ort::AsPointer;
use ort::memory::{AllocationDevice, Allocator, MemoryInfo};
use ort::session::{IoBinding, RunOptions, Session};
use ort::sys::OrtValue;
use ort::value::{PrimitiveTensorElementType, Tensor, Value, ValueTypeMarker};

/// A flat buffer that bindings share; a run locks all its buffers.
pub(super) type SharedFlat = Arc<Mutex<Flat>>;

/// A buffer of f32 on the device.
pub(super) struct Flat {
    tensor: Tensor<f32>,
    allocator: Allocator,
    len: usize,
}

impl Flat {
    /// A buffer of `len` zeros from `allocator`.
    pub fn zeros(allocator: Allocator, len: usize) -> ort::Result<SharedFlat> {
        let mut tensor = Tensor::new(&allocator, [len])?;
        if is_host(&tensor) {
            host_values(&mut tensor).fill(0.0);
        } else {
            copy_to(&vec![0.0; len], &mut tensor)?;
        }
        Ok(Arc::new(Mutex::new(Self { tensor, allocator, len })))
    }

    /// Lends the values, copied from the device if necessary.
    pub fn read<R>(&mut self, read: impl FnOnce(&[f32]) -> R) -> ort::Result<R> {
        if is_host(&self.tensor) {
            return Ok(read(host_values(&mut self.tensor)));
        }
        let mut host = Tensor::<f32>::new(&Allocator::default(), [self.len])?;
        self.tensor.copy_into(&mut host)?;
        Ok(read(host_values(&mut host)))
    }

    /// Calls `write` to replace all values; their content before is unspecified.
    pub fn write<R>(&mut self, write: impl FnOnce(&mut [f32]) -> R) -> ort::Result<R> {
        if is_host(&self.tensor) {
            return Ok(write(host_values(&mut self.tensor)));
        }
        let mut host = vec![0.0; self.len];
        let result = write(&mut host);
        copy_to(&host, &mut self.tensor)?;
        Ok(result)
    }

    /// Lends the values for modification, copied from the device and back if necessary.
    pub fn modify<R>(&mut self, modify: impl FnOnce(&mut [f32]) -> R) -> ort::Result<R> {
        if is_host(&self.tensor) {
            return Ok(modify(host_values(&mut self.tensor)));
        }
        let mut host = self.read(<[f32]>::to_vec)?;
        let result = modify(&mut host);
        copy_to(&host, &mut self.tensor)?;
        Ok(result)
    }

    /// A tensor over the values from `offset` on; it must be dropped before the buffer.
    fn view(&mut self, offset: usize, shape: &[usize]) -> ort::Result<Tensor<f32>> {
        let count: usize = shape.iter().product();
        let inside = offset.checked_add(count).is_some_and(|end| end <= self.len);
        assert!(inside, "{count} values from {offset} on are not inside a buffer of {}", self.len);
        // SAFETY: offset and count are inside the buffer, whose address never changes; `Binding` keeps the
        // buffer longer than the view.
        unsafe {
            let start = self.tensor.data_ptr_mut().cast::<f32>().add(offset);
            over(self.tensor.memory_info(), start, shape, &self.allocator)
        }
    }
}

/// A tensor over foreign memory; it only keeps `allocator` alive.
///
/// # Safety
/// `start` points to as many values as `shape` has, in memory that `memory` describes, valid until the last
/// use of the tensor.
unsafe fn over<T: PrimitiveTensorElementType + Debug>(
    memory: &MemoryInfo<'_>,
    start: *mut T,
    shape: &[usize],
    allocator: &Allocator,
) -> ort::Result<Tensor<T>> {
    let count: usize = shape.iter().product();
    let shape: Vec<i64> = shape.iter().map(|&length| length as i64).collect();
    let mut value: *mut OrtValue = ptr::null_mut();
    // SAFETY: memory and count are as the caller promises; ONNX Runtime copies the shape, and does not own
    // the memory.
    let status = unsafe {
        (ort::api().CreateTensorWithDataAsOrtValue)(
            memory.ptr(),
            start.cast::<c_void>(),
            count * size_of::<T>(),
            shape.as_ptr(),
            shape.len(),
            T::into_tensor_element_type().into(),
            &mut value,
        )
    };
    // SAFETY: the status was just returned by ONNX Runtime and is used once.
    unsafe { ort::Error::result_from_status(status) }?;
    let value = NonNull::new(value).ok_or_else(|| ort::Error::new("no tensor came back"))?;
    // SAFETY: a valid tensor of T that nobody else releases.
    Ok(unsafe { Tensor::from_ptr(value, Some(allocator)) })
}

/// Copies `values` of the host to a tensor with as many values, on any device.
pub(super) fn copy_to<T: PrimitiveTensorElementType + Debug>(
    values: &[T],
    target: &mut Tensor<T>,
) -> ort::Result<()> {
    let shape: Vec<usize> = target.shape().iter().map(|&length| length as usize).collect();
    let count: usize = shape.iter().product();
    assert_eq!(values.len(), count, "a copy needs as many values as its target has");
    let host = Allocator::default();
    // SAFETY: the values outlive the copy, which is complete when `copy_into` returns, and are only read; the
    // objects that `ort` copies with have released the tensor by then.
    let source = unsafe { over(host.memory_info(), values.as_ptr().cast_mut(), &shape, &host) }?;
    source.copy_into(target)
}

/// Locks a buffer; a panic elsewhere does not invalidate it.
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

/// Inputs and outputs of a session, bound once and used for every run.
pub(super) struct Binding {
    // Dropped before the buffers that its views point into.
    binding: IoBinding,
    buffers: Vec<SharedFlat>,
    options: Option<RunOptions>,
    has_run: bool,
}

impl Binding {
    pub fn new(session: &Session) -> ort::Result<Self> {
        Ok(Self { binding: session.create_binding()?, buffers: Vec::new(), options: None, has_run: false })
    }

    /// Binds a tensor that is in the session's memory; it is used in place.
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

    /// Makes a GPU record the run as a CUDA graph with this number, unique in the session.
    pub fn record_as(&mut self, number: u32) -> ort::Result<()> {
        let mut options = RunOptions::new()?;
        options.set("gpu_graph_id", number.to_string())?;
        self.options = Some(options);
        Ok(())
    }

    /// Runs the session, with all buffers locked.
    pub fn run(&mut self, session: &mut Session) -> ort::Result<()> {
        let _locked: Vec<_> = self.buffers.iter().map(|flat| lock(flat)).collect();
        match &self.options {
            Some(options) => session.run_binding_with_options(&self.binding, options).map(drop),
            None => session.run_binding(&self.binding).map(drop),
        }?;
        self.has_run = true;
        Ok(())
    }

    /// Whether it has run: allocations and recordings of the first run are done.
    pub fn has_run(&self) -> bool {
        self.has_run
    }

    /// Runs the session once with `values` of the host as the input `name`, in place, and binds `usual`
    /// again.
    pub fn run_with<T: PrimitiveTensorElementType + Debug>(
        &mut self,
        session: &mut Session,
        name: &str,
        values: &[T],
        usual: &Tensor<T>,
    ) -> ort::Result<()> {
        let shape: Vec<usize> = usual.shape().iter().map(|&length| length as usize).collect();
        assert_eq!(values.len(), shape.iter().product::<usize>(), "values fill the input");
        let host = Allocator::default();
        // SAFETY: the values are borrowed until the run is over, and inputs are only read. The binding holds
        // no reference to the tensor when this function returns.
        let lent = unsafe { over(host.memory_info(), values.as_ptr().cast_mut(), &shape, &host) }?;
        let run = self.binding.bind_input(name, &lent).and_then(|()| self.run(session));
        let restored = self.binding.bind_input(name, usual);
        if restored.is_err() {
            self.binding.clear_inputs();
        }
        run.and(restored)
    }

    fn hold(&mut self, flat: &SharedFlat) {
        if !self.buffers.iter().any(|held| Arc::ptr_eq(held, flat)) {
            self.buffers.push(Arc::clone(flat));
        }
    }
}

#[cfg(test)]
mod tests {
    use fovea_graph::{Builder, Lowering, Target, TensorType};
    use fovea_runtime::testing;

    use super::*;

    fn doubling(len: usize) -> Session {
        let mut g = Builder::new("double", Lowering::evaluation(Target::Cpu));
        let x = g.input("x", TensorType::f32([len])).unwrap();
        let y = g.add(x, x).unwrap();
        g.output("y", y).unwrap();
        testing::cpu_session(&g.finish().to_bytes())
    }

    fn counting(len: usize) -> SharedFlat {
        let flat = Flat::zeros(Allocator::default(), len).unwrap();
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
    fn an_input_can_be_lent_for_one_run() {
        let mut session = doubling(2);
        let (usual, mut output) = (
            Tensor::from_array(([2_usize], vec![1.0_f32, 2.0])).unwrap(),
            Tensor::new(&Allocator::default(), [2_usize]).unwrap(),
        );
        let mut binding = Binding::new(&session).unwrap();
        binding.input("x", &usual).unwrap();
        binding.output("y", &mut output).unwrap();
        for salt in 0..3 {
            let lent = vec![salt as f32, 10.0];
            binding.run_with(&mut session, "x", &lent, &usual).unwrap();
            drop(lent);
            assert_eq!(output.extract_tensor().1, [2.0 * salt as f32, 20.0]);
            binding.run(&mut session).unwrap();
            assert_eq!(output.extract_tensor().1, [2.0, 4.0]);
        }
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
    fn values_of_the_host_are_copied_to_a_tensor() {
        let _loaded = testing::runtime();
        for salt in 0..3 {
            let values: Vec<u8> = (0..6).map(|i| i + salt).collect();
            let mut target = Tensor::<u8>::new(&Allocator::default(), [2_usize, 3]).unwrap();
            copy_to(&values, &mut target).unwrap();
            drop(values);
            assert_eq!(target.extract_tensor().1, [salt, salt + 1, salt + 2, salt + 3, salt + 4, salt + 5]);
        }
    }

    #[test]
    #[should_panic(expected = "not inside a buffer of 4")]
    fn a_piece_outside_the_buffer_is_refused() {
        let session = doubling(3);
        let _ = Binding::new(&session).unwrap().input_view("x", &counting(4), 2, &[3]);
    }
}
