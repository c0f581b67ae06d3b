//! How a loader works, checked before any thread is started.

use std::num::NonZeroU32;
use std::sync::Arc;

use fovea_pipeline::loader::{LastBatch, StatsSnapshot, Views};
use fovea_pipeline::order::Order;
use fovea_pipeline::{
    Axes, Chain, LoaderConfig, MeanValue, Mixing, Normalization, OutputForm, Records, UnknownName,
};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::dataset::Dataset;
use crate::dlpack::DataType;
use crate::errors::IntoException;
use crate::slots::Slots;
use crate::stream::Stream;
use crate::transforms;

/// How a loader works; it starts one at any position.
#[pyclass(frozen, module = "fovea_loader._native")]
pub struct Config {
    records: Arc<Records>,
    config: LoaderConfig,
    dtype: DataType,
    slots: Arc<Slots>,
}

#[pymethods]
impl Config {
    /// Batches have `batch_size` images of this rank.
    #[new]
    #[pyo3(signature = (dataset, *, batch_size, transform, dtype, mean, std, channels_last, shuffle, rank, world,
        drop_last, workers, buffers, on_bad_record, views, window, mixup_alpha,
        cutmix_alpha))]
    #[expect(clippy::too_many_arguments, reason = "called once, with keywords")]
    fn new(
        dataset: &Dataset,
        batch_size: usize,
        transform: &str,
        dtype: &str,
        mean: [f32; 3],
        std: [f32; 3],
        channels_last: bool,
        shuffle: bool,
        rank: usize,
        world: usize,
        drop_last: bool,
        workers: Option<usize>,
        buffers: usize,
        on_bad_record: &str,
        views: usize,
        window: Option<NonZeroU32>,
        mixup_alpha: f64,
        cutmix_alpha: f64,
    ) -> PyResult<Self> {
        let info = dataset.of();
        let chain = transforms::chain(transform, info.image_sizes(), info.statistics.as_ref())?;
        let normalization =
            Normalization { mean: MeanValue::Channels(mean), scale: std.map(|std| 1.0 / std) };
        let dtypes = ["uint8", "float16", "float32"];
        let dtype =
            UnknownName::find("dtype", dtype, &dtypes, |name| name).map_err(IntoException::exception)?;
        let (form, dtype) = match dtype {
            "uint8" => (OutputForm::U8, DataType::U8),
            "float16" => (OutputForm::F16(normalization), DataType::F16),
            _ => (OutputForm::F32(normalization), DataType::F32),
        };
        if form == OutputForm::U8 {
            transforms::check_no_color_offsets(&chain)?;
        }
        let training = LoaderConfig::training(Chain::empty(chain.output_size()));
        let config = LoaderConfig {
            batch_size,
            workers: workers.unwrap_or(training.workers),
            order: match window {
                _ if !shuffle => Order::Sequential,
                None => Order::Shuffled,
                Some(shards) => Order::Windowed(shards),
            },
            views: Views::Augmented { chain: Arc::new(chain), count: views },
            form,
            axes: if channels_last { Axes::Hwc } else { Axes::Chw },
            last_batch: if drop_last { LastBatch::Drop } else { LastBatch::Pad },
            rank,
            world,
            buffers,
            mixing: Mixing { mixup_alpha, cutmix_alpha },
            on_bad_record: on_bad_record.parse().map_err(UnknownName::exception)?,
            ..training
        };
        config.check(dataset.records()).map_err(IntoException::exception)?;
        let slots = Slots::new(config.shape().values() * dtype.bytes());
        Ok(Self { records: Arc::clone(dataset.records()), config, dtype, slots })
    }

    /// Side of the images in pixels.
    fn side(&self) -> u32 {
        self.config.shape().size.width
    }

    /// Starts threads that make batches from a position on, in epoch `epoch` after `first_sample` images of
    /// all ranks, to before epoch `until`, or without end. `allocate` makes page-locked tensors of bytes;
    /// without it batches are in ordinary memory.
    #[pyo3(signature = (*, seed, epoch, first_sample, until=None, allocate=None))]
    fn start(
        &self,
        py: Python<'_>,
        seed: u64,
        epoch: u64,
        first_sample: u64,
        until: Option<u64>,
        allocate: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Stream> {
        let epochs = epoch..until.unwrap_or(u64::MAX);
        let config = LoaderConfig { seed, epochs, first_sample, ..self.config.clone() };
        Stream::start(py, Arc::clone(&self.records), config, self.dtype, Arc::clone(&self.slots), allocate)
    }

    /// What a stream has done so far: counts, bytes, and times in seconds.
    #[pyo3(signature = (stream=None))]
    fn stats<'py>(&self, py: Python<'py>, stream: Option<&Stream>) -> PyResult<Bound<'py, PyDict>> {
        let found = stream.map_or_else(StatsSnapshot::default, Stream::snapshot);
        let stats = PyDict::new(py);
        stats.set_item("images", found.images)?;
        stats.set_item("skipped", found.skipped)?;
        stats.set_item("bytes_read", found.bytes_read)?;
        stats.set_item("bytes_written", found.bytes_written)?;
        stats.set_item("elapsed_s", found.elapsed.as_secs_f64())?;
        let images_per_s = if found.images == 0 { 0.0 } else { found.images_per_s() };
        stats.set_item("images_per_s", images_per_s)?;
        stats.set_item("workers_busy_s", found.workers_busy.as_secs_f64())?;
        stats.set_item("workers_waiting_s", found.workers_waiting.as_secs_f64())?;
        stats.set_item("consumer_waiting_s", found.consumer_waiting.as_secs_f64())?;
        stats.set_item("held_buffers", self.slots.held())?;
        stats.set_item("extra_buffers", self.slots.extra())?;
        Ok(stats)
    }
}
