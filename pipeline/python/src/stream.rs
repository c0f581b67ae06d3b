//! A running loader.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fovea_pipeline::batch::{BatchShape, Targets};
use fovea_pipeline::loader::{LoaderStats, StatsSnapshot};
use fovea_pipeline::memory::MemoryProvider;
use fovea_pipeline::{Axes, Batch, Images, Loader, LoaderConfig, Records};
use pyo3::exceptions::{PyMemoryError, PyRuntimeError};
use pyo3::prelude::*;

use crate::array::Array;
use crate::dlpack::DataType;
use crate::errors::IntoException;
use crate::process::Process;
use crate::slots::{PinnedMemory, Slots};
use crate::transforms;

/// How often a waiting thread looks for signals.
const SIGNALS_EVERY: Duration = Duration::from_millis(50);

/// A running loader: batches from one position on, epoch after epoch without end.
#[pyclass(frozen, module = "fovea_loader._native")]
pub struct Stream {
    /// `None` when it is closed.
    loader: Mutex<Option<Loader>>,
    /// Whether it is about to be closed.
    is_ending: AtomicBool,
    stats: LoaderStats,
    shape: BatchShape,
    axes: Axes,
    /// Classes or numbers of a label.
    outputs: usize,
    dtype: DataType,
    slots: Arc<Slots>,
    pinned: Option<Pinning>,
    process: Process,
}

/// Page-locked memory of PyTorch.
struct Pinning {
    allocate: Py<PyAny>,
    /// The tensors that the loader writes to, by their addresses.
    tensors: Mutex<HashMap<usize, Py<PyAny>>>,
}

#[pymethods]
impl Stream {
    /// The next batch: images and labels of its samples. The images are an `Array`, or a tensor of bytes
    /// `u8 [bytes]` where page-locked memory was asked for. Waits with the interpreter released.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<(Bound<'py, PyAny>, Array)>> {
        self.process.check()?;
        while !py.detach(|| self.lock().as_ref().is_none_or(|loader| loader.is_ready_within(SIGNALS_EVERY))) {
            py.check_signals()?;
            if self.is_ending.load(Ordering::Relaxed) {
                return Err(PyRuntimeError::new_err("the loader was closed while this batch was waited for"));
            }
        }
        match py.detach(|| self.lock().as_mut().and_then(Iterator::next)) {
            None => Ok(None),
            Some(Err(error)) => Err(error.exception()),
            Some(Ok(batch)) => self.hand_over(py, batch).map(Some),
        }
    }

    /// Ends the wait for a batch in another thread, with an error there.
    fn end_wait(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
    }

    /// Stops its threads.
    fn close(&self, py: Python<'_>) {
        if self.process.is_current() {
            py.detach(|| drop(self.lock().take()));
        }
    }
}

impl Stream {
    /// Starts the threads of a loader. `allocate` makes page-locked tensors; else batches are in `slots`.
    pub fn start(
        py: Python<'_>,
        records: Arc<Records>,
        config: LoaderConfig,
        dtype: DataType,
        slots: Arc<Slots>,
        allocate: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let axes = config.axes;
        let (_, outputs) = records.labels();
        let mut tensors = HashMap::new();
        let loader = match &allocate {
            None => py.detach(|| Loader::start(records, config)),
            Some(allocate) => {
                let mut memory = PinnedMemory { allocate, tensors: &mut tensors };
                Loader::start_with_memory(records, config, &mut memory)
            }
        };
        let loader = loader.map_err(IntoException::exception)?;
        let pinned =
            allocate.map(|allocate| Pinning { allocate: allocate.unbind(), tensors: Mutex::new(tensors) });
        Ok(Self {
            stats: loader.stats(),
            shape: loader.shape(),
            loader: Mutex::new(Some(loader)),
            is_ending: AtomicBool::new(false),
            axes,
            outputs,
            dtype,
            slots,
            pinned,
            process: Process::current(),
        })
    }

    /// The counters of the loader.
    pub fn snapshot(&self) -> StatsSnapshot {
        self.stats.snapshot()
    }

    /// Gives a batch to Python, and its place in the loader to another slot.
    fn hand_over<'py>(&self, py: Python<'py>, batch: Batch) -> PyResult<(Bound<'py, PyAny>, Array)> {
        if matches!(batch.images(), Images::U8(_)) {
            // A transform may add them so rarely that nothing was seen of it when the loader was made.
            transforms::refuse_color_offsets(batch.color_offsets())?;
        }
        let samples = batch.len();
        let labels = targets(&batch, self.outputs);
        let no_memory =
            |error: &dyn Display| PyMemoryError::new_err(format!("no memory for a batch: {error}"));
        let Some(pinning) = &self.pinned else {
            let slot = self.slots.take().map_err(|error| no_memory(&error))?;
            let memory = batch.into_memory(slot).map_err(|error| no_memory(&error))?;
            let (data, held) = self.slots.hold(memory);
            let (shape, strides) = self.shape_and_strides(samples);
            // SAFETY: a batch has as many values there, and `held` keeps them; the loader has another slot.
            let images = unsafe { Array::new(data, self.dtype, shape, strides, held) };
            return Ok((Bound::new(py, images)?.into_any(), labels));
        };
        // Not with the lock: Python may let another thread run.
        let mut made = HashMap::new();
        let slot = PinnedMemory { allocate: pinning.allocate.bind(py), tensors: &mut made }
            .allocate(self.slots.bytes())
            .map_err(|error| no_memory(&error))?;
        let memory = batch.into_memory(slot).map_err(|error| no_memory(&error))?;
        let mut tensors = pinning.tensors.lock().unwrap_or_else(PoisonError::into_inner);
        tensors.extend(made);
        let tensor = tensors.remove(&memory.bytes().as_ptr().addr());
        let tensor = tensor.ok_or_else(|| no_memory(&"its tensor is not known"))?;
        Ok((tensor.into_bound(py), labels))
    }

    /// Shape `[N·V,3,H,W]` of the images of so many samples, and its strides in elements.
    fn shape_and_strides(&self, samples: usize) -> (Vec<i64>, Vec<i64>) {
        let images = (samples * self.shape.views) as i64;
        let (height, width) = (i64::from(self.shape.size.height), i64::from(self.shape.size.width));
        let [channel, row, column] = match self.axes {
            Axes::Chw => [height * width, width, 1],
            Axes::Hwc => [1, 3 * width, 3],
        };
        (vec![images, 3, height, width], vec![3 * height * width, channel, row, column])
    }

    fn lock(&self) -> MutexGuard<'_, Option<Loader>> {
        self.loader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The labels of a batch: `i64 [N]`, or `u8 [N,K]`, or `f32 [N,K]`. Where images are mixed they are mixed
/// likewise, and `f32 [N,K]`.
fn targets(batch: &Batch, outputs: usize) -> Array {
    let samples = batch.len();
    let shape = || vec![samples as i64, outputs as i64];
    let Some(mixed) = batch.mixed() else {
        return match batch.targets() {
            Targets::Classes(labels) => Array::of_values(labels[..samples].to_vec(), vec![samples as i64]),
            Targets::MultiHot(marks) => Array::of_values(marks[..samples * outputs].to_vec(), shape()),
            Targets::Values(values) => Array::of_values(values[..samples * outputs].to_vec(), shape()),
        };
    };
    let mut sums = vec![0.0; samples * outputs];
    for (sample, sum) in sums.chunks_mut(outputs.max(1)).enumerate() {
        let share = mixed.shares[sample];
        for (sample, share) in [(sample, share), (mixed.partners[sample] as usize, 1.0 - share)] {
            let own = sample * outputs..(sample + 1) * outputs;
            match batch.targets() {
                Targets::Classes(labels) => sum[labels[sample] as usize] += share,
                Targets::MultiHot(marks) => {
                    sum.iter_mut().zip(&marks[own]).for_each(|(sum, &mark)| *sum += share * f32::from(mark));
                }
                Targets::Values(values) => {
                    sum.iter_mut().zip(&values[own]).for_each(|(sum, &value)| *sum += share * value);
                }
            }
        }
    }
    Array::of_values(sums, shape())
}

impl Drop for Stream {
    fn drop(&mut self) {
        let loader = self.loader.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if !self.process.is_current() {
            // The threads that would be joined are not in this process.
            std::mem::forget(loader);
        } else if let Some(loader) = loader {
            // Its threads may wait for one that waits for the interpreter.
            Python::try_attach(|py| py.detach(|| drop(loader)));
        }
    }
}
