//! Training through ONNX Runtime, on the CPU or a GPU.
//!
//! Four sessions over graphs of standard operators: *train* (forward, loss, backward), *update*, *accumulate*
//! (created when a step first has a second micro-batch) and *evaluate*. Weights, optimizer slots and
//! gradients are in one flat buffer each, on the device; the sessions read and write ranges of them in place,
//! bound once. In a step only images, labels, offsets and dropout masks are copied to the device, and three
//! metrics come back (in half precision also the sum of the gradients).

mod bound;
mod feed;
mod flat;
mod images;
mod inference;
mod kernels;
mod norm;
mod options;
mod outputs;
mod session;
mod staging;
#[cfg(test)]
pub(super) mod tests;
mod update;

use std::sync::MutexGuard;

use fovea_graph::Graph;
use fovea_pipeline::memory::{HostMemory, MemoryProvider};
use fovea_runtime::{Device, OnnxRuntime};
use ort::session::Session;

use self::bound::{BatchFeeds, Declared, Evaluate, Train};
use self::flat::{Binding, Flat, SharedFlat, lock};
use self::kernels::{is_replayable, without_cuda_kernel};
use self::norm::Norm;
use self::options::{FIRST_GRAPH, LATER_GRAPH};
use self::session::{Role, device_allocator, open, staging_allocator};
use self::staging::StagingMemory;
use self::update::{Adder, Flats, Updater};
use super::layout::{Entry, Layout};
use super::precision::LossScale;
use super::{
    BackendError, BatchMetrics, Description, Limits, MicroBatch, NextImages, ParameterExtremes, Precision,
    Rows, Save, Setup, TrainingBackend, Update, Updated, fill_mask, largest_magnitude,
};
use crate::collective::Branches;
use crate::models::TrainingGraphs;
use crate::state::{TensorRef, Tensors};
use crate::{names, optimizer};

pub use inference::Inference;
pub use options::OrtOptions;

/// The backend over ONNX Runtime.
pub struct OrtBackend {
    loaded: &'static OnnxRuntime,
    options: OrtOptions,
    limits: Limits,
    network: Declared,
    layout: Layout,
    entries: Vec<Entry>,
    batch: BatchFeeds,
    train: Train,
    /// Only if the gradients' norm has a limit.
    norm: Option<Norm>,
    update: Updater,
    evaluate: Evaluate,
    /// Their gradients are those of the first micro-batch of a step, then the sum over its micro-batches.
    flats: Flats,
    /// Further buffers of gradients; created when a step first needs them.
    further: Vec<FurtherGradients>,
    /// The sums of parts of the step that are in the first buffers of gradients.
    branches: Branches,
    /// Micro-batches of the part so far; their sum is in the buffer after those of `branches`.
    micro_batches: u32,
    /// The buffer that the last micro-batch wrote to.
    written: usize,
    /// Only in half precision.
    loss_scale: Option<LossScale>,
    /// Whether gradients of the step are not finite.
    overflows: bool,
}

/// A further buffer of gradients, and its addition to the one before it.
struct FurtherGradients {
    gradients: SharedFlat,
    binding: Binding,
    adder: Adder,
}

impl OrtBackend {
    /// A backend with initial weights, ready for its first step.
    ///
    /// # Errors
    /// [`BackendError`] when the network cannot be built, the mean does not fit, or the device cannot be
    /// used.
    pub fn new(
        loaded: &'static OnnxRuntime,
        setup: &Setup<'_>,
        options: OrtOptions,
    ) -> Result<Self, BackendError> {
        let mean = setup.mean()?;
        let graph_options = options.graphs(setup.recipe, setup.batch_rows);
        let graphs = TrainingGraphs::build(&setup.network, &graph_options)?;
        let TrainingGraphs { parameters, masks, buffers, train, evaluate } = graphs;
        let network = Declared { parameters, masks, buffers };
        let optimizer = optimizer::from_recipe(setup.recipe);
        let groups = optimizer::groups(setup.recipe, &network.parameters)?;
        let (update, accumulate) = (optimizer::update_graph(&*optimizer)?, optimizer::accumulate_graph()?);
        warn_of_missing_kernels(options.device, &[&train, &update, &accumulate, &evaluate]);
        let is_replayable = is_replayable(&train);
        if options.records() && !is_replayable {
            tracing::info!(
                "kernels are launched one by one: a CUDA graph of this network would not be faithful"
            );
        }
        let options = OrtOptions { cuda_graph: options.cuda_graph && is_replayable, ..options };

        let separate = optimizer.is_layerwise();
        let layout = Layout::new(&network.parameters, &groups, &network.buffers, separate);
        let entries = layout.entries(&network.parameters, &network.buffers, optimizer.slots());
        let session = open(&loaded.environment, &options, &train, Role::Train)?;
        let flat = |len| zeros(&session, options.device, len);
        let slots = optimizer.slots().iter().map(|_| flat(layout.buffers.start)).collect::<Result<_, _>>()?;
        let flats = Flats { weights: flat(layout.len)?, slots, gradients: flat(layout.buffers.end)? };
        let batch = BatchFeeds::new(&session, &options, setup)?;
        let mean_shape = graph_options.mean_shape(setup.recipe.input.crop_px);
        let mean_shape: &[usize] = &mean_shape;
        let mut train = Train::new(session, &options, setup, &network.masks, mean_shape)?;
        train.mean.write(|values| values.copy_from_slice(&mean))?;
        train.binding = train.bound(&batch, &network, &layout, &flats.weights, &flats.gradients)?;
        options.record(&mut train.binding, FIRST_GRAPH)?;

        let update = Updater::new(&loaded.environment, &options, &optimizer, &layout, &flats)?;
        let evaluate = open(&loaded.environment, &options, &evaluate, Role::Seldom)?;
        let evaluate = Evaluate::new(
            evaluate,
            setup,
            &batch,
            &train.mean,
            (&network, &layout),
            (&flats.weights, optimizer.average().map_or(&flats.weights, |slot| &flats.slots[slot])),
        )?;
        let norm = optimizer.clip_norm().map(|limit| {
            let trained = 0..layout.buffers.start;
            Norm::new(&loaded.environment, &options, trained, &flats.gradients, limit)
        });
        let backend = Self {
            loaded,
            options,
            limits: setup.limits(),
            network,
            layout,
            entries,
            batch,
            train,
            norm: norm.transpose()?,
            update,
            evaluate,
            flats,
            further: Vec::new(),
            branches: Branches::default(),
            micro_batches: 0,
            written: 0,
            loss_scale: (options.precision == Precision::F16).then(LossScale::default),
            overflows: false,
        };
        backend.fill(&backend.flats.weights, setup.seed, false)?;
        if let Some(slot) = optimizer.average() {
            backend.fill(&backend.flats.slots[slot], setup.seed, true)?;
        }
        Ok(backend)
    }

    /// Writes initial values, of trained parameters only or of all parameters and buffers.
    fn fill(&self, flat: &SharedFlat, seed: u64, trained_only: bool) -> Result<(), BackendError> {
        let fill = |values: &mut [f32]| {
            values.fill(0.0);
            let parameters = self.network.parameters.iter().zip(&self.layout.offsets);
            for (index, (parameter, &offset)) in parameters.enumerate() {
                if self.layout.trained[index] || !trained_only {
                    parameter.init.fill(seed, index, &mut values[offset..offset + parameter.len()]);
                }
            }
            let buffers = self.network.buffers.iter().zip(&self.layout.buffer_offsets);
            for (index, (buffer, &offset)) in buffers.enumerate().filter(|_| !trained_only) {
                buffer.init.fill(seed, index, &mut values[offset..offset + buffer.len()]);
            }
        };
        lock(flat).write(fill).map_err(BackendError::session("write the weights"))
    }

    /// Buffer number `at` of gradients; `flats` has number 0.
    fn gradients(&self, at: usize) -> &SharedFlat {
        match at {
            0 => &self.flats.gradients,
            _ => &self.further[at - 1].gradients,
        }
    }

    /// Creates the buffers of gradients up to number `at`.
    ///
    /// A CUDA graph of the first micro-batch, recorded before, may write to the gradients replaced here: they
    /// are in the sum by then.
    fn prepare_gradients(&mut self, at: usize) -> Result<(), BackendError> {
        while self.further.len() < at {
            let gradients = zeros(&self.train.session, self.options.device, self.layout.buffers.end)?;
            let mut binding = self.train.bound(
                &self.batch,
                &self.network,
                &self.layout,
                &self.flats.weights,
                &gradients,
            )?;
            let number = self.further.len();
            self.options.record(&mut binding, LATER_GRAPH + number as u32)?;
            let (environment, range) = (&self.loaded.environment, 0..self.layout.buffers.end);
            let adder = Adder::new(environment, &self.options, range, self.gradients(number), &gradients)?;
            self.further.push(FurtherGradients { gradients, binding, adder });
        }
        Ok(())
    }

    /// Adds the last two of `buffers` buffers of gradients, `joins` times.
    fn join(&mut self, buffers: usize, joins: usize) -> Result<(), BackendError> {
        (0..joins).try_for_each(|done| self.further[buffers - done - 2].adder.run())
    }

    /// Makes the gradients of the step those of all its parts.
    fn join_parts(&mut self) -> Result<(), BackendError> {
        if self.micro_batches > 0 && self.branches.len() > 0 {
            self.end_part()?;
        }
        let buffers = self.branches.len();
        let joins = self.branches.finish();
        self.join(buffers, joins)
    }
}

/// A buffer on the device.
fn zeros(session: &Session, device: Device, len: usize) -> Result<SharedFlat, BackendError> {
    let allocator = device_allocator(session, device)?;
    Flat::zeros(allocator, len).map_err(BackendError::session("allocate the parameters"))
}

/// None of our graphs should have an operator without a CUDA kernel: ONNX Runtime rejects it, as no operator
/// may fall back to the CPU.
fn warn_of_missing_kernels(device: Device, graphs: &[&Graph]) {
    if device == Device::Cpu {
        return;
    }
    for graph in graphs {
        for (operator, element) in without_cuda_kernel(graph) {
            tracing::warn!(
                graph = graph.name(),
                operator = operator.name,
                %element,
                "no CUDA kernel is known: ONNX Runtime will probably refuse the graph"
            );
        }
    }
}

impl TrainingBackend for OrtBackend {
    fn describe(&self) -> Description {
        Description {
            backend: "ort",
            device: self.options.device.to_string(),
            library: format!("ONNX Runtime 1.{}", self.loaded.minor_version),
            threads: self.loaded.threads,
        }
    }

    fn batch_rows(&self) -> usize {
        self.limits.rows
    }

    fn batch_memory(&self) -> Result<Box<dyn MemoryProvider>, BackendError> {
        match self.options.device {
            // The CPU reads any memory in place.
            Device::Cpu => Ok(Box::new(HostMemory)),
            Device::Cuda(_) => {
                let allocator = staging_allocator(&self.train.session, self.options.device)?;
                Ok(Box::new(StagingMemory::new(allocator)))
            }
        }
    }

    fn accumulate(&mut self, rows: Rows<'_>, micro_batch: MicroBatch) -> Result<BatchMetrics, BackendError> {
        self.compute(&rows, &micro_batch, None)
    }

    fn fetches_ahead(&self) -> bool {
        self.batch.images.fetches_ahead()
    }

    fn accumulate_and_fetch(
        &mut self,
        rows: Rows<'_>,
        micro_batch: MicroBatch,
        next: NextImages<'_>,
    ) -> Result<BatchMetrics, BackendError> {
        self.compute(&rows, &micro_batch, Some(next))
    }

    fn end_part(&mut self) -> Result<(), BackendError> {
        let at = self.branches.len();
        if self.micro_batches == 0 {
            self.prepare_gradients(at)?;
            lock(self.gradients(at))
                .write(|values| values.fill(0.0))
                .map_err(BackendError::session("clear the gradients"))?;
        }
        self.micro_batches = 0;
        let joins = self.branches.push();
        self.join(at + 1, joins)
    }

    fn overflows(&self) -> bool {
        self.overflows
    }

    fn set_overflow(&mut self) {
        self.overflows = true;
    }

    fn lend_gradients(&mut self, change: &mut dyn FnMut(&mut [f32])) -> Result<(), BackendError> {
        self.join_parts()?;
        lock(&self.flats.gradients).modify(change).map_err(BackendError::session("lend the gradients"))
    }

    fn update(&mut self, update: Update) -> Result<Updated, BackendError> {
        let overflows = self.overflows;
        self.join_parts()?;
        self.begin_step();
        if let Some(scale) = &mut self.loss_scale {
            if overflows {
                let loss_scale = scale.overflowed().then(|| scale.factor()).ok_or(BackendError::Gradients)?;
                return Ok(Updated::Overflow { loss_scale });
            }
            scale.held();
        }
        let gradient_factor = self.norm.as_mut().map_or(Ok(1.0), Norm::clip_factor)?;
        self.update.run(&Update { gradient_factor, ..update })?;
        Ok(Updated::Done)
    }

    fn reset_gradients(&mut self) {
        self.begin_step();
        self.batch.images.forget();
    }

    fn evaluate(&mut self, rows: Rows<'_>, probabilities: &mut [f32]) -> Result<BatchMetrics, BackendError> {
        self.limits.check(&rows)?;
        self.limits.check_probabilities(&rows, probabilities.len())?;
        self.batch.write(&rows)?;
        let Evaluate { session, binding, sums, probabilities: given } = &mut self.evaluate;
        self.batch.images.run_with(rows.images, binding, session, "evaluate")?;
        let count = rows.targets.len() * self.limits.classes;
        probabilities[..count].copy_from_slice(&given.extract_tensor().1[..count]);
        sums.read(rows.targets.len()).map_err(BackendError::session("read the sums of an evaluation"))
    }

    fn extremes(&mut self) -> Result<Vec<ParameterExtremes>, BackendError> {
        let read = BackendError::session("read the parameters");
        let weights = lock(&self.flats.weights).read(|values| self.largest(values)).map_err(&read)?;
        let gradients =
            lock(self.gradients(self.written)).read(|values| self.largest(values)).map_err(&read)?;
        let trained = self.layout.trained(&self.network.parameters).map(|(parameter, _)| parameter);
        let pairs = trained.zip(weights).zip(gradients);
        Ok(pairs
            .map(|((parameter, weight), gradient)| ParameterExtremes {
                name: parameter.name.clone(),
                weight,
                gradient,
            })
            .collect())
    }

    fn export(&mut self, save: &mut Save<'_>) -> Result<(), BackendError> {
        let loss_scale = self.loss_scale.map(LossScale::to_values);
        let mut flats: Vec<_> =
            [&self.flats.weights].into_iter().chain(&self.flats.slots).map(|flat| lock(flat)).collect();
        let mut save_all = |flats: &[&[f32]]| {
            let mut tensors = Vec::with_capacity(self.entries.len() + 1);
            for entry in &self.entries {
                let values = &flats[entry.slot.map_or(0, |slot| slot + 1)][entry.range()];
                tensors.push((entry.name.as_str(), TensorRef { shape: &entry.shape, values }));
            }
            if let Some(values) = &loss_scale {
                tensors.push((names::LOSS_SCALE, TensorRef { shape: &[2], values }));
            }
            save(&tensors);
        };
        read_all(&mut flats, &[], &mut save_all).map_err(BackendError::session("read the parameters"))
    }

    fn import(&mut self, mut state: Tensors) -> Result<(), BackendError> {
        self.reset_gradients();
        if let Some(scale) = &mut self.loss_scale {
            *scale = match state.take_if_there(names::LOSS_SCALE, &[2])? {
                Some(saved) => LossScale::from_values(&saved.values)
                    .ok_or_else(|| state.senseless(names::LOSS_SCALE, &saved.values))?,
                None => LossScale::default(),
            };
        }
        for (at, flat) in [&self.flats.weights].into_iter().chain(&self.flats.slots).enumerate() {
            let fill = |values: &mut [f32]| -> Result<(), BackendError> {
                values.fill(0.0);
                for entry in self.entries.iter().filter(|entry| entry.slot.map_or(0, |slot| slot + 1) == at) {
                    values[entry.range()].copy_from_slice(&state.take(&entry.name, &entry.shape)?.values);
                }
                Ok(())
            };
            lock(flat).write(fill).map_err(BackendError::session("write the parameters"))??;
        }
        Ok(())
    }
}

/// Lends `values` and those of all of `flats` to `save`.
fn read_all(
    flats: &mut [MutexGuard<'_, Flat>],
    values: &[&[f32]],
    save: &mut dyn FnMut(&[&[f32]]),
) -> ort::Result<()> {
    let Some((first, rest)) = flats.split_first_mut() else {
        save(values);
        return Ok(());
    };
    first.read(|of_first| {
        let mut values = values.to_vec();
        values.push(of_first);
        read_all(rest, &values, save)
    })?
}

impl OrtBackend {
    /// Gradients of a batch; meanwhile fetches the images of the next one.
    fn compute(
        &mut self,
        rows: &Rows<'_>,
        micro_batch: &MicroBatch,
        next: Option<NextImages<'_>>,
    ) -> Result<BatchMetrics, BackendError> {
        self.limits.check_training(rows)?;
        self.train.check(&rows.targets)?;
        self.batch.write(rows)?;
        let count = rows.targets.len();
        self.train.offsets.write(|values| {
            values[..3 * count].copy_from_slice(rows.color_offsets[..count].as_flattened());
            // Rows that do not count must still be numbers: 0 · NaN would be NaN.
            values[3 * count..].fill(0.0);
        })?;
        self.train.scale.fill(micro_batch.gradient_scale)?;
        if let Some(mixed) = &mut self.train.mixed {
            mixed.write(&rows.targets)?;
        }
        if let (Some(half), Some(scale)) = (&mut self.train.half, &self.loss_scale) {
            half.loss_scale.fill(scale.factor())?;
        }
        for ((feed, mask), index) in self.train.masks.iter_mut().zip(&self.network.masks).zip(0..) {
            let row_len = mask.shape[1..].iter().product();
            feed.write(|values| fill_mask(micro_batch, index, mask.keep, row_len, values))?;
        }
        let doing = match self.options.records() {
            true => "record or replay a training step (--no-cuda-graph launches its kernels one by one)",
            false => "run a training step",
        };
        let id = micro_batch.id;
        let sum = self.branches.len();
        let to = sum + usize::from(self.micro_batches > 0);
        self.prepare_gradients(to)?;
        let binding = match to {
            0 => &mut self.train.binding,
            _ => &mut self.further[to - 1].binding,
        };
        self.batch.images.run_and_fetch(id, rows.images, next, binding, &mut self.train.session, doing)?;
        if to > sum {
            self.further[sum].adder.run()?;
        }
        self.written = to;
        self.micro_batches += 1;
        let read = BackendError::session("read the sums of a step");
        if let Some(half) = &self.train.half {
            self.overflows |= !half.gradient_sum.read().map_err(&read)?.is_finite();
        }
        self.train.sums.read(count).map_err(read)
    }

    /// Makes the next micro-batch overwrite the gradients.
    fn begin_step(&mut self) {
        self.branches.clear();
        self.micro_batches = 0;
        self.overflows = false;
    }

    /// The largest magnitude in the range of each trained parameter; not finite if any value is not.
    fn largest(&self, values: &[f32]) -> Vec<f32> {
        let ranges = self.layout.trained(&self.network.parameters);
        let ranges = ranges.map(|(p, offset)| offset..offset + p.len());
        ranges.map(|range| largest_magnitude(&values[range])).collect()
    }
}
