//! Vision transformer (Dosovitskiy et al. 2021, An image is worth 16x16 words), as in timm.

use fovea_graph::ops::Conv;
use fovea_graph::{Init, Result, Tensor};

use super::assembly::{Assembly, Convolution};

const EPSILON: f64 = 1e-6;
/// Deviation of the initial weights.
const STD: f64 = 0.02;
/// Deviation of the initial class token.
const TOKEN_STD: f64 = 1e-6;

/// Sizes of the network.
pub(super) struct Sizes {
    pub patch_px: usize,
    pub width: usize,
    pub depth: usize,
    pub heads: usize,
    pub stochastic_depth: f64,
    pub classes: usize,
}

/// Appends the network; the logits have a column for each class.
pub(super) fn append(net: &mut Assembly<'_>, x: Tensor, sizes: &Sizes) -> Result<Tensor> {
    let (patch, width) = (sizes.patch_px, sizes.width);
    let inputs = net.g.shape(x)[1] * patch * patch;
    let [weight, bias] = Assembly::uniform(inputs);
    let geometry = Conv::new(patch, 0);
    let conv = Convolution { out: width, kernel: patch, geometry, weight, bias: Some(bias) };
    let x = net.conv("patch_embed.proj", x, conv)?;
    let (batch, patches) = (net.g.shape(x)[0], net.g.shape(x)[2] * net.g.shape(x)[3]);
    let tokens = patches + 1;
    let class = net.weight("cls_token", &[1, 1, width], Init::Normal { std: TOKEN_STD })?;
    let position = net.weight("pos_embed", &[1, tokens, width], Init::Normal { std: STD })?;
    let mut x = net.g.scope("embedding", |g| {
        let x = g.reshape(x, &[batch, width, patches])?;
        let x = g.transpose(x, &[0, 2, 1])?;
        // The class token is added where the patches leave room, so that no node depends on the batch.
        let x = g.pad(x, &[0, 1, 0], &[0, 0, 0])?;
        let class = g.pad(class, &[0, 0, 0], &[0, patches, 0])?;
        let offset = g.add(position, class)?;
        g.add(x, offset)
    })?;
    for at in 0..sizes.depth {
        let p = sizes.stochastic_depth * at as f64 / (sizes.depth as f64 - 1.0).max(1.0);
        let name = format!("blocks.{at}");
        x = block(net, &name, x, (sizes.heads, p))?;
        net.tap(&name, x);
    }
    x = net.layer_norm("norm", x, EPSILON)?;
    x = net.g.scope("token", |g| {
        let first = g.slice(x, 1, 0, 1)?;
        g.squeeze(first, &[1])
    })?;
    net.tap("norm", x);
    x = net.linear("head", x, sizes.classes, initial())?;
    Ok(net.tap("head", x))
}

/// Attention and two linear layers for each token.
fn block(net: &mut Assembly<'_>, name: &str, x: Tensor, (heads, p): (usize, f64)) -> Result<Tensor> {
    let width = net.g.shape(x)[2];
    let y = net.layer_norm(&format!("{name}.norm1"), x, EPSILON)?;
    let y = attention(net, &format!("{name}.attn"), y, heads)?;
    let y = net.dropped_path(&format!("{name}.drop_path1"), y, p)?;
    let x = net.g.scope(name, |g| g.add(x, y))?;
    let y = net.layer_norm(&format!("{name}.norm2"), x, EPSILON)?;
    let y = net.linear(&format!("{name}.mlp.fc1"), y, 4 * width, initial())?;
    let y = net.g.scope(name, |g| g.gelu(y))?;
    let y = net.linear(&format!("{name}.mlp.fc2"), y, width, initial())?;
    let y = net.dropped_path(&format!("{name}.drop_path2"), y, p)?;
    net.g.scope(name, |g| g.add(x, y))
}

/// Self-attention of several heads over the tokens `[N,T,D]`.
fn attention(net: &mut Assembly<'_>, name: &str, x: Tensor, heads: usize) -> Result<Tensor> {
    let [batch, tokens, width] = net.g.shape(x)[..] else { unreachable!("tokens have three axes") };
    let side = width / heads;
    let all = net.linear(&format!("{name}.qkv"), x, 3 * width, initial())?;
    let y = net.g.scope(name, |g| {
        let parts = g.split(all, 2, &[width; 3])?;
        let mut of_heads = Vec::with_capacity(3);
        for part in parts {
            let part = g.reshape(part, &[batch, tokens, heads, side])?;
            of_heads.push(g.transpose(part, &[0, 2, 1, 3])?);
        }
        let keys = g.transpose(of_heads[1], &[0, 1, 3, 2])?;
        let queries = g.scale(of_heads[0], 1.0 / (side as f64).sqrt())?;
        let scores = g.matmul(queries, keys)?;
        let shares = g.softmax(scores, 3)?;
        let y = g.matmul(shares, of_heads[2])?;
        let y = g.transpose(y, &[0, 2, 1, 3])?;
        g.reshape(y, &[batch, tokens, width])
    })?;
    net.linear(&format!("{name}.proj"), y, width, initial())
}

fn initial() -> [Init; 2] {
    [Init::Normal { std: STD }, Init::Constant(0.0)]
}
