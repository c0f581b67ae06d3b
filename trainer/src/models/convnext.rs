//! ConvNeXt (Liu et al. 2022, A ConvNet for the 2020s), as in torchvision.

use fovea_graph::ops::Conv;
use fovea_graph::{Init, Result, Tensor};

use super::assembly::{Assembly, Convolution};

const EPSILON: f64 = 1e-6;
/// Deviation of the initial weights.
const STD: f64 = 0.02;
/// Initial factor of the branches.
const LAYER_SCALE: f32 = 1e-6;

/// Appends the network; the logits have `classes` columns.
pub(super) fn append(
    net: &mut Assembly<'_>,
    x: Tensor,
    [depths, widths]: [[usize; 4]; 2],
    stochastic_depth: f64,
    classes: usize,
) -> Result<Tensor> {
    let patches = |out, side| conv(out, side, Conv::new(side, 0));
    let mut x = net.conv("features.0.0", x, patches(widths[0], 4))?;
    x = normalised(net, "features.0.1", x)?;
    let (blocks, mut done) = (depths.iter().sum::<usize>(), 0);
    for (stage, (depth, width)) in depths.into_iter().zip(widths).enumerate() {
        if stage > 0 {
            let name = format!("features.{}", 2 * stage);
            x = normalised(net, &format!("{name}.0"), x)?;
            x = net.conv(&format!("{name}.1"), x, patches(width, 2))?;
        }
        let name = format!("features.{}", 2 * stage + 1);
        for at in 0..depth {
            let p = stochastic_depth * done as f64 / (blocks as f64 - 1.0).max(1.0);
            x = block(net, &format!("{name}.{at}"), x, p)?;
            done += 1;
        }
        net.tap(&name, x);
    }
    x = net.g.scope("avgpool", |g| g.global_average_pool(x))?;
    x = normalised(net, "classifier.0", x)?;
    x = net.g.flatten(x, 1)?;
    net.tap("classifier.1", x);
    x = net.linear("classifier.2", x, classes, initial())?;
    Ok(net.tap("classifier.2", x))
}

/// Depthwise convolution and two linear layers at each pixel, times a factor for each channel.
fn block(net: &mut Assembly<'_>, name: &str, x: Tensor, p: f64) -> Result<Tensor> {
    let width = net.g.shape(x)[1];
    let depthwise = conv(width, 7, Conv::new(1, 3).groups(width));
    let y = net.conv(&format!("{name}.block.0"), x, depthwise)?;
    let y = net.g.transpose(y, &[0, 2, 3, 1])?;
    let y = net.layer_norm(&format!("{name}.block.2"), y, EPSILON)?;
    let y = net.linear(&format!("{name}.block.3"), y, 4 * width, initial())?;
    let y = net.g.scope(name, |g| g.gelu(y))?;
    let y = net.linear(&format!("{name}.block.5"), y, width, initial())?;
    let y = net.g.transpose(y, &[0, 3, 1, 2])?;
    let scale = net.weight(&format!("{name}.layer_scale"), &[width, 1, 1], Init::Constant(LAYER_SCALE))?;
    let y = net.g.mul(y, scale)?;
    let y = net.dropped_path(&format!("{name}.stochastic_depth"), y, p)?;
    net.g.scope(name, |g| g.add(x, y))
}

/// Layer normalisation of the channels of `x` `[N,C,H,W]`.
fn normalised(net: &mut Assembly<'_>, name: &str, x: Tensor) -> Result<Tensor> {
    let last = net.g.transpose(x, &[0, 2, 3, 1])?;
    let y = net.layer_norm(name, last, EPSILON)?;
    net.g.transpose(y, &[0, 3, 1, 2])
}

fn conv(out: usize, kernel: usize, geometry: Conv) -> Convolution {
    let [weight, bias] = initial();
    Convolution { out, kernel, geometry, weight, bias: Some(bias) }
}

fn initial() -> [Init; 2] {
    [Init::Normal { std: STD }, Init::Constant(0.0)]
}
