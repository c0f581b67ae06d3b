//! MobileNetV3 (Howard et al. 2019, Searching for MobileNetV3), as in torchvision.

use fovea_graph::{Init, Result, Tensor};

use super::assembly::{Assembly, Convolution, Normalisation};
use crate::recipe::InvertedResidual;

const NORM: Normalisation = Normalisation { epsilon: 1e-3, momentum: 0.99, gain: 1.0 };
/// Deviation of the initial weights of linear layers.
const LINEAR_STD: f64 = 0.01;

/// Sizes other than those of the blocks.
pub(super) struct Sizes {
    pub stem: usize,
    pub hidden: usize,
    pub dropout: f64,
    pub classes: usize,
}

/// Appends the network; the logits have a column for each class.
pub(super) fn append(
    net: &mut Assembly<'_>,
    x: Tensor,
    blocks: &[InvertedResidual],
    sizes: &Sizes,
) -> Result<Tensor> {
    let mut x = normalised(net, "features.0", x, Convolution::new(sizes.stem, 3, 2))?;
    x = activation(net, x, true)?;
    for (at, block) in blocks.iter().enumerate() {
        let name = format!("features.{}", at + 1);
        x = inverted_residual(net, &format!("{name}.block"), x, block)?;
        net.tap(&name, x);
    }
    let last = format!("features.{}", blocks.len() + 1);
    let channels = 6 * net.g.shape(x)[1];
    x = normalised(net, &last, x, Convolution::new(channels, 1, 1))?;
    x = activation(net, x, true)?;
    net.tap(&last, x);
    x = net.pooled(x)?;
    net.tap("avgpool", x);
    let init = || [Init::Normal { std: LINEAR_STD }, Init::Constant(0.0)];
    x = net.linear("classifier.0", x, sizes.hidden, init())?;
    x = activation(net, x, true)?;
    net.tap("classifier.1", x);
    x = net.dropout("classifier.2", x, sizes.dropout)?;
    x = net.linear("classifier.3", x, sizes.classes, init())?;
    Ok(net.tap("classifier.3", x))
}

/// Expansion, depthwise convolution, squeeze-and-excitation and projection.
fn inverted_residual(
    net: &mut Assembly<'_>,
    name: &str,
    x: Tensor,
    block: &InvertedResidual,
) -> Result<Tensor> {
    let (channels, mut y, mut part) = (net.g.shape(x)[1], x, 0..);
    let mut next = || format!("{name}.{}", part.next().unwrap_or_default());
    if block.expanded != channels {
        y = normalised(net, &next(), y, Convolution::new(block.expanded, 1, 1))?;
        y = activation(net, y, block.hard_swish)?;
    }
    let depthwise = Convolution::depthwise(block.expanded, block.kernel, block.stride);
    y = normalised(net, &next(), y, depthwise)?;
    y = activation(net, y, block.hard_swish)?;
    if block.squeeze {
        y = squeezed(net, &next(), y)?;
    }
    y = normalised(net, &next(), y, Convolution::new(block.out, 1, 1))?;
    if block.stride == 1 && channels == block.out { net.g.scope(name, |g| g.add(x, y)) } else { Ok(y) }
}

/// Squeeze-and-excitation (Hu et al. 2018): channels times a weight from the means of all of them.
fn squeezed(net: &mut Assembly<'_>, name: &str, x: Tensor) -> Result<Tensor> {
    let channels = net.g.shape(x)[1];
    let of = |out| Convolution { bias: Some(Init::Constant(0.0)), ..Convolution::new(out, 1, 1) };
    let means = net.g.scope(name, |g| g.global_average_pool(x))?;
    let y = net.conv(&format!("{name}.fc1"), means, of(in_eights(channels / 4)))?;
    let y = net.g.scope(name, |g| g.relu(y))?;
    let y = net.conv(&format!("{name}.fc2"), y, of(channels))?;
    net.g.scope(name, |g| {
        let weights = g.hard_sigmoid(y, 1.0 / 6.0, 0.5)?;
        g.mul(x, weights)
    })
}

/// The multiple of 8 nearest to `channels`, or the next one if it is below nine tenths.
fn in_eights(channels: usize) -> usize {
    let nearest = ((channels + 4) / 8 * 8).max(8);
    if 10 * nearest < 9 * channels { nearest + 8 } else { nearest }
}

fn activation(net: &mut Assembly<'_>, x: Tensor, is_hard_swish: bool) -> Result<Tensor> {
    if is_hard_swish { net.g.hard_swish(x) } else { net.g.relu(x) }
}

fn normalised(net: &mut Assembly<'_>, name: &str, x: Tensor, conv: Convolution) -> Result<Tensor> {
    let y = net.conv(&format!("{name}.0"), x, conv)?;
    net.batch_norm(&format!("{name}.1"), y, NORM)
}
