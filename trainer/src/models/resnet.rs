//! Residual networks (He et al. 2016, Deep residual learning for image recognition), as in torchvision.

use fovea_graph::ops::Pool;
use fovea_graph::{Result, Tensor};

use super::assembly::{Assembly, Convolution, Normalisation};
use crate::recipe::ResidualBlock;

const NORM: Normalisation = Normalisation { epsilon: 1e-5, momentum: 0.9, gain: 1.0 };
/// Channels of the first stage, before the factor of its blocks.
const WIDTH: usize = 64;

/// Appends the network; the logits have `classes` columns.
pub(super) fn append(
    net: &mut Assembly<'_>,
    x: Tensor,
    block: ResidualBlock,
    depths: [usize; 4],
    classes: usize,
) -> Result<Tensor> {
    let mut x = normalised(net, ["conv1", "bn1"], x, Convolution::new(WIDTH, 7, 2))?;
    x = net.g.scope("relu", |g| g.relu(x))?;
    let pool = Pool { kernel: 3, stride: 2, padding: 1, ceil: false };
    x = net.g.scope("maxpool", |g| g.max_pool(x, pool))?;
    net.tap("maxpool", x);
    for (stage, depth) in depths.into_iter().enumerate() {
        let name = format!("layer{}", stage + 1);
        for at in 0..depth {
            let stride = if stage > 0 && at == 0 { 2 } else { 1 };
            x = residual(net, &format!("{name}.{at}"), x, block, (WIDTH << stage, stride))?;
        }
        net.tap(&name, x);
    }
    let means = net.pooled(x)?;
    net.tap("avgpool", means);
    let inputs = net.g.shape(means)[1];
    let logits = net.linear("fc", means, classes, Assembly::uniform(inputs))?;
    Ok(net.tap("fc", logits))
}

fn residual(
    net: &mut Assembly<'_>,
    name: &str,
    x: Tensor,
    block: ResidualBlock,
    (width, stride): (usize, usize),
) -> Result<Tensor> {
    let layers = match block {
        ResidualBlock::Basic => vec![(width, 3, stride), (width, 3, 1)],
        ResidualBlock::Bottleneck => vec![(width, 1, 1), (width, 3, stride), (4 * width, 1, 1)],
    };
    let (mut y, last) = (x, layers.len() - 1);
    for (at, &(out, kernel, stride)) in layers.iter().enumerate() {
        let names = ["conv", "bn"].map(|kind| format!("{name}.{kind}{}", at + 1));
        y = normalised(net, [&names[0], &names[1]], y, Convolution::new(out, kernel, stride))?;
        if at < last {
            y = net.g.scope(name, |g| g.relu(y))?;
        }
    }
    let out = layers[last].0;
    let shortcut = if stride == 1 && net.g.shape(x)[1] == out {
        x
    } else {
        let names = [0, 1].map(|at| format!("{name}.downsample.{at}"));
        normalised(net, [&names[0], &names[1]], x, Convolution::new(out, 1, stride))?
    };
    net.g.scope(name, |g| {
        let sum = g.add(y, shortcut)?;
        g.relu(sum)
    })
}

fn normalised(net: &mut Assembly<'_>, names: [&str; 2], x: Tensor, conv: Convolution) -> Result<Tensor> {
    let y = net.conv(names[0], x, conv)?;
    net.batch_norm(names[1], y, NORM)
}
