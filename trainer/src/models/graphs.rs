//! The graphs of a training session: train, update, accumulate, evaluate; and the one for export.
//!
//! Losses and gradients are sums over valid rows. The gradients are those of `gradient_scale · Σ loss`: a
//! step over one batch sets the scale to 1 / rows; a step over several micro-batches sets it to 1 / (rows of
//! all of them) and adds the gradients up.
//!
//! In half precision activations are f16, everything stored is f32. The loss is multiplied by the loss scale
//! before it is differentiated and the gradients are divided by it afterwards, in f32, so that small
//! gradients do not vanish in f16.

use fovea_graph::{
    Buffer, BufferUse, Builder, Drawn, ElementType, Forward, Graph, GraphError, Lowering, Mode, Parameter,
    Result, Target, Tensor, TensorType,
};

use super::Classifier;
use crate::names;
use crate::recipe::{Loss, Mean, Recipe};

/// Shape of the mean that is subtracted from images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MeanShape {
    /// One value per channel, `[3,1,1]`.
    #[default]
    Channel,
    /// One value per channel and pixel, `[3,H,W]`.
    Pixel,
}

/// Dependencies of a network's graphs other than its layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GraphOptions {
    /// Rows N of a batch of the train and evaluate graphs.
    pub batch: usize,
    /// Device that the graphs run on.
    pub target: Target,
    /// Shape of the mean.
    pub mean: MeanShape,
    /// Factors of the centred pixels in R, G and B.
    pub pixel_scale: [f64; 3],
    /// Type of activations: f32 or f16.
    pub compute: ElementType,
    /// Whether train and evaluate graphs may hold operators that only sessions of this process know.
    pub own_operators: bool,
    /// Share of each label that is spread over all classes in the train graph.
    pub label_smoothing: f64,
    /// The loss.
    pub loss: Loss,
    /// Whether rows of the train graph have two labels, since their images are mixed.
    pub is_mixed: bool,
}

impl GraphOptions {
    /// Options for batches of `batch` rows on the CPU in f32, a mean per channel, pixels of 0..=255.
    #[must_use]
    pub fn new(batch: usize) -> Self {
        let compute = ElementType::F32;
        let (target, mean, pixel_scale) = (Target::Cpu, MeanShape::Channel, [1.0; 3]);
        Self {
            batch,
            target,
            mean,
            pixel_scale,
            compute,
            own_operators: false,
            label_smoothing: 0.0,
            loss: Loss::default(),
            is_mixed: false,
        }
    }

    /// Options for `recipe` in f32; for a recipe without a mean, a mean per channel (of zeros).
    #[must_use]
    pub fn from_recipe(recipe: &Recipe, batch: usize, target: Target) -> Self {
        let mean = match recipe.input.mean {
            Mean::Image => MeanShape::Pixel,
            Mean::Channel | Mean::Values(_) | Mean::None => MeanShape::Channel,
        };
        let label_smoothing = recipe.training.label_smoothing.unwrap_or_default();
        let is_mixed = recipe.mixes_classes();
        let (pixel_scale, loss) = (recipe.input.factors(), recipe.training.loss);
        Self { target, mean, pixel_scale, label_smoothing, loss, is_mixed, ..Self::new(batch) }
    }

    /// The forms of a graph.
    fn lowering(&self, forms: impl FnOnce(Target) -> Lowering) -> Lowering {
        Lowering { own_operators: self.own_operators, ..forms(self.target) }
    }

    /// Shape of the mean for a network of inputs of `input_px` pixels.
    #[must_use]
    pub fn mean_shape(&self, input_px: usize) -> [usize; 3] {
        let side = if self.mean == MeanShape::Pixel { input_px } else { 1 };
        [3, side, side]
    }
}

/// The graphs of a training session and the state that they work on.
#[derive(Clone, Debug)]
pub struct TrainingGraphs {
    /// Parameters in order; inputs of `train` and `evaluate` under their names.
    pub parameters: Vec<Parameter>,
    /// What the host draws for every step; inputs of `train` under their names.
    pub drawn: Drawn,
    /// Buffers in order; inputs of `train` and `evaluate` under their names.
    pub buffers: Vec<Buffer>,
    /// In: images, offsets, mean, labels (other labels and shares, where images are mixed), valid, gradient
    /// scale, masks, noises, parameters and buffers. Out: loss, top-1, top-5, a gradient for each trained
    /// parameter and a change for each buffer. In half precision also the loss scale in and the sum of the
    /// gradients out.
    pub train: Graph,
    /// Like `train` without offsets, scale and what is drawn; out: loss, top-1, top-5, logits, probabilities.
    pub evaluate: Graph,
}

impl TrainingGraphs {
    /// Builds the graphs of `network`.
    ///
    /// # Errors
    /// The layers do not fit each other, the input size or the number of classes; or the batch is empty.
    pub fn build(network: &Classifier, options: &GraphOptions) -> Result<Self> {
        if options.batch == 0 {
            let reason = "a batch needs at least one row, given 0".into();
            return Err(GraphError::Network { network: network.name().to_owned(), reason });
        }
        let (train, declared) = train(network, options)?;
        Ok(Self {
            parameters: declared.parameters.into_iter().map(|(parameter, _)| parameter).collect(),
            drawn: declared.drawn,
            buffers: declared.buffers.into_iter().map(|buffer| buffer.buffer).collect(),
            train,
            evaluate: evaluate(network, options)?,
        })
    }

    /// The train graph alone, and what the host draws for it.
    ///
    /// # Errors
    /// Those of [`build`](Self::build).
    pub fn train(network: &Classifier, options: &GraphOptions) -> Result<(Graph, Drawn)> {
        let (graph, declared) = train(network, options)?;
        Ok((graph, declared.drawn))
    }
}

/// The train graph, and the network's declarations in it.
fn train(network: &Classifier, options: &GraphOptions) -> Result<(Graph, Forward)> {
    let mut g = Builder::new(format!("{}_train", network.name()), options.lowering(Lowering::training));
    let images = images(&mut g, network, options.batch, ElementType::U8)?;
    let offsets = g.input(names::OFFSETS, TensorType::f32([options.batch, 3]))?;
    let x = centred(&mut g, network, images, Some(offsets), options)?;
    let (targets, valid) = targets(&mut g, network, options)?;
    let scale = g.input(names::GRADIENT_SCALE, TensorType::f32([]))?;
    let forward = network.forward(&mut g, x, Mode::Train)?;
    let mixed = match options.is_mixed {
        true => Some((
            g.input(names::OTHER_LABELS, TensorType::new(ElementType::I64, [options.batch]))?,
            g.input(names::LABEL_SHARES, TensorType::f32([options.batch]))?,
        )),
        false => None,
    };
    let loss = counts(&mut g, forward.logits, (targets, mixed), valid, options)?;
    let scaled = g.mul(loss, scale)?;
    let trained =
        forward.parameters.iter().filter(|(parameter, _)| network.trained.contains(&parameter.name));
    let (trained, tensors): (Vec<_>, Vec<_>) =
        trained.map(|(parameter, tensor)| (parameter, *tensor)).unzip();
    let gradients = match options.compute {
        ElementType::F16 => gradients_by_scaled_loss(&mut g, scaled, &tensors)?,
        _ => g.grad(scaled, &tensors)?,
    };
    for (parameter, gradient) in trained.into_iter().zip(gradients) {
        g.output(&names::gradient(&parameter.name), gradient)?;
    }
    buffer_changes(&mut g, &forward, valid, scale)?;
    Ok((g.finish(), forward))
}

/// The batch's change of each buffer, weighted by the batch's share of the rows of the step, so that several
/// micro-batches add up to the mean of their changes.
fn buffer_changes(g: &mut Builder, forward: &Forward, valid: Tensor, scale: Tensor) -> Result<()> {
    if forward.buffers.is_empty() {
        return Ok(());
    }
    let share = g.scope("share", |g| {
        let rows = g.cast(valid, ElementType::F32)?;
        let rows = g.sum(rows)?;
        g.mul(rows, scale)
    })?;
    for BufferUse { buffer, value, new } in &forward.buffers {
        let Some(new) = *new else { continue };
        let change = g.sub(new, *value)?;
        let change = g.mul(change, share)?;
        g.output(&names::buffer_change(&buffer.name), change)?;
    }
    Ok(())
}

/// The gradients through a loss so large that they do not vanish in f16, and their sum as an output.
fn gradients_by_scaled_loss(g: &mut Builder, loss: Tensor, parameters: &[Tensor]) -> Result<Vec<Tensor>> {
    let scale = g.input(names::LOSS_SCALE, TensorType::f32([]))?;
    let large = g.mul(loss, scale)?;
    let gradients = g.grad(large, parameters)?;
    g.scope("unscale", |g| {
        let mut total = g.scalar(ElementType::F32, 0.0);
        let mut unscaled = Vec::with_capacity(gradients.len());
        for gradient in gradients {
            let gradient = g.div(gradient, scale)?;
            let sum = g.sum(gradient)?;
            total = g.add(total, sum)?;
            unscaled.push(gradient);
        }
        g.output(names::GRADIENT_SUM, total)?;
        Ok(unscaled)
    })
}

fn evaluate(network: &Classifier, options: &GraphOptions) -> Result<Graph> {
    let mut g = Builder::new(format!("{}_evaluate", network.name()), options.lowering(Lowering::evaluation));
    let images = images(&mut g, network, options.batch, ElementType::U8)?;
    let x = centred(&mut g, network, images, None, options)?;
    let (targets, valid) = targets(&mut g, network, options)?;
    let logits = network.forward(&mut g, x, Mode::Evaluate)?.logits;
    let plain = GraphOptions { label_smoothing: 0.0, ..*options };
    counts(&mut g, logits, (targets, None), valid, &plain)?;
    declare_predictions(&mut g, logits, options.loss)?;
    Ok(g.finish())
}

pub(super) fn images(
    g: &mut Builder,
    network: &Classifier,
    batch: usize,
    element: ElementType,
) -> Result<Tensor> {
    let px = network.input_px;
    g.input(names::IMAGES, TensorType::new(element, [batch, 3, px, px]))
}

/// (images − mean + offsets) · scale, in the type of activations.
pub(super) fn centred(
    g: &mut Builder,
    network: &Classifier,
    images: Tensor,
    offsets: Option<Tensor>,
    options: &GraphOptions,
) -> Result<Tensor> {
    let mean = g.input(names::MEAN, TensorType::f32(options.mean_shape(network.input_px)))?;
    g.scope("input", |g| {
        let pixels = g.cast(images, ElementType::F32)?;
        let x = match offsets {
            None => g.sub(pixels, mean)?,
            Some(offsets) => {
                let offsets = g.unsqueeze(offsets, &[2, 3])?;
                match options.mean {
                    // Both are small here: one pass over the images instead of two.
                    MeanShape::Channel => {
                        let shift = g.sub(mean, offsets)?;
                        g.sub(pixels, shift)?
                    }
                    MeanShape::Pixel => {
                        let centred = g.sub(pixels, mean)?;
                        g.add(centred, offsets)?
                    }
                }
            }
        };
        let [red, green, blue] = options.pixel_scale;
        let x = if red == green && green == blue {
            g.scale(x, red)?
        } else {
            let factors = g.floats(TensorType::f32([3, 1, 1]), &options.pixel_scale);
            g.mul(x, factors)?
        };
        g.cast(x, options.compute)
    })
}

/// Labels or other targets, and which rows are valid.
fn targets(g: &mut Builder, network: &Classifier, options: &GraphOptions) -> Result<(Tensor, Tensor)> {
    let batch = options.batch;
    let targets = match options.loss {
        Loss::CrossEntropy => g.input(names::LABELS, TensorType::new(ElementType::I64, [batch]))?,
        Loss::BinaryCrossEntropy | Loss::MeanSquaredError => {
            g.input(names::TARGETS, TensorType::f32([batch, network.classes]))?
        }
    };
    let valid = g.input(names::VALID, TensorType::new(ElementType::Bool, [batch]))?;
    Ok((targets, valid))
}

/// Declares loss and counts as outputs and returns the loss; `mixed` are other labels and the labels' shares.
fn counts(
    g: &mut Builder,
    logits: Tensor,
    (targets, mixed): (Tensor, Option<(Tensor, Tensor)>),
    valid: Tensor,
    options: &GraphOptions,
) -> Result<Tensor> {
    let smoothing = options.label_smoothing;
    let elements = g.scope("loss", |g| match options.loss {
        Loss::CrossEntropy => Ok(None),
        Loss::BinaryCrossEntropy => g.binary_cross_entropy(logits, targets, valid).map(Some),
        Loss::MeanSquaredError => g.mean_squared_error(logits, targets, valid).map(Some),
    })?;
    if let Some(sums) = elements {
        g.output(names::LOSS, sums.loss)?;
        g.output(names::FIRST_ERROR, sums.first_error)?;
        g.output(names::SECOND_ERROR, sums.second_error)?;
        return Ok(sums.loss);
    }
    let sums = g.scope("loss", |g| match mixed {
        Some((others, shares)) => g.mixed_cross_entropy(logits, (targets, others, shares), valid, smoothing),
        None if smoothing == 0.0 => g.cross_entropy(logits, targets, valid),
        None => g.smoothed_cross_entropy(logits, targets, valid, smoothing),
    })?;
    g.output(names::LOSS, sums.loss)?;
    g.output(names::TOP1, sums.top1)?;
    g.output(names::TOP5, sums.top5)?;
    Ok(sums.loss)
}

/// Declares logits and probabilities as outputs, or values.
pub(super) fn declare_predictions(g: &mut Builder, logits: Tensor, loss: Loss) -> Result<()> {
    let probabilities = match loss {
        Loss::CrossEntropy => g.softmax(logits, 1)?,
        Loss::BinaryCrossEntropy => g.sigmoid(logits)?,
        Loss::MeanSquaredError => return g.output(names::VALUES, logits),
    };
    g.output(names::LOGITS, logits)?;
    g.output(names::PROBABILITIES, probabilities)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use fovea_graph::Port;
    use fovea_runtime::testing::{self, Data};

    use super::*;
    use crate::models::{Layers, PixelType, features, inference};
    use crate::recipe::Recipe;

    const BATCH: usize = 3;

    #[test]
    fn own_operators_are_only_in_graphs_of_sessions_that_know_them() {
        let network = tiny();
        let own = |graph: &Graph| {
            graph.operators().iter().any(|(operator, _)| operator.domain == fovea_graph::DOMAIN)
        };
        let standard = GraphOptions::new(BATCH);
        let graphs = TrainingGraphs::build(&network, &standard).unwrap();
        assert!(!own(&graphs.train) && !own(&graphs.evaluate));
        let options = GraphOptions { own_operators: true, ..standard };
        assert!(own(&TrainingGraphs::build(&network, &options).unwrap().train));
        let values: Vec<Vec<f32>> =
            graphs.parameters.iter().map(|parameter| vec![0.0; parameter.shape.iter().product()]).collect();
        let values: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
        assert!(!own(&inference(&network, &options, PixelType::U8, &[0.0; 3], &values).unwrap()));
    }

    fn tiny() -> Classifier {
        let set = [
            "input.crop_px=28",
            "network.layer.conv.out=8",
            "network.layer.fc6.out=16",
            "network.layer.fc7.out=16",
        ];
        Classifier::new(&Recipe::load("demo", &set.map(str::to_owned)).unwrap(), 4).unwrap()
    }

    fn noise(count: usize, salt: usize) -> impl Iterator<Item = f32> {
        (0..count).map(move |i| ((i * 7919 + salt * 104_729) % 1009) as f32 / 1009.0)
    }

    /// Inputs of the train or evaluate graph of `tiny`; rows from `rows` on hold garbage and are not valid.
    fn feed(ports: &[Port], rows: usize, garbage: u8) -> Vec<(&str, &[usize], Data)> {
        let data = |port: &Port, salt: usize| {
            let count = port.ty.len();
            match port.name.as_str() {
                names::IMAGES => {
                    let row = count / BATCH;
                    let pixel =
                        |(i, v): (usize, f32)| if i / row < rows { (255.0 * v) as u8 } else { garbage };
                    Data::U8(noise(count, salt).enumerate().map(pixel).collect())
                }
                names::LABELS => Data::I64((0..BATCH as i64).collect()),
                names::VALID => Data::Bool((0..BATCH).map(|i| i < rows).collect()),
                names::GRADIENT_SCALE => Data::F32(vec![0.5]),
                names::MEAN => Data::F32(noise(count, salt).map(|v| 100.0 + 50.0 * v).collect()),
                _ if port.ty.element == ElementType::Bool => Data::Bool(vec![true; count]),
                _ => Data::F32(noise(count, salt).map(|v| 0.4 * (v - 0.5)).collect()),
            }
        };
        ports.iter().enumerate().map(|(i, p)| (p.name.as_str(), p.ty.shape.as_slice(), data(p, i))).collect()
    }

    fn run(graph: &Graph, rows: usize, garbage: u8) -> HashMap<String, Vec<f64>> {
        let ports = graph.inputs();
        testing::run(&mut testing::session(&graph.to_bytes()), &feed(&ports, rows, garbage))
    }

    #[test]
    fn padding_rows_of_a_batch_change_nothing() {
        let graphs = TrainingGraphs::build(&tiny(), &GraphOptions::new(BATCH)).unwrap();
        let (one, other) = (run(&graphs.train, 2, 0), run(&graphs.train, 2, 201));
        assert_eq!(one.len(), 3 + graphs.parameters.len());
        for (name, values) in &one {
            for (a, b) in values.iter().zip(&other[name]) {
                assert!((a - b).abs() <= 1e-6 * (1.0 + a.abs()), "{name}: {a} against {b}");
            }
        }
        assert_ne!(one[names::LOSS], run(&graphs.train, 3, 0)[names::LOSS]);
    }

    #[test]
    fn mixing_changes_the_train_graph_and_leaves_that_of_evaluations() {
        let graphs = |is_mixed| {
            TrainingGraphs::build(&tiny(), &GraphOptions { is_mixed, ..GraphOptions::new(BATCH) }).unwrap()
        };
        let (plain, mixed) = (graphs(false), graphs(true));
        assert!(plain.evaluate.to_bytes() == mixed.evaluate.to_bytes());
        let names = |graph: &Graph| graph.inputs().into_iter().map(|port| port.name).collect::<Vec<_>>();
        let added: Vec<String> =
            names(&mixed.train).into_iter().filter(|name| !names(&plain.train).contains(name)).collect();
        assert_eq!(added, [names::OTHER_LABELS, names::LABEL_SHARES]);
    }

    #[test]
    fn every_built_in_recipe_has_graphs_for_training_evaluation_and_export() {
        for name in Recipe::built_in().filter(|name| *name != "finetune") {
            let recipe = Recipe::load(name, &[]).unwrap();
            let network = Classifier::new(&recipe, 10).unwrap();
            let options = GraphOptions::from_recipe(&recipe, 2, Target::Cpu);
            let graphs = TrainingGraphs::build(&network, &options).unwrap_or_else(|error| panic!("{error}"));
            let outputs = 3 + graphs.parameters.len() + graphs.buffers.len();
            assert_eq!(graphs.train.outputs().len(), outputs, "{name}");
            assert_eq!(graphs.evaluate.outputs().len(), 5, "{name}");
            if graphs.parameters.iter().map(Parameter::len).sum::<usize>() < 5_000_000 {
                let parameters = graphs.parameters.iter().map(|p| vec![0.0; p.len()]);
                let buffers = graphs.buffers.iter().map(|b| vec![0.0; b.len()]);
                let values: Vec<Vec<f32>> = parameters.chain(buffers).collect();
                let values: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
                let mean = vec![0.0; options.mean_shape(network.input_px).iter().product()];
                let graph = inference(&network, &options, PixelType::U8, &mean, &values);
                assert!(graph.unwrap_or_else(|error| panic!("{error}")).inputs()[0].free_batch, "{name}");
            }
        }
    }

    #[test]
    fn every_parameter_and_mask_is_an_input_and_has_a_gradient() {
        let graphs = TrainingGraphs::build(&tiny(), &GraphOptions::new(BATCH)).unwrap();
        let has = |ports: Vec<Port>, name: &str, shape: &[usize]| {
            assert!(ports.iter().any(|p| p.name == name && p.ty.shape == shape), "{name}");
        };
        for parameter in &graphs.parameters {
            has(graphs.train.inputs(), &parameter.name, &parameter.shape);
            has(graphs.evaluate.inputs(), &parameter.name, &parameter.shape);
            has(graphs.train.outputs(), &names::gradient(&parameter.name), &parameter.shape);
        }
        assert_eq!(graphs.drawn.masks.len(), 2);
        for mask in &graphs.drawn.masks {
            has(graphs.train.inputs(), &mask.name, &mask.shape);
        }
    }

    #[test]
    fn a_mean_for_every_pixel_is_subtracted_too_and_every_channel_has_its_factor() {
        let network = Classifier { input_px: 2, ..tiny() };
        let mut g = Builder::new("input", Lowering::training(Target::Cpu));
        let images = images(&mut g, &network, 1, ElementType::U8).unwrap();
        let offsets = g.input(names::OFFSETS, TensorType::f32([1, 3])).unwrap();
        let pixel_scale = [0.5, 0.25, 2.0];
        let options = GraphOptions { mean: MeanShape::Pixel, pixel_scale, ..GraphOptions::new(1) };
        let x = centred(&mut g, &network, images, Some(offsets), &options).unwrap();
        g.output("x", x).unwrap();
        let mean: Vec<f32> = (0..12).map(|v| v as f32).collect();
        let inputs: [(&str, &[usize], Data); 3] = [
            (names::IMAGES, &[1, 3, 2, 2], Data::U8(vec![20; 12])),
            (names::OFFSETS, &[1, 3], Data::F32(vec![1.0, 2.0, 3.0])),
            (names::MEAN, &[3, 2, 2], Data::F32(mean)),
        ];
        let x = testing::run(&mut testing::session(&g.finish().to_bytes()), &inputs).remove("x").unwrap();
        let expected: Vec<f64> =
            (0..12).map(|i| (20.0 - i as f64 + (i / 4 + 1) as f64) * pixel_scale[i / 4]).collect();
        assert_eq!(x, expected);
    }

    #[test]
    fn the_exported_graph_gives_the_outputs_of_the_evaluate_graph_for_any_batch_size() {
        let network = tiny();
        let options = GraphOptions::new(BATCH);
        let graphs = TrainingGraphs::build(&network, &options).unwrap();
        let ports = graphs.evaluate.inputs();
        let inputs = feed(&ports, BATCH, 0);
        let expected = testing::run(&mut testing::session(&graphs.evaluate.to_bytes()), &inputs);
        let floats = |name: &str| match &inputs.iter().find(|(n, ..)| *n == name).unwrap().2 {
            Data::F32(values) => values.clone(),
            other => panic!("{name} is {other:?}"),
        };
        let parameters: Vec<Vec<f32>> = graphs.parameters.iter().map(|p| floats(&p.name)).collect();
        let parameters: Vec<&[f32]> = parameters.iter().map(Vec::as_slice).collect();
        let mean = floats(names::MEAN);
        let graph = inference(&network, &options, PixelType::U8, &mean, &parameters).unwrap();
        assert!(graph.inputs()[0].free_batch && graph.inputs().len() == 1);
        let mut session = testing::session(&graph.to_bytes());
        let Data::U8(pixels) = &inputs[0].2 else { panic!("images are bytes") };
        for rows in [1, BATCH] {
            let images = Data::U8(pixels[..rows * 3 * 28 * 28].to_vec());
            let given = testing::run(&mut session, &[(names::IMAGES, &[rows, 3, 28, 28], images)]);
            for (i, value) in given[names::PROBABILITIES].iter().enumerate() {
                let expected = expected[names::PROBABILITIES][i];
                assert!(
                    (value - expected).abs() < 1e-6,
                    "{rows} rows, place {i}: {value} against {expected}"
                );
            }
        }
        assert!(inference(&network, &options, PixelType::U8, &mean[1..], &parameters).is_err());
        assert!(inference(&network, &options, PixelType::U8, &mean, &parameters[1..]).is_err());
    }

    #[test]
    fn the_features_are_those_of_the_layer_and_come_with_the_logits() {
        let network = tiny();
        let options = GraphOptions::new(1);
        let parameters = network.parameters().unwrap();
        let values: Vec<Vec<f32>> = parameters
            .iter()
            .zip(1..)
            .map(|(p, salt)| noise(p.len(), salt).map(|v| 0.4 * (v - 0.5)).collect())
            .collect();
        let values: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
        let mean = [100.0, 110.0, 120.0];
        let pixels = || Data::U8(noise(2 * 3 * 28 * 28, 5).map(|v| (255.0 * v) as u8).collect());
        let run = |graph: &Graph| {
            testing::run(
                &mut testing::session(&graph.to_bytes()),
                &[(names::IMAGES, &[2, 3, 28, 28], pixels())],
            )
        };
        let expected = run(&inference(&network, &options, PixelType::U8, &mean, &values).unwrap());
        let of = |layer: &str| run(&features(&network, &options, layer, &mean, &values).unwrap());
        for layer in network.network.taps() {
            let found = of(&layer);
            for (found, expected) in found[names::LOGITS].iter().zip(&expected[names::LOGITS]) {
                assert!((found - expected).abs() < 1e-5, "{layer}: {found} against {expected}");
            }
        }
        // Forward runs the pool before the activation, unlike the order of the layers' names.
        let [conv5, relu5] = ["conv5", "relu5"].map(|layer| of(layer).remove(names::FEATURES).unwrap());
        let rectified: Vec<f64> = conv5.iter().map(|value| value.max(0.0)).collect();
        assert!(relu5 == rectified && relu5 != conv5);
        assert_eq!(of("fc8")[names::FEATURES], expected[names::LOGITS]);
        let error = features(&network, &options, "conv9", &mean, &values).unwrap_err().to_string();
        assert!(error.contains("no layer `conv9`; its layers: conv1, relu1, "), "{error}");
    }

    #[test]
    fn networks_that_do_not_fit_are_refused_with_their_name() {
        let mut layers = Layers::new(&Recipe::load("demo", &[]).unwrap(), 4);
        layers.layers.pop();
        let mut network = tiny();
        network.network = Arc::new(layers);
        let error = TrainingGraphs::build(&network, &GraphOptions::new(1)).unwrap_err();
        assert!(
            error.to_string().starts_with(
                "network `demo`: its last layer gives 256 values for an image, the data set has"
            ),
            "{error}"
        );
        assert!(TrainingGraphs::build(&tiny(), &GraphOptions::new(0)).is_err());
        let mut network = tiny();
        network.input_px = 8;
        assert!(matches!(
            TrainingGraphs::build(&network, &GraphOptions::new(1)),
            Err(GraphError::Operands { operator: "MaxPool", .. })
        ));
    }
}
