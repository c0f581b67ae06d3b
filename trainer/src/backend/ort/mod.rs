//! Training through ONNX Runtime, on the CPU or a GPU.
//!
//! Four sessions over graphs of standard operators: *train* (forward, loss, backward), *update*, *accumulate*
//! (created when a step first has a second micro-batch) and *evaluate*; another *train* for images of another
//! side. Weights, optimizer slots and gradients are in one flat buffer each, on the device; the sessions read
//! and write ranges of them in place, bound once. In a step only images, labels, offsets, dropout masks and
//! noises are copied to the device, and three metrics come back (in half precision also the sum of the
//! gradients).

mod bound;
mod feed;
mod flat;
mod images;
mod inference;
mod kernels;
mod options;
mod outputs;
mod session;
mod side;
mod squares;
mod staging;
mod step;
#[cfg(test)]
pub(super) mod tests;
mod update;

use std::iter;
use std::ops::Range;
use std::sync::{Arc, MutexGuard};

use fovea_graph::Graph;
use fovea_pipeline::memory::{HostMemory, MemoryProvider};
use fovea_runtime::{Device, OnnxRuntime};
use ort::session::Session;

use self::bound::{BatchFeeds, Declared, Evaluate, Train};
use self::flat::{Binding, Flat, SharedFlat, lock};
use self::kernels::{is_replayable, without_cuda_kernel};
use self::options::{FIRST_GRAPH, LATER_GRAPH};
use self::session::{Role, device_allocator, open, staging_allocator};
use self::squares::Squares;
use self::staging::StagingMemory;
use self::update::{Adder, Flats, Slot, Updater, units};
use super::layout::{Entry, Layout};
use super::precision::LossScale;
use super::{
    BackendError, BatchMetrics, Description, Exchange, Limits, MicroBatch, NextImages, ParameterExtremes,
    Precision, Rows, Save, Setup, TrainingBackend, Update, Updated,
};
use crate::collective::{Branches, Shares, common};
use crate::models::{Classifier, TrainingGraphs};
use crate::optimizer::clip_factor;
use crate::recipe::Recipe;
use crate::state::{TensorRef, Tensors};
use crate::{names, optimizer};

pub use inference::Inference;
pub use options::OrtOptions;

/// The backend over ONNX Runtime.
pub struct OrtBackend {
    loaded: &'static OnnxRuntime,
    options: OrtOptions,
    plan: Plan,
    limits: Limits,
    train_limits: Limits,
    network: Declared,
    layout: Layout,
    entries: Vec<Entry>,
    batch: BatchFeeds,
    train: Train,
    /// Only if the gradients' norm has a limit, which follows.
    squares: Option<(Squares, f64)>,
    update: Updater,
    evaluate: Evaluate,
    /// Their gradients are those of the first micro-batch of a step, then the sum over its micro-batches.
    flats: Flats,
    /// Of gradients, and of as many values of the weights: those that are trained, and the network's buffers.
    shares: Shares,
    /// This process's share.
    own: Range<usize>,
    /// Whether the gradients of the step are sums over all processes, in this process's share.
    summed: bool,
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

/// What further sessions are made from.
struct Plan {
    recipe: Recipe,
    network: Classifier,
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
        let TrainingGraphs { parameters, drawn, buffers, train, evaluate } = graphs;
        let network = Declared { parameters, drawn, buffers };
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
        // What all sessions share is in memory of this one, as the one that trains may be replaced.
        let evaluation = open(loaded, &options, &evaluate, Role::Seldom)?;
        let flat = |len| zeros(&evaluation, options.device, len);
        let (rank, world) = setup.place;
        let shares = Shares::new(units(&layout, separate), world);
        let (own, trained) = (shares.of(rank), 0..layout.buffers.start);
        let slot = |at| {
            // Evaluations need the whole average.
            let range =
                if optimizer.average() == Some(at) { trained.clone() } else { common(&trained, &own) };
            Ok(Slot { flat: flat(range.len())?, range })
        };
        let slots = (0..optimizer.slots().len()).map(slot).collect::<Result<_, BackendError>>()?;
        let flats = Flats { weights: flat(layout.len)?, slots, gradients: flat(layout.buffers.end)? };
        let mean_shape = graph_options.mean_shape(setup.recipe.input.crop_px);
        let mut batch = BatchFeeds::new(&evaluation, &options, setup, &mean_shape)?;
        batch.mean.write(|values| values.copy_from_slice(&mean))?;
        let session = open(loaded, &options, &train, Role::Train)?;
        let mut train = Train::new(session, &options, setup, &network.drawn)?;
        train.binding = train.bound(&batch, &network, &layout, &flats.weights, &flats.gradients)?;
        options.record(&mut train.binding, FIRST_GRAPH)?;

        let update = Updater::new(loaded, &options, &optimizer, &layout, &flats, &own)?;
        let average = optimizer.average().map_or(&flats.weights, |slot| &flats.slots[slot].flat);
        let evaluate =
            Evaluate::new(evaluation, setup, &batch, (&network, &layout), (&flats.weights, average))?;
        let squares = |limit| -> Result<(Squares, f64), BackendError> {
            let groups = layout.groups.iter().map(|(range, _)| common(range, &own));
            Ok((Squares::new(loaded, &options, groups, &flats.gradients)?, limit))
        };
        let squares = optimizer.clip_norm().map(squares).transpose()?;
        let backend = Self {
            loaded,
            options,
            plan: Plan { recipe: setup.recipe.clone(), network: setup.network.clone() },
            limits: setup.limits(),
            train_limits: setup.limits(),
            network,
            layout,
            entries,
            batch,
            train,
            squares,
            update,
            evaluate,
            flats,
            shares,
            own,
            summed: false,
            further: Vec::new(),
            branches: Branches::default(),
            micro_batches: 0,
            written: 0,
            loss_scale: (options.precision == Precision::F16).then(LossScale::default),
            overflows: false,
        };
        backend.fill(&backend.flats.weights, setup.seed, false)?;
        if let Some(average) = backend.average() {
            backend.fill(&average, setup.seed, true)?;
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

    /// The buffer of the running average of the weights.
    fn average(&self) -> Option<SharedFlat> {
        self.update.average().map(|slot| Arc::clone(&self.flats.slots[slot].flat))
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
            let gradients = zeros(&self.evaluate.session, self.options.device, self.layout.buffers.end)?;
            let mut binding = self.train.bound(
                &self.batch,
                &self.network,
                &self.layout,
                &self.flats.weights,
                &gradients,
            )?;
            let number = self.further.len();
            self.options.record(&mut binding, LATER_GRAPH + number as u32)?;
            let (loaded, range) = (&self.loaded, 0..self.layout.buffers.end);
            let adder = Adder::new(loaded, &self.options, range, self.gradients(number), &gradients)?;
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
            own_kernels: self.options.own_operators,
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
                let allocator = staging_allocator(&self.evaluate.session, self.options.device)?;
                Ok(Box::new(StagingMemory::new(allocator)))
            }
        }
    }

    fn set_training_px(&mut self, px: usize) -> Result<(), BackendError> {
        self.train_at(px)
    }

    fn accumulate(&mut self, rows: Rows<'_>, micro_batch: MicroBatch) -> Result<BatchMetrics, BackendError> {
        self.compute(&rows, &micro_batch, None)
    }

    fn fetches_ahead(&self) -> bool {
        self.train.images.as_ref().unwrap_or(&self.batch.images).fetches_ahead()
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

    fn lend_gradients(&mut self, sum: &mut Exchange<'_>) -> Result<(), BackendError> {
        self.join_parts()?;
        self.summed = true;
        lock(&self.flats.gradients)
            .modify(|values| sum(values, &self.shares))
            .map_err(BackendError::session("lend the gradients"))
    }

    fn squares(&mut self) -> Result<Vec<f64>, BackendError> {
        self.join_parts()?;
        self.squares.as_mut().map_or_else(|| Ok(Vec::new()), |(squares, _)| squares.sums())
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
        let gradient_factor = match (update.gradient_factor, &mut self.squares) {
            (None, Some((squares, limit))) => Some(clip_factor(*limit, squares.sums()?)),
            (given, _) => given,
        };
        self.update.run(&Update { gradient_factor, ..update })?;
        Ok(Updated::Done)
    }

    fn lend_weights(&mut self, gather: &mut Exchange<'_>) -> Result<(), BackendError> {
        lock(&self.flats.weights)
            .modify(|values| gather(&mut values[..self.shares.len()], &self.shares))
            .map_err(BackendError::session("lend the weights"))
    }

    fn lend_average(&mut self, gather: &mut Exchange<'_>) -> Result<(), BackendError> {
        let Some(average) = self.average() else { return Ok(()) };
        let shares = self.shares_of_slots();
        lock(&average)
            .modify(|values| gather(values, &shares))
            .map_err(BackendError::session("lend the average of the weights"))
    }

    fn lend_slots(&mut self, lend: &mut dyn FnMut(&[f32], &Shares)) -> Result<(), BackendError> {
        if self.shares.world() == 1 {
            return Ok(());
        }
        let shares = self.shares_of_slots();
        let average = self.update.average();
        for (_, slot) in self.flats.slots.iter().enumerate().filter(|(at, _)| Some(*at) != average) {
            lock(&slot.flat)
                .read(|values| lend(values, &shares))
                .map_err(BackendError::session("lend the slots"))?;
        }
        Ok(())
    }

    fn reset_gradients(&mut self) {
        self.begin_step();
        self.train.images.as_mut().unwrap_or(&mut self.batch.images).forget();
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
        let all = 0..self.layout.len;
        let (written, within) = if self.summed { (0, &self.own) } else { (self.written, &all) };
        let weights = lock(&self.flats.weights).read(|values| self.largest(values, &all)).map_err(&read)?;
        let gradients =
            lock(self.gradients(written)).read(|values| self.largest(values, within)).map_err(&read)?;
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

    fn export_with(&mut self, slots: &[Vec<f32>], save: &mut Save<'_>) -> Result<(), BackendError> {
        let loss_scale = self.loss_scale.map(LossScale::to_values);
        let average = self.update.average();
        let held = self.flats.slots.iter().enumerate();
        let held =
            held.filter(|(at, _)| slots.is_empty() || Some(*at) == average).map(|(_, slot)| &slot.flat);
        let mut flats: Vec<_> =
            [&self.flats.weights].into_iter().chain(held).map(|flat| lock(flat)).collect();
        let mut save_all = |flats: &[&[f32]]| {
            // The average is the last slot.
            let (weights, held) = flats.split_at(1);
            let flats = [weights, &slots.iter().map(Vec::as_slice).collect::<Vec<_>>(), held].concat();
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
        let slots = self.flats.slots.iter().enumerate();
        let slots = slots.map(|(at, Slot { flat, range })| (Some(at), flat, range.clone()));
        for (slot, flat, held) in iter::once((None, &self.flats.weights, 0..self.layout.len)).chain(slots) {
            let fill = |values: &mut [f32]| -> Result<(), BackendError> {
                values.fill(0.0);
                for entry in self.entries.iter().filter(|entry| entry.slot == slot) {
                    let (all, whole) = (state.take(&entry.name, &entry.shape)?.values, entry.range());
                    let Range { start, end } = common(&whole, &held);
                    if start < end {
                        values[start - held.start..end - held.start]
                            .copy_from_slice(&all[start - whole.start..end - whole.start]);
                    }
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
