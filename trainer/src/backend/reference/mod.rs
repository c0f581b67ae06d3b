//! A backend in plain Rust, slow and simple, as the reference for the others.
//!
//! Weights and optimizer slots are f32 as everywhere, so that saved states have the same form; everything
//! between is f64.

mod layers;

use std::ops::Range;
use std::sync::Arc;

use fovea_graph::{GraphError, Mode, Parameter};
use ndarray::Axis;

use self::layers::{Activations, Window};
use super::{
    BackendError, BatchMetrics, Description, Exchange, Limits, MicroBatch, ParameterExtremes, Rows, Save,
    Setup, Targets, TrainingBackend, Update, Updated, fill_mask, largest_magnitude,
};
use crate::collective::{Shares, sum_in_tree};
use crate::models::Classifier;
use crate::names;
use crate::optimizer::{self, Optimizer, ParameterGroup, clip_factor};
use crate::recipe::{DropoutScaling, Layer, LayerKind, Loss, Recipe};
use crate::state::{TensorRef, Tensors};

/// The backend in plain Rust, for small networks.
#[derive(Clone, Debug)]
pub struct ReferenceBackend {
    limits: Limits,
    train_limits: Limits,
    recipe: Recipe,
    network: Classifier,
    layers: Vec<Layer>,
    mean: Vec<f32>,
    factors: [f64; 3],
    optimizer: Arc<dyn Optimizer>,
    label_smoothing: f64,
    parameters: Vec<State>,
    /// Gradients of the parts of the step that have ended, of all parameters one after the other.
    parts: Vec<Vec<f32>>,
    /// Of whole parameters, one after the other.
    shares: Shares,
    own: Range<usize>,
    /// Whether the gradients of the step are sums over all processes, in this process's share.
    summed: bool,
}

/// A parameter with its gradient and optimizer slots.
#[derive(Clone, Debug)]
struct State {
    parameter: Parameter,
    /// `None` for a parameter that keeps its values.
    group: Option<ParameterGroup>,
    /// Whether this process owns it.
    is_own: bool,
    weights: Vec<f32>,
    /// The optimizer's slots, as many values each as there are weights; none but the average of a parameter
    /// that another process owns.
    slots: Vec<Vec<f32>>,
    gradients: Vec<f64>,
}

/// The results of the forward pass that the backward pass needs: the input of every layer, then the logits.
struct Trace {
    values: Vec<Activations>,
    masks: Vec<Activations>,
}

impl ReferenceBackend {
    /// A backend with initial weights.
    ///
    /// # Errors
    /// [`BackendError`] when layers do not fit or the mean does not.
    pub fn new(setup: &Setup<'_>) -> Result<Self, BackendError> {
        if setup.recipe.network.layer.is_empty() {
            let reason = "the reference backend computes layers only; use --backend ort".into();
            return Err(GraphError::Network { network: setup.recipe.name.clone(), reason }.into());
        }
        let optimizer = optimizer::from_recipe(setup.recipe);
        let parameters = setup.network.parameters()?;
        let groups = optimizer::groups(setup.recipe, &parameters)?;
        let (rank, world) = setup.place;
        let shares = Shares::new(parameters.iter().map(Parameter::len), world);
        let own = shares.of(rank);
        let mut start = 0;
        let states = parameters.into_iter().zip(groups).enumerate().map(|(index, (parameter, group))| {
            let weights = parameter.initial(setup.seed, index);
            let is_own = own.contains(&start);
            start += weights.len();
            let slot = |at| match optimizer.average() == Some(at) {
                true => weights.clone(),
                false => vec![0.0; if is_own { weights.len() } else { 0 }],
            };
            let slots = (0..group.map_or(0, |_| optimizer.slots().len())).map(slot).collect();
            State { gradients: vec![0.0; weights.len()], slots, weights, group, is_own, parameter }
        });
        let parameters = states.collect();
        let (mean, factors) = (setup.mean()?, setup.recipe.input.factors());
        let (recipe, network) = (setup.recipe.clone(), setup.network.clone());
        let label_smoothing = setup.recipe.training.label_smoothing.unwrap_or_default();
        Ok(Self {
            limits: setup.limits(),
            train_limits: setup.limits(),
            layers: recipe.network.layer.clone(),
            recipe,
            network,
            mean,
            factors,
            optimizer,
            label_smoothing,
            parameters,
            parts: Vec::new(),
            shares,
            own,
            summed: false,
        })
    }

    /// (images − mean + offsets) · factor of the rows that count, of images of `px` pixels.
    fn input(&self, rows: &Rows<'_>, px: usize, offsets: Option<&[[f32; 3]]>) -> Activations {
        let n = rows.targets.len();
        Activations::from_shape_fn((n, 3, px, px), |(row, channel, y, x)| {
            let place = (channel * px + y) * px + x;
            let mean = if self.mean.len() == 3 { self.mean[channel] } else { self.mean[place] };
            let pixel = rows.images[row * 3 * px * px + place];
            let offset = offsets.map_or(0.0, |offsets| offsets[row][channel]);
            (f64::from(pixel) - f64::from(mean) + f64::from(offset)) * self.factors[channel]
        })
    }

    /// The weights and biases of the layer that has parameter number `at`: `[O,C,k,k]`, in a locally
    /// connected layer `[P,Q,k·k·C,O]`. In evaluation they are the running averages, if there are any.
    fn weights(&self, at: usize, kernel: usize, mode: Mode) -> (Activations, Vec<f64>) {
        let average = self.optimizer.average().filter(|_| mode == Mode::Evaluate);
        let values = |state: &State| -> Vec<f64> {
            let averages = average.and_then(|slot| state.slots.get(slot));
            averages.unwrap_or(&state.weights).iter().map(|&value| f64::from(value)).collect()
        };
        let weights = &self.parameters[at];
        let shape = match weights.parameter.shape[..] {
            [a, b, c, d] => (a, b, c, d),
            _ => {
                let out = weights.parameter.shape[0];
                (out, weights.weights.len() / (out * kernel * kernel), kernel, kernel)
            }
        };
        let w = Activations::from_shape_vec(shape, values(weights));
        (w.expect("parameters have the shapes of their layers"), values(&self.parameters[at + 1]))
    }

    /// The window of a layer with weights; `side` is that of its input.
    fn window(kind: &LayerKind, side: usize) -> Option<Window> {
        match kind {
            LayerKind::Conv(conv) => {
                let (kernel, stride, pad, groups) = (conv.kernel, conv.stride, conv.pad, conv.groups);
                Some(Window { kernel, stride, pad, groups, ceil: false })
            }
            LayerKind::Local(local) => {
                let (kernel, stride, pad) = (local.kernel, local.stride, local.pad);
                Some(Window { kernel, stride, pad, groups: 1, ceil: false })
            }
            LayerKind::Linear(_) => Some(Window { kernel: side, stride: 1, pad: 0, groups: 1, ceil: false }),
            _ => None,
        }
    }

    fn forward(&self, x: Activations, mode: Mode, micro_batch: Option<&MicroBatch>) -> Trace {
        let mut trace = Trace { values: vec![x], masks: Vec::new() };
        let mut parameter = 0;
        for layer in &self.layers {
            let x = &trace.values[trace.values.len() - 1];
            let y = match &layer.kind {
                LayerKind::Activation(activation) => layers::activation(activation.function, x),
                LayerKind::Lrn(lrn) => layers::lrn(lrn, x),
                LayerKind::Pool(pool) => layers::pool(pool, x),
                LayerKind::Dropout(dropout) => {
                    let keep = 1.0 - dropout.p;
                    match (mode, micro_batch) {
                        (Mode::Train, Some(micro_batch)) if dropout.p > 0.0 => {
                            let mask = self.mask(micro_batch, trace.masks.len() as u32, keep, x);
                            let factor = match dropout.scaling {
                                DropoutScaling::Printed => 1.0,
                                DropoutScaling::Inverted => 1.0 / keep,
                            };
                            trace.masks.push(mask * factor);
                            x * &trace.masks[trace.masks.len() - 1]
                        }
                        (Mode::Evaluate, _) if dropout.scaling == DropoutScaling::Printed => x * keep,
                        _ => x.clone(),
                    }
                }
                kind => {
                    let window = Self::window(kind, x.dim().2).expect("what is left has weights");
                    let (w, b) = self.weights(parameter, window.kernel, mode);
                    parameter += 2;
                    match kind {
                        LayerKind::Local(_) => layers::local(x, &w, &b, window),
                        _ => layers::conv(x, &w, &b, window),
                    }
                }
            };
            trace.values.push(y);
        }
        trace
    }

    /// The mask of the rows.
    fn mask(&self, micro_batch: &MicroBatch, index: u32, keep: f64, x: &Activations) -> Activations {
        let mut mask = vec![false; x.len()];
        fill_mask(micro_batch, index, keep, x.len() / x.dim().0, &mut mask);
        let values = mask.into_iter().map(|kept| f64::from(u8::from(kept))).collect();
        Activations::from_shape_vec(x.dim(), values).expect("as many values as the activations have")
    }

    /// Adds to the gradients of all parameters, from that of the logits.
    fn backward(&mut self, mut trace: Trace, mut dy: Activations) {
        let mut parameter = self.parameters.len();
        let layers = self.layers.clone();
        for (at, layer) in layers.iter().enumerate().rev() {
            let (x, y) = (&trace.values[at], &trace.values[at + 1]);
            dy = match &layer.kind {
                LayerKind::Activation(activation) => layers::activation_backward(activation.function, y, &dy),
                LayerKind::Lrn(lrn) => layers::lrn_backward(lrn, x, &dy),
                LayerKind::Pool(pool) => layers::pool_backward(pool, x, y, &dy),
                LayerKind::Dropout(dropout) if dropout.p > 0.0 => {
                    dy * trace.masks.pop().expect("one mask for each dropout layer")
                }
                LayerKind::Dropout(_) => dy,
                kind => {
                    let window = Self::window(kind, x.dim().2).expect("what is left has weights");
                    parameter -= 2;
                    let (w, _) = self.weights(parameter, window.kernel, Mode::Train);
                    let (dx, dw, db) = match kind {
                        LayerKind::Local(_) => layers::local_backward(x, &w, &dy, window),
                        _ => layers::conv_backward(x, &w, &dy, window),
                    };
                    self.parameters[parameter].add_gradients(dw.iter());
                    self.parameters[parameter + 1].add_gradients(db.iter());
                    dx
                }
            };
        }
    }

    /// The gradients of the step, of all parameters one after the other.
    fn flat_gradients(&self) -> Vec<f32> {
        let all = self.parameters.iter().flat_map(|state| &state.gradients);
        all.map(|&gradient| gradient as f32).collect()
    }

    fn set_gradients(&mut self, flat: Vec<f32>) {
        let all = self.parameters.iter_mut().flat_map(|state| &mut state.gradients);
        for (gradient, value) in all.zip(flat) {
            *gradient = value.into();
        }
    }

    /// Makes the gradients of the step the sum of its parts, if it has any.
    fn join_parts(&mut self) {
        let add = |sum: &mut Vec<f32>, part: Vec<f32>| {
            sum.iter_mut().zip(part).for_each(|(sum, gradient)| *sum += gradient);
        };
        if let Some(sum) = sum_in_tree(std::mem::take(&mut self.parts), add) {
            self.set_gradients(sum);
        }
    }

    /// Values of all parameters, one after the other, lent and written back to those that have them.
    fn lend(&mut self, exchange: &mut Exchange<'_>, of: impl Fn(&mut State) -> Option<&mut Vec<f32>>) {
        let mut flat = Vec::with_capacity(self.shares.len());
        for state in &mut self.parameters {
            let end = flat.len() + state.weights.len();
            flat.extend(of(state).iter().flat_map(|values| values.iter()));
            flat.resize(end, 0.0);
        }
        exchange(&mut flat, &self.shares);
        let mut rest = flat.as_slice();
        for state in &mut self.parameters {
            let (values, further) = rest.split_at(state.weights.len());
            rest = further;
            if let Some(to) = of(state) {
                to.copy_from_slice(values);
            }
        }
    }

    /// The sums of squares of the gradients of the parameters that this process owns.
    fn own_squares(&self) -> Vec<f64> {
        let own = self.parameters.iter().filter(|state| state.group.is_some() && state.is_own);
        own.map(|state| state.gradients.iter().map(|gradient| gradient * gradient).sum()).collect()
    }

    fn zero_gradients(&mut self) {
        self.summed = false;
        for state in &mut self.parameters {
            state.gradients.fill(0.0);
        }
    }
}

impl State {
    fn add_gradients<'a>(&mut self, gradients: impl Iterator<Item = &'a f64>) {
        for (sum, gradient) in self.gradients.iter_mut().zip(gradients) {
            *sum += gradient;
        }
    }
}

/// The probability of each class that row number `row` should have: a share `smoothing` is spread over all of
/// `classes`.
fn expected(targets: &Targets<'_>, row: usize, classes: usize, smoothing: f64) -> Vec<f64> {
    let (labels, others, shares) = targets.parts();
    let mut expected = vec![smoothing / classes as f64; classes];
    let share = shares.get(row).map_or(1.0, |&share| f64::from(share));
    expected[labels[row] as usize] += (1.0 - smoothing) * share;
    if let Some(&other) = others.get(row) {
        expected[other as usize] += (1.0 - smoothing) * (1.0 - share);
    }
    expected
}

/// Loss and errors of a row against marks or numbers; its predictions in place.
fn score_elements(row: &mut [f64], target: &[f32], loss: Loss) -> BatchMetrics {
    let outputs = row.len() as f64;
    let (mut sum, mut wrong, mut absolute) = (0.0, 0.0, 0.0);
    for (value, &target) in row.iter_mut().zip(target) {
        let (logit, target) = (*value, f64::from(target));
        if loss == Loss::BinaryCrossEntropy {
            sum += logit.max(0.0) + (-logit.abs()).exp().ln_1p() - logit * target;
            wrong += f64::from(u8::from((logit > 0.0) != (target > 0.5)));
            *value = 1.0 / (1.0 + (-logit).exp());
        } else {
            sum += (logit - target).powi(2);
            absolute += (logit - target).abs();
        }
    }
    let errors = match loss {
        Loss::BinaryCrossEntropy => [f64::from(u8::from(wrong > 0.0)), wrong / outputs],
        _ => [sum / outputs, absolute / outputs],
    };
    BatchMetrics::from_errors(1, sum / outputs, errors)
}

/// Loss and counts against targets, smoothed; predictions of the logits in place.
fn score(logits: &mut Activations, targets: &Targets<'_>, smoothing: f64, loss: Loss) -> BatchMetrics {
    let mut sums = BatchMetrics::default();
    if let Targets::Values { values, outputs } = *targets {
        for (mut row, target) in logits.axis_iter_mut(Axis(0)).zip(values.chunks(outputs)) {
            let row = row.as_slice_mut().expect("a row of logits is contiguous");
            sums += score_elements(row, target, loss);
        }
        return sums;
    }
    for (at, mut row) in logits.axis_iter_mut(Axis(0)).enumerate() {
        let values: Vec<f64> = row.iter().copied().collect();
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        row.mapv_inplace(|logit| (logit - most).exp());
        let total = row.sum();
        let expected = expected(targets, at, values.len(), smoothing);
        let own: f64 = expected.iter().zip(&values).map(|(share, logit)| share * logit).sum();
        let label = targets.labels()[at] as usize;
        sums += BatchMetrics::from_row(total.ln() + most - own, &values, label);
        row.mapv_inplace(|power| power / total);
    }
    sums
}

impl TrainingBackend for ReferenceBackend {
    fn describe(&self) -> Description {
        let library = format!("fovea {}", env!("CARGO_PKG_VERSION"));
        Description { backend: "reference", device: "cpu".into(), library, own_kernels: false, threads: 1 }
    }

    fn batch_rows(&self) -> usize {
        self.limits.rows
    }

    fn set_training_px(&mut self, px: usize) -> Result<(), BackendError> {
        self.zero_gradients();
        self.parts.clear();
        let (network, batch_rows) = (self.network.clone(), self.limits.rows);
        Setup { recipe: &self.recipe, network, batch_rows, mean: &[], seed: 0, place: (0, 1) }
            .check_size(px)?;
        self.train_limits = self.limits.at(px);
        Ok(())
    }

    fn accumulate(&mut self, rows: Rows<'_>, micro_batch: MicroBatch) -> Result<BatchMetrics, BackendError> {
        self.train_limits.check_training(&rows)?;
        let x = self.input(&rows, self.train_limits.px, Some(rows.color_offsets));
        let trace = self.forward(x, Mode::Train, Some(&micro_batch));
        let mut dy = trace.values[trace.values.len() - 1].clone();
        let smoothing = self.label_smoothing;
        let loss = self.limits.loss;
        let sums = score(&mut dy, &rows.targets, smoothing, loss);
        for (at, mut row) in dy.axis_iter_mut(Axis(0)).enumerate() {
            let expected = match rows.targets {
                Targets::Values { values, outputs } => {
                    values[at * outputs..][..outputs].iter().map(|&value| value.into()).collect()
                }
                _ => expected(&rows.targets, at, self.limits.classes, smoothing),
            };
            row.iter_mut().zip(expected).for_each(|(probability, expected)| *probability -= expected);
        }
        // Losses of elements are means over a row's, and the square's slope is twice the difference.
        dy *= match loss {
            Loss::CrossEntropy => 1.0,
            Loss::BinaryCrossEntropy => 1.0 / self.limits.classes as f64,
            Loss::MeanSquaredError => 2.0 / self.limits.classes as f64,
        };
        dy *= f64::from(micro_batch.gradient_scale);
        self.backward(trace, dy);
        Ok(sums)
    }

    fn end_part(&mut self) -> Result<(), BackendError> {
        self.parts.push(self.flat_gradients());
        self.zero_gradients();
        Ok(())
    }

    fn update(&mut self, update: Update) -> Result<Updated, BackendError> {
        self.join_parts();
        let limit = self.optimizer.clip_norm();
        let own_factor = limit.map(|limit| clip_factor(limit, self.own_squares()));
        let update = Update { gradient_factor: update.gradient_factor.or(own_factor), ..update };
        for State { group, is_own, weights, slots, gradients, .. } in &mut self.parameters {
            let Some(group) = group.filter(|_| *is_own) else { continue };
            let hyperparameters = self.optimizer.values(&group, &update);
            self.optimizer.step(&hyperparameters, weights, slots, gradients);
        }
        self.zero_gradients();
        Ok(Updated::Done)
    }

    fn lend_gradients(&mut self, sum: &mut Exchange<'_>) -> Result<(), BackendError> {
        self.join_parts();
        let mut lent = self.flat_gradients();
        sum(&mut lent, &self.shares);
        self.set_gradients(lent);
        self.summed = true;
        Ok(())
    }

    fn squares(&mut self) -> Result<Vec<f64>, BackendError> {
        self.join_parts();
        Ok(self.own_squares())
    }

    fn lend_weights(&mut self, gather: &mut Exchange<'_>) -> Result<(), BackendError> {
        self.lend(gather, |state| Some(&mut state.weights));
        Ok(())
    }

    fn lend_average(&mut self, gather: &mut Exchange<'_>) -> Result<(), BackendError> {
        if let Some(at) = self.optimizer.average() {
            self.lend(gather, |state| state.slots.get_mut(at));
        }
        Ok(())
    }

    fn lend_slots(&mut self, lend: &mut dyn FnMut(&[f32], &Shares)) -> Result<(), BackendError> {
        if self.shares.world() == 1 {
            return Ok(());
        }
        let average = self.optimizer.average();
        for at in (0..self.optimizer.slots().len()).filter(|at| Some(*at) != average) {
            let mut values = Vec::with_capacity(self.own.len());
            for state in self.parameters.iter().filter(|state| state.is_own) {
                let end = values.len() + state.weights.len();
                values.extend(state.slots.get(at).into_iter().flatten());
                values.resize(end, 0.0);
            }
            lend(&values, &self.shares);
        }
        Ok(())
    }

    fn reset_gradients(&mut self) {
        self.parts.clear();
        self.zero_gradients();
    }

    fn evaluate(&mut self, rows: Rows<'_>, probabilities: &mut [f32]) -> Result<BatchMetrics, BackendError> {
        self.limits.check(&rows)?;
        self.limits.check_probabilities(&rows, probabilities.len())?;
        let trace = self.forward(self.input(&rows, self.limits.px, None), Mode::Evaluate, None);
        let mut predictions = trace.values[trace.values.len() - 1].clone();
        let sums = score(&mut predictions, &rows.targets, 0.0, self.limits.loss);
        for (probability, predicted) in probabilities.iter_mut().zip(&predictions) {
            *probability = *predicted as f32;
        }
        Ok(sums)
    }

    fn extremes(&mut self) -> Result<Vec<ParameterExtremes>, BackendError> {
        let trained = self.parameters.iter().filter(|state| state.group.is_some());
        let extremes = trained.map(|state| {
            let gradients = state.gradients.iter().filter(|_| state.is_own || !self.summed);
            let gradients: Vec<f32> = gradients.map(|&gradient| gradient as f32).collect();
            ParameterExtremes {
                name: state.parameter.name.clone(),
                weight: largest_magnitude(&state.weights),
                gradient: largest_magnitude(&gradients),
            }
        });
        Ok(extremes.collect())
    }

    fn export_with(&mut self, slots: &[Vec<f32>], save: &mut Save<'_>) -> Result<(), BackendError> {
        let mut start = 0;
        let names_of = |state: &State| {
            let name = &state.parameter.name;
            self.optimizer.slots().iter().map(|slot| names::slot(name, slot)).collect::<Vec<_>>()
        };
        let names: Vec<_> = self.parameters.iter().map(names_of).collect();
        let mut tensors = Vec::new();
        for (state, names) in self.parameters.iter().zip(&names) {
            let shape = state.parameter.shape.as_slice();
            tensors.push((state.parameter.name.as_str(), TensorRef { shape, values: &state.weights }));
            let range = start..start + state.weights.len();
            start = range.end;
            for (at, (name, held)) in names.iter().zip(&state.slots).enumerate() {
                // The average is the last slot, and whole.
                let values = slots.get(at).map_or(held.as_slice(), |whole| &whole[range.clone()]);
                tensors.push((name.as_str(), TensorRef { shape, values }));
            }
        }
        save(&tensors);
        Ok(())
    }

    fn import(&mut self, mut state: Tensors) -> Result<(), BackendError> {
        self.reset_gradients();
        for State { parameter, weights, slots, .. } in &mut self.parameters {
            *weights = state.take(&parameter.name, &parameter.shape)?.values;
            for (name, slot) in self.optimizer.slots().iter().zip(slots) {
                let saved = state.take(&names::slot(&parameter.name, name), &parameter.shape)?;
                if !slot.is_empty() {
                    *slot = saved.values;
                }
            }
        }
        Ok(())
    }
}
