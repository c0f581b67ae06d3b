//! Inputs and outputs of the sessions that compute a network, bound once.

use fovea_graph::{Buffer, Drawn, Parameter};
use fovea_runtime::Device;
use ort::memory::Allocator;
use ort::session::Session;
use ort::value::Tensor;

use super::OrtOptions;
use super::feed::Feed;
use super::flat::{Binding, SharedFlat};
use super::images::ImageInput;
use super::outputs::{ScalarOutput, ScalarOutputs};
use super::session::device_allocator;
use crate::backend::layout::Layout;
use crate::backend::{BackendError, Precision, Rows, Setup, Targets};
use crate::names;
use crate::recipe::Loss;

/// Declarations of the network.
pub(super) struct Declared {
    pub parameters: Vec<Parameter>,
    pub drawn: Drawn,
    pub buffers: Vec<Buffer>,
}

/// Inputs that training and evaluation share.
pub(super) struct BatchFeeds {
    pub rows: usize,
    /// Those of evaluation, and of training where it has images of the same side.
    pub images: ImageInput,
    pub targets: TargetFeed,
    pub valid: Feed<bool>,
    pub mean: Feed<f32>,
}

/// What the network should give.
pub(super) enum TargetFeed {
    Classes(Feed<i64>),
    /// Marks of classes, or numbers.
    Values(Feed<f32>),
}

impl TargetFeed {
    fn new(session: &Session, device: Device, setup: &Setup<'_>) -> Result<Self, BackendError> {
        let (rows, outputs) = (setup.batch_rows, setup.network.classes);
        Ok(match setup.recipe.training.loss {
            Loss::CrossEntropy => Self::Classes(Feed::new(session, device, names::LABELS, &[rows])?),
            Loss::BinaryCrossEntropy | Loss::MeanSquaredError => {
                Self::Values(Feed::new(session, device, names::TARGETS, &[rows, outputs])?)
            }
        })
    }

    fn bind(&self, binding: &mut Binding) -> Result<(), BackendError> {
        match self {
            Self::Classes(feed) => feed.bind(binding),
            Self::Values(feed) => feed.bind(binding),
        }
    }

    /// Writes them; rows that are not given keep their previous values.
    fn write(&mut self, targets: &Targets<'_>) -> Result<(), BackendError> {
        match (self, *targets) {
            (Self::Classes(feed), Targets::Classes(labels) | Targets::Mixed { labels, .. }) => {
                feed.write(|values| values[..labels.len()].copy_from_slice(labels))
            }
            (Self::Values(feed), Targets::Values { values: given, .. }) => {
                feed.write(|values| values[..given.len()].copy_from_slice(given))
            }
            _ => unreachable!("the limits check the kind of targets"),
        }
    }
}

pub(super) struct Train {
    pub session: Session,
    pub binding: Binding,
    pub offsets: Feed<f32>,
    pub scale: Feed<f32>,
    pub masks: Vec<Feed<bool>>,
    pub noises: Vec<Feed<f32>>,
    /// Only if images of training have another side than those of evaluation.
    pub images: Option<ImageInput>,
    pub sums: ScalarOutputs,
    pub half: Option<HalfPrecision>,
    /// Only if images are mixed.
    pub mixed: Option<MixedFeeds>,
}

/// The second label of each row, and the share of the first.
pub(super) struct MixedFeeds {
    others: Feed<i64>,
    shares: Feed<f32>,
}

/// Additional input and output of the train graph in half precision.
pub(super) struct HalfPrecision {
    pub loss_scale: Feed<f32>,
    pub gradient_sum: ScalarOutput,
}

pub(super) struct Evaluate {
    pub session: Session,
    pub binding: Binding,
    pub sums: ScalarOutputs,
    pub probabilities: Tensor<f32>,
}

impl Declared {
    /// Binds parameters and buffers as inputs; those that are trained from `trained`.
    pub fn bind(
        &self,
        binding: &mut Binding,
        layout: &Layout,
        weights: &SharedFlat,
        trained: &SharedFlat,
    ) -> ort::Result<()> {
        for ((parameter, &offset), &is_trained) in
            self.parameters.iter().zip(&layout.offsets).zip(&layout.trained)
        {
            let flat = if is_trained { trained } else { weights };
            binding.input_view(&parameter.name, flat, offset, &parameter.shape)?;
        }
        for (buffer, &offset) in self.buffers.iter().zip(&layout.buffer_offsets) {
            binding.input_view(&buffer.name, weights, offset, &buffer.shape)?;
        }
        Ok(())
    }
}

impl BatchFeeds {
    pub fn new(
        session: &Session,
        options: &OrtOptions,
        setup: &Setup<'_>,
        mean_shape: &[usize],
    ) -> Result<Self, BackendError> {
        let rows = setup.batch_rows;
        Ok(Self {
            rows,
            images: ImageInput::new(session, options, setup)?,
            targets: TargetFeed::new(session, options.device, setup)?,
            valid: Feed::new(session, options.device, names::VALID, &[rows])?,
            mean: Feed::new(session, options.device, names::MEAN, mean_shape)?,
        })
    }

    /// Binds them, with `images` in place of those of evaluation if they are given.
    pub fn bind(&self, images: Option<&ImageInput>, binding: &mut Binding) -> Result<(), BackendError> {
        images.unwrap_or(&self.images).bind(binding)?;
        self.targets.bind(binding)?;
        self.valid.bind(binding)?;
        self.mean.bind(binding)
    }

    /// Writes everything except the images. Rows that are not given keep their previous values, and do not
    /// count.
    pub fn write(&mut self, rows: &Rows<'_>) -> Result<(), BackendError> {
        let count = rows.targets.len();
        self.targets.write(&rows.targets)?;
        if count == self.rows {
            return self.valid.fill(true);
        }
        self.valid.write(|valid| {
            valid[..count].fill(true);
            valid[count..].fill(false);
        })
    }
}

impl MixedFeeds {
    fn new(session: &Session, device: Device, rows: usize) -> Result<Self, BackendError> {
        Ok(Self {
            others: Feed::new(session, device, names::OTHER_LABELS, &[rows])?,
            shares: Feed::new(session, device, names::LABEL_SHARES, &[rows])?,
        })
    }

    /// Writes both; rows that are not given keep their previous values.
    pub fn write(&mut self, targets: &Targets<'_>) -> Result<(), BackendError> {
        let count = targets.len();
        match *targets {
            Targets::Mixed { others, shares, .. } => {
                self.others.write(|values| values[..count].copy_from_slice(others))?;
                self.shares.write(|values| values[..count].copy_from_slice(shares))
            }
            Targets::Values { .. } => unreachable!("mixed values are values"),
            Targets::Classes(labels) => {
                self.others.write(|values| values[..count].copy_from_slice(labels))?;
                self.shares.write(|values| values[..count].fill(1.0))
            }
        }
    }
}

impl Train {
    /// Refuses mixed images if the recipe has none.
    pub fn check(&self, targets: &Targets<'_>) -> Result<(), BackendError> {
        match targets {
            Targets::Mixed { others, .. } if self.mixed.is_none() => Err(BackendError::Rows {
                what: "other labels",
                found: others.len().to_string(),
                expected: "none: the recipe mixes no images".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    pub fn new(
        session: Session,
        options: &OrtOptions,
        setup: &Setup<'_>,
        drawn: &Drawn,
    ) -> Result<Self, BackendError> {
        let device = options.device;
        // A CUDA graph writes to the GPU only; otherwise ONNX Runtime copies the numbers to the host.
        let place =
            if options.records() { device_allocator(&session, device)? } else { Allocator::default() };
        let half = match options.precision {
            Precision::F16 => Some(HalfPrecision {
                loss_scale: Feed::new(&session, device, names::LOSS_SCALE, &[])?,
                gradient_sum: ScalarOutput::new(&place).map_err(BackendError::session("allocate outputs"))?,
            }),
            Precision::F32 | Precision::Tf32 => None,
        };
        let binding = Binding::new(&session).map_err(BackendError::session("bind inputs"))?;
        let masks = drawn.masks.iter().map(|mask| Feed::new(&session, device, &mask.name, &mask.shape));
        let noises = drawn.noises.iter().map(|noise| Feed::new(&session, device, &noise.name, &noise.shape));
        let mixed = match setup.recipe.mixes_classes() {
            true => Some(MixedFeeds::new(&session, device, setup.batch_rows)?),
            false => None,
        };
        let images = match setup.network.input_px == setup.recipe.input.crop_px {
            true => None,
            false => Some(ImageInput::new(&session, options, setup)?),
        };
        Ok(Self {
            mixed,
            images,
            offsets: Feed::new(&session, device, names::OFFSETS, &[setup.batch_rows, 3])?,
            scale: Feed::new(&session, device, names::GRADIENT_SCALE, &[])?,
            masks: masks.collect::<Result<_, _>>()?,
            noises: noises.collect::<Result<_, _>>()?,
            sums: ScalarOutputs::new(&place, setup.recipe.training.loss)
                .map_err(BackendError::session("allocate outputs"))?,
            half,
            binding,
            session,
        })
    }

    /// Binds everything, with `gradients` as the output of the gradients.
    pub fn bound(
        &mut self,
        batch: &BatchFeeds,
        network: &Declared,
        layout: &Layout,
        weights: &SharedFlat,
        gradients: &SharedFlat,
    ) -> Result<Binding, BackendError> {
        let bind = |sums: &mut ScalarOutputs| -> ort::Result<Binding> {
            let mut binding = Binding::new(&self.session)?;
            network.bind(&mut binding, layout, weights, weights)?;
            for (parameter, offset) in layout.trained(&network.parameters) {
                let name = names::gradient(&parameter.name);
                binding.output_view(&name, gradients, offset, &parameter.shape)?;
            }
            for (buffer, &offset) in network.buffers.iter().zip(&layout.buffer_offsets) {
                binding.output_view(&names::buffer_change(&buffer.name), gradients, offset, &buffer.shape)?;
            }
            sums.bind(&mut binding)?;
            Ok(binding)
        };
        let mut binding = bind(&mut self.sums).map_err(BackendError::session("bind the parameters"))?;
        batch.bind(self.images.as_ref(), &mut binding)?;
        for feed in [&self.offsets, &self.scale].into_iter().chain(&self.noises) {
            feed.bind(&mut binding)?;
        }
        for mask in &self.masks {
            mask.bind(&mut binding)?;
        }
        if let Some(mixed) = &self.mixed {
            mixed.others.bind(&mut binding)?;
            mixed.shares.bind(&mut binding)?;
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
    /// With `trained` as the weights of parameters that are trained, `weights` as those of the others.
    pub fn new(
        session: Session,
        setup: &Setup<'_>,
        batch: &BatchFeeds,
        (network, layout): (&Declared, &Layout),
        (weights, trained): (&SharedFlat, &SharedFlat),
    ) -> Result<Self, BackendError> {
        let bind = || -> ort::Result<(Binding, ScalarOutputs, Tensor<f32>)> {
            let mut binding = Binding::new(&session)?;
            network.bind(&mut binding, layout, weights, trained)?;
            let loss = setup.recipe.training.loss;
            let mut sums = ScalarOutputs::new(&Allocator::default(), loss)?;
            sums.bind(&mut binding)?;
            let mut probabilities =
                Tensor::new(&Allocator::default(), [setup.batch_rows, setup.network.classes])?;
            let name = if loss == Loss::MeanSquaredError { names::VALUES } else { names::PROBABILITIES };
            binding.output(name, &mut probabilities)?;
            Ok((binding, sums, probabilities))
        };
        let (mut binding, sums, probabilities) =
            bind().map_err(BackendError::session("bind the parameters"))?;
        batch.bind(None, &mut binding)?;
        Ok(Self { session, binding, sums, probabilities })
    }
}
