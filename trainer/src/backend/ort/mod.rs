//! Training through ONNX Runtime, on the CPU or a GPU.
//!
//! Four sessions over graphs of standard operators: *train* (forward, loss, backward), *update*, *accumulate* (made when a
//! step first takes a second batch) and *evaluate*. Weights, momenta and gradients lie in one flat buffer each, on the
//! device; the sessions read and write pieces of them in place, bound once. In a step only images, labels, offsets and
//! dropout masks go to the device, and three sums come back (in half precision that of the gradients too).

mod answer;
mod feed;
mod flat;
mod images;
mod inference;
mod kernels;
mod options;
mod session;
mod staging;
#[cfg(test)]
pub(super) mod tests;
mod update;

use fovea_graph::{DropoutMask, Graph, Parameter};
use fovea_pipeline::memory::{HostMemory, MemoryProvider};
use fovea_runtime::{Device, Loaded};
use ort::memory::Allocator;
use ort::session::Session;
use ort::value::Tensor;

use self::answer::{Answer, SumAnswers};
use self::feed::Feed;
use self::flat::{Binding, Flat, SharedFlat, lock};
use self::images::Images;
use self::kernels::{is_replayable, without_cuda_kernel};
use self::options::{FIRST_GRAPH, FURTHER_GRAPH};
use self::session::{Role, device_allocator, open, staging_allocator};
use self::staging::StagingMemory;
use self::update::{Adder, Updater};
use super::layout::Layout;
use super::precision::LossScale;
use super::{
    BackendError, Description, Limits, ParameterExtremes, Pass, Precision, Rows, Save, Setup, Sums,
    TrainingBackend, Update, Updated, fill_mask, largest_magnitude, momentum_name,
};
use crate::checkpoint::{TensorRef, Tensors};
use crate::models::{TrainingGraphs, gradient_name, names};

pub use inference::Inference;
pub use options::OrtOptions;

/// The backend over ONNX Runtime.
pub struct OrtBackend {
    loaded: &'static Loaded,
    options: OrtOptions,
    limits: Limits,
    parameters: Vec<Parameter>,
    masks: Vec<DropoutMask>,
    layout: Layout,
    batch: BatchFeeds,
    train: Train,
    update: Updater,
    evaluate: Evaluate,
    weights: SharedFlat,
    momenta: SharedFlat,
    /// Gradients of the first batch of a step, then the sum over its batches.
    gradients: SharedFlat,
    /// For the further batches of a step; made when there is one.
    further: Option<Further>,
    accumulate_graph: Graph,
    batches_of_step: u32,
    /// Only in half precision.
    loss_scale: Option<LossScale>,
    /// Whether gradients of the step are not finite.
    overflows: bool,
}

/// Inputs that training and evaluation share.
struct BatchFeeds {
    rows: usize,
    images: Images,
    labels: Feed<i64>,
    valid: Feed<bool>,
}

struct Train {
    session: Session,
    binding: Binding,
    offsets: Feed<f32>,
    scale: Feed<f32>,
    masks: Vec<Feed<bool>>,
    mean: Feed<f32>,
    sums: SumAnswers,
    half: Option<HalfPrecision>,
}

/// What the train graph has besides in half precision.
struct HalfPrecision {
    loss_scale: Feed<f32>,
    gradient_sum: Answer,
}

struct Evaluate {
    session: Session,
    binding: Binding,
    sums: SumAnswers,
    probabilities: Tensor<f32>,
}

/// Gradients of the later batches of a step, and their way into the sum.
struct Further {
    gradients: SharedFlat,
    binding: Binding,
    adder: Adder,
}

impl OrtBackend {
    /// A backend with initial weights, ready for its first step.
    ///
    /// # Errors
    /// [`BackendError`] when the network cannot be built, the mean does not fit, or the device cannot be used.
    pub fn new(
        loaded: &'static Loaded,
        setup: &Setup<'_>,
        options: OrtOptions,
    ) -> Result<Self, BackendError> {
        let mean = setup.mean()?;
        let graph_options = options.graphs(setup.recipe, setup.batch_rows);
        let graphs = TrainingGraphs::build(&setup.network, &graph_options)?;
        let TrainingGraphs { parameters, masks, train, update, accumulate, evaluate } = graphs;
        warn_of_missing_kernels(options.device, &[&train, &update, &accumulate, &evaluate]);
        let is_replayable = is_replayable(&train);
        if options.records() && !is_replayable {
            tracing::info!(
                "kernels are launched one by one: a CUDA graph of this network would not be faithful"
            );
        }
        let options = OrtOptions { cuda_graph: options.cuda_graph && is_replayable, ..options };

        let layout = Layout::new(&parameters);
        let session = open(&loaded.environment, &options, &train, Role::Train)?;
        let flat = || zeros(&session, options.device, layout.len);
        let (weights, momenta, gradients) = (flat()?, flat()?, flat()?);
        let batch = BatchFeeds::new(&session, &options, setup)?;
        let mean_shape = graph_options.mean_shape(setup.recipe.input.crop_px);
        let mean_shape: &[usize] = &mean_shape;
        let mut train = Train::new(session, &options, setup, &masks, mean_shape)?;
        train.mean.write(|values| values.copy_from_slice(&mean))?;
        train.binding = train.bound(&batch, &parameters, &layout, &weights, &gradients)?;
        options.record(&mut train.binding, FIRST_GRAPH)?;

        let flats = [&weights, &momenta, &gradients];
        let update = Updater::new(&loaded.environment, &options, &update, &layout, flats)?;
        let evaluate = open(&loaded.environment, &options, &evaluate, Role::Seldom)?;
        let evaluate = Evaluate::new(evaluate, setup, &batch, &train.mean, &parameters, &layout, &weights)?;
        let backend = Self {
            loaded,
            options,
            limits: setup.limits(),
            parameters,
            masks,
            layout,
            batch,
            train,
            update,
            evaluate,
            weights,
            momenta,
            gradients,
            further: None,
            accumulate_graph: accumulate,
            batches_of_step: 0,
            loss_scale: (options.precision == Precision::F16).then(LossScale::default),
            overflows: false,
        };
        backend.fill_weights(setup.seed)?;
        Ok(backend)
    }

    fn fill_weights(&self, seed: u64) -> Result<(), BackendError> {
        let fill = |values: &mut [f32]| {
            values.fill(0.0);
            for (index, (parameter, &offset)) in self.parameters.iter().zip(&self.layout.offsets).enumerate()
            {
                parameter.init.fill(seed, index, &mut values[offset..offset + parameter.len()]);
            }
        };
        lock(&self.weights).write(fill).map_err(BackendError::session("write the weights"))
    }

    /// A CUDA graph of the first batch, recorded before, may write to the gradients made here: they are in the sum by then.
    fn make_further(&mut self) -> Result<(), BackendError> {
        let gradients = zeros(&self.train.session, self.options.device, self.layout.len)?;
        let mut binding =
            self.train.bound(&self.batch, &self.parameters, &self.layout, &self.weights, &gradients)?;
        self.options.record(&mut binding, FURTHER_GRAPH)?;
        let adder = Adder::new(
            &self.loaded.environment,
            &self.options,
            &self.accumulate_graph,
            &self.layout,
            &self.gradients,
            &gradients,
        )?;
        self.further = Some(Further { gradients, binding, adder });
        Ok(())
    }
}

/// A buffer on the device.
fn zeros(session: &Session, device: Device, len: usize) -> Result<SharedFlat, BackendError> {
    let allocator = device_allocator(session, device)?;
    Flat::zeros(allocator, len).map_err(BackendError::session("allocate the parameters"))
}

/// No graph of ours should have an operator without a CUDA kernel: ONNX Runtime refuses it, as nothing may run on the CPU instead.
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

impl BatchFeeds {
    fn new(session: &Session, options: &OrtOptions, setup: &Setup<'_>) -> Result<Self, BackendError> {
        let rows = setup.batch_rows;
        Ok(Self {
            rows,
            images: Images::new(session, options, setup)?,
            labels: Feed::new(session, options.device, names::LABELS, &[rows])?,
            valid: Feed::new(session, options.device, names::VALID, &[rows])?,
        })
    }

    fn bind(&self, binding: &mut Binding) -> Result<(), BackendError> {
        self.images.bind(binding)?;
        self.labels.bind(binding)?;
        self.valid.bind(binding)
    }

    /// Everything but the images. Rows that are not given keep what they had, and do not count.
    fn write(&mut self, rows: &Rows<'_>) -> Result<(), BackendError> {
        let count = rows.labels.len();
        self.labels.write(|labels| labels[..count].copy_from_slice(rows.labels))?;
        if count == self.rows {
            return self.valid.fill(true);
        }
        self.valid.write(|valid| {
            valid[..count].fill(true);
            valid[count..].fill(false);
        })
    }
}

impl Train {
    fn new(
        session: Session,
        options: &OrtOptions,
        setup: &Setup<'_>,
        masks: &[DropoutMask],
        mean_shape: &[usize],
    ) -> Result<Self, BackendError> {
        let device = options.device;
        // A CUDA graph writes to the GPU alone; else ONNX Runtime brings the numbers to the host.
        let place =
            if options.records() { device_allocator(&session, device)? } else { Allocator::default() };
        let half = match options.precision {
            Precision::F16 => Some(HalfPrecision {
                loss_scale: Feed::new(&session, device, names::LOSS_SCALE, &[])?,
                gradient_sum: Answer::new(&place).map_err(BackendError::session("allocate outputs"))?,
            }),
            Precision::F32 | Precision::Tf32 => None,
        };
        let binding = Binding::new(&session).map_err(BackendError::session("bind inputs"))?;
        let masks = masks.iter().map(|mask| Feed::new(&session, device, &mask.name, &mask.shape));
        Ok(Self {
            offsets: Feed::new(&session, device, names::OFFSETS, &[setup.batch_rows, 3])?,
            scale: Feed::new(&session, device, names::GRADIENT_SCALE, &[])?,
            masks: masks.collect::<Result<_, _>>()?,
            mean: Feed::new(&session, device, names::MEAN, mean_shape)?,
            sums: SumAnswers::new(&place).map_err(BackendError::session("allocate outputs"))?,
            half,
            binding,
            session,
        })
    }

    /// A binding of everything, with the gradients going to `gradients`.
    fn bound(
        &mut self,
        batch: &BatchFeeds,
        parameters: &[Parameter],
        layout: &Layout,
        weights: &SharedFlat,
        gradients: &SharedFlat,
    ) -> Result<Binding, BackendError> {
        let bind = |sums: &mut SumAnswers| -> ort::Result<Binding> {
            let mut binding = Binding::new(&self.session)?;
            for (parameter, &offset) in parameters.iter().zip(&layout.offsets) {
                binding.input_view(&parameter.name, weights, offset, &parameter.shape)?;
                binding.output_view(&gradient_name(&parameter.name), gradients, offset, &parameter.shape)?;
            }
            sums.bind(&mut binding)?;
            Ok(binding)
        };
        let mut binding = bind(&mut self.sums).map_err(BackendError::session("bind the parameters"))?;
        batch.bind(&mut binding)?;
        for feed in [&self.offsets, &self.scale, &self.mean] {
            feed.bind(&mut binding)?;
        }
        for mask in &self.masks {
            mask.bind(&mut binding)?;
        }
        if let Some(half) = &mut self.half {
            half.loss_scale.bind(&mut binding)?;
            half.gradient_sum
                .bind(names::GRADIENT_SUM, &mut binding)
                .map_err(BackendError::session("bind an output"))?;
        }
        Ok(binding)
    }
}

impl Evaluate {
    fn new(
        session: Session,
        setup: &Setup<'_>,
        batch: &BatchFeeds,
        mean: &Feed<f32>,
        parameters: &[Parameter],
        layout: &Layout,
        weights: &SharedFlat,
    ) -> Result<Self, BackendError> {
        let bind = || -> ort::Result<(Binding, SumAnswers, Tensor<f32>)> {
            let mut binding = Binding::new(&session)?;
            for (parameter, &offset) in parameters.iter().zip(&layout.offsets) {
                binding.input_view(&parameter.name, weights, offset, &parameter.shape)?;
            }
            let mut sums = SumAnswers::new(&Allocator::default())?;
            sums.bind(&mut binding)?;
            let mut probabilities =
                Tensor::new(&Allocator::default(), [setup.batch_rows, setup.network.classes])?;
            binding.output(names::PROBABILITIES, &mut probabilities)?;
            Ok((binding, sums, probabilities))
        };
        let (mut binding, sums, probabilities) =
            bind().map_err(BackendError::session("bind the parameters"))?;
        batch.bind(&mut binding)?;
        mean.bind(&mut binding)?;
        Ok(Self { session, binding, sums, probabilities })
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
            // It reads any memory where it is.
            Device::Cpu => Ok(Box::new(HostMemory)),
            Device::Cuda(_) => {
                let allocator = staging_allocator(&self.train.session, self.options.device)?;
                Ok(Box::new(StagingMemory::new(allocator)))
            }
        }
    }

    fn accumulate(&mut self, rows: Rows<'_>, pass: Pass) -> Result<Sums, BackendError> {
        self.compute(&rows, &pass, None)
    }

    fn fetches_ahead(&self) -> bool {
        self.batch.images.fetches_ahead()
    }

    fn accumulate_and_fetch(
        &mut self,
        rows: Rows<'_>,
        pass: Pass,
        next: &[u8],
    ) -> Result<Sums, BackendError> {
        self.compute(&rows, &pass, Some(next))
    }

    fn update(&mut self, update: Update) -> Result<Updated, BackendError> {
        let overflows = self.overflows;
        self.begin_step();
        if let Some(scale) = &mut self.loss_scale {
            if overflows {
                let loss_scale = scale.overflowed().then(|| scale.factor()).ok_or(BackendError::Gradients)?;
                return Ok(Updated::Overflow { loss_scale });
            }
            scale.held();
        }
        self.update.run(&update)?;
        Ok(Updated::Done)
    }

    fn discard(&mut self) {
        self.begin_step();
        self.batch.images.forget();
    }

    fn evaluate(&mut self, rows: Rows<'_>, probabilities: &mut [f32]) -> Result<Sums, BackendError> {
        self.limits.check(&rows)?;
        self.limits.check_probabilities(&rows, probabilities.len())?;
        self.batch.write(&rows)?;
        let Evaluate { session, binding, sums, probabilities: given } = &mut self.evaluate;
        self.batch.images.run_with(rows.images, binding, session, "evaluate")?;
        let count = rows.labels.len() * self.limits.classes;
        probabilities[..count].copy_from_slice(&given.extract_tensor().1[..count]);
        sums.read(rows.labels.len()).map_err(BackendError::session("read the sums of an evaluation"))
    }

    fn extremes(&mut self) -> Result<Vec<ParameterExtremes>, BackendError> {
        let last = match &self.further {
            Some(further) if self.batches_of_step > 1 => &further.gradients,
            _ => &self.gradients,
        };
        let read = BackendError::session("read the parameters");
        let weights = lock(&self.weights).read(|values| self.largest(values)).map_err(&read)?;
        let gradients = lock(last).read(|values| self.largest(values)).map_err(&read)?;
        let pairs = self.parameters.iter().zip(weights).zip(gradients);
        Ok(pairs
            .map(|((parameter, weight), gradient)| ParameterExtremes {
                name: parameter.name.clone(),
                weight,
                gradient,
            })
            .collect())
    }

    fn export(&mut self, save: &mut Save<'_>) -> Result<(), BackendError> {
        let read = BackendError::session("read the parameters");
        let loss_scale = self.loss_scale.map(LossScale::to_values);
        let momentum_names: Vec<String> = self.parameters.iter().map(|p| momentum_name(&p.name)).collect();
        lock(&self.weights)
            .read(|weights| {
                lock(&self.momenta).read(|momenta| {
                    let mut tensors = Vec::with_capacity(2 * self.parameters.len() + 1);
                    for (at, (parameter, &offset)) in
                        self.parameters.iter().zip(&self.layout.offsets).enumerate()
                    {
                        let (range, shape) = (offset..offset + parameter.len(), parameter.shape.as_slice());
                        let weights = TensorRef { shape, values: &weights[range.clone()] };
                        let momenta = TensorRef { shape, values: &momenta[range] };
                        tensors.push((parameter.name.as_str(), weights));
                        tensors.push((momentum_names[at].as_str(), momenta));
                    }
                    if let Some(values) = &loss_scale {
                        tensors.push((names::LOSS_SCALE, TensorRef { shape: &[2], values }));
                    }
                    save(&tensors);
                })
            })
            .map_err(&read)?
            .map_err(&read)
    }

    fn import(&mut self, mut state: Tensors) -> Result<(), BackendError> {
        let write = BackendError::session("write the parameters");
        self.discard();
        if let Some(scale) = &mut self.loss_scale {
            *scale = match state.take_if_there(names::LOSS_SCALE, &[2])? {
                Some(saved) => LossScale::from_values(&saved.values)
                    .ok_or_else(|| state.foreign(names::LOSS_SCALE, &saved.values))?,
                None => LossScale::default(),
            };
        }
        let places = || self.parameters.iter().zip(&self.layout.offsets);
        let mut copy = |values: &mut [f32], name_of: &dyn Fn(&str) -> String| {
            values.fill(0.0);
            for (parameter, &offset) in places() {
                let tensor = state.take(&name_of(&parameter.name), &parameter.shape)?;
                values[offset..offset + parameter.len()].copy_from_slice(&tensor.values);
            }
            Ok(())
        };
        let weights: Result<(), BackendError> =
            lock(&self.weights).write(|values| copy(values, &str::to_owned)).map_err(&write)?;
        weights?;
        lock(&self.momenta).write(|values| copy(values, &momentum_name)).map_err(&write)?
    }
}

impl OrtBackend {
    /// Gradients of a batch, while the images of the next one are fetched.
    fn compute(&mut self, rows: &Rows<'_>, pass: &Pass, next: Option<&[u8]>) -> Result<Sums, BackendError> {
        self.limits.check_training(rows)?;
        self.batch.write(rows)?;
        let count = rows.labels.len();
        self.train.offsets.write(|values| {
            values[..3 * count].copy_from_slice(rows.color_offsets[..count].as_flattened());
            // Rows that do not count must at least be numbers: 0 · NaN would be NaN.
            values[3 * count..].fill(0.0);
        })?;
        self.train.scale.fill(pass.gradient_scale)?;
        if let (Some(half), Some(scale)) = (&mut self.train.half, &self.loss_scale) {
            half.loss_scale.fill(scale.factor())?;
        }
        for ((feed, mask), index) in self.train.masks.iter_mut().zip(&self.masks).zip(0..) {
            feed.write(|values| fill_mask(pass, index, mask.keep, values))?;
        }
        let Train { session, binding, .. } = &mut self.train;
        let doing = match self.options.records() {
            true => "record or replay a training step (--no-cuda-graph launches its kernels one by one)",
            false => "run a training step",
        };
        if self.batches_of_step == 0 {
            self.batch.images.run_and_fetch(rows.images, next, binding, session, doing)?;
        } else {
            if self.further.is_none() {
                self.make_further()?;
            }
            if let Some(further) = &mut self.further {
                let (session, binding) = (&mut self.train.session, &mut further.binding);
                self.batch.images.run_and_fetch(rows.images, next, binding, session, doing)?;
                further.adder.run()?;
            }
        }
        self.batches_of_step += 1;
        let read = BackendError::session("read the sums of a step");
        if let Some(half) = &self.train.half {
            self.overflows |= !half.gradient_sum.read().map_err(&read)?.is_finite();
        }
        self.train.sums.read(count).map_err(read)
    }

    /// Forgets the gradients of the step.
    fn begin_step(&mut self) {
        self.batches_of_step = 0;
        self.overflows = false;
    }

    /// The largest magnitude in each parameter's range; not finite if any value is not.
    fn largest(&self, values: &[f32]) -> Vec<f32> {
        let ranges =
            self.parameters.iter().zip(&self.layout.offsets).map(|(p, &offset)| offset..offset + p.len());
        ranges.map(|range| largest_magnitude(&values[range])).collect()
    }
}
