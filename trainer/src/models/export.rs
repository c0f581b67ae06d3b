//! Graphs for export: a trained network with its mean, parameters and buffers as constants.

use std::fmt;
use std::str::FromStr;

use fovea_graph::{
    Builder, ElementType, Forward, Graph, GraphError, Lowering, Mode, Target, Tensor, free_batch,
};
use fovea_pipeline::UnknownName;

use super::graphs::{centred, declare_predictions, images};
use super::{Classifier, GraphOptions};
use crate::names;

/// Element type of the images that an exported graph takes; values are 0..=255 in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PixelType {
    /// Bytes.
    #[default]
    U8,
    /// Single precision.
    F32,
}

impl PixelType {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::U8, Self::F32];

    /// The name on command lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::F32 => "f32",
        }
    }
}

impl fmt::Display for PixelType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PixelType {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        UnknownName::find("type of pixels", name, &Self::ALL, Self::name)
    }
}

/// The graph for export: images of a free batch size in, logits and probabilities (or values) out; mean,
/// parameters and buffers are constants.
///
/// `mean` has the shape of `options.mean`; `values` are those of the parameters and then of the buffers, in
/// the network's order. The batch of `options` is not used.
///
/// # Errors
/// The layers do not fit, or `mean` or one of `values` has another number of values.
pub fn inference(
    network: &Classifier,
    options: &GraphOptions,
    pixels: PixelType,
    mean: &[f32],
    values: &[&[f32]],
) -> Result<Graph, GraphError> {
    let element = match pixels {
        PixelType::U8 => ElementType::U8,
        PixelType::F32 => ElementType::F32,
    };
    let outputs = |g: &mut Builder, x| {
        let logits = network.forward(g, x, Mode::Evaluate)?.logits;
        declare_predictions(g, logits, options.loss)
    };
    exported(network, options, Lowering::evaluation, element, mean, values, &outputs)
}

/// Like [`inference`] for bytes, with an additional output: the activation of the layer `layer`, flattened to
/// `f32 [N,D]`.
///
/// # Errors
/// Those of [`inference`], and when the network has no such layer.
pub fn features(
    network: &Classifier,
    options: &GraphOptions,
    layer: &str,
    mean: &[f32],
    values: &[&[f32]],
) -> Result<Graph, GraphError> {
    let outputs = |g: &mut Builder, x| {
        let (Forward { logits, .. }, activation) = network.forward_with_tap(g, x, layer)?;
        let flat = g.scope("features", |g| {
            if g.shape(activation).len() == 2 { Ok(activation) } else { g.flatten(activation, 1) }
        })?;
        g.output(names::FEATURES, flat)?;
        declare_predictions(g, logits, options.loss)
    };
    exported(network, options, Lowering::evaluation, ElementType::U8, mean, values, &outputs)
}

/// Like [`inference`] for bytes, with an additional output: how much the highest logit of each image depends
/// on each of its pixels, `f32 [N,H,W]`. That is the derivative, the largest absolute one of the three
/// colours (Simonyan, Vedaldi, Zisserman 2013, Deep inside convolutional networks, section 3).
///
/// # Errors
/// Those of [`inference`], and when the logits depend on the pixels through an operator without a gradient.
pub fn saliency(
    network: &Classifier,
    options: &GraphOptions,
    mean: &[f32],
    values: &[&[f32]],
) -> Result<Graph, GraphError> {
    let outputs = |g: &mut Builder, x| {
        let logits = network.forward(g, x, Mode::Evaluate)?.logits;
        let map = g.scope("saliency", |g| {
            let highest = g.reduce_max(logits, &[1], false)?;
            // Each image's depends on that image alone.
            let sum = g.sum(highest)?;
            let gradient = g.grad(sum, &[x])?[0];
            let size = g.abs(gradient)?;
            g.reduce_max(size, &[1], false)
        })?;
        g.output(names::SALIENCY, map)?;
        declare_predictions(g, logits, options.loss)
    };
    exported(network, options, Lowering::training, ElementType::U8, mean, values, &outputs)
}

/// A graph of a free batch size with mean, parameters and buffers as constants; `outputs` builds its outputs
/// from the centred images.
fn exported(
    network: &Classifier,
    options: &GraphOptions,
    lowering: fn(Target) -> Lowering,
    element: ElementType,
    mean: &[f32],
    values: &[&[f32]],
    outputs: &dyn Fn(&mut Builder, Tensor) -> Result<(), GraphError>,
) -> Result<Graph, GraphError> {
    let mut graph = free_batch(|batch| {
        let mut g = Builder::new(network.name(), lowering(options.target));
        let images = images(&mut g, network, batch, element)?;
        let x = centred(&mut g, network, images, None, options)?;
        outputs(&mut g, x)?;
        Ok(g.finish())
    })?;
    let (parameters, buffers) = network.declared()?;
    let names = parameters.iter().map(|parameter| &parameter.name);
    let names: Vec<&String> = names.chain(buffers.iter().map(|buffer| &buffer.name)).collect();
    if names.len() != values.len() {
        let reason = format!("it has {} parameters and buffers, given {}", names.len(), values.len());
        return Err(GraphError::Network { network: network.name().to_owned(), reason });
    }
    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
    graph.set_input(names::MEAN, bytes(mean))?;
    for (name, values) in names.into_iter().zip(values) {
        graph.set_input(name, bytes(values))?;
    }
    Ok(graph)
}
