//! Networks with branches, each described by its sizes.

use serde::{Deserialize, Serialize};

/// A family of networks with its sizes. Parameters have the names of the family's PyTorch implementation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Architecture {
    /// Residual network (He et al. 2016) with the stride in the 3 × 3 convolutions, as in torchvision.
    Resnet {
        /// Kind of the blocks.
        block: ResidualBlock,
        /// Blocks in each of the four stages.
        depths: [usize; 4],
    },
    /// Network of inverted residuals with squeeze-and-excitation (Howard et al. 2019), as in torchvision.
    MobilenetV3 {
        /// Channels after the first convolution.
        stem: usize,
        /// The blocks.
        block: Vec<InvertedResidual>,
        /// Units of the hidden layer of the classifier.
        hidden: usize,
        /// Share of these that dropout drops.
        dropout: f64,
    },
    /// Convolutional network after the manner of transformers (Liu et al. 2022), as in torchvision.
    Convnext {
        /// Blocks in each of the four stages.
        depths: [usize; 4],
        /// Channels in each of the four stages.
        widths: [usize; 4],
        /// Share of images for which the last block is left out in training; for earlier blocks it is less.
        stochastic_depth: f64,
    },
    /// Vision transformer (Dosovitskiy et al. 2021) with a class token, as in timm.
    Vit {
        /// Side of a patch in pixels.
        patch_px: usize,
        /// Values of a token.
        width: usize,
        /// Blocks.
        depth: usize,
        /// Heads of attention.
        heads: usize,
        /// Share of images for which the last block is left out in training; for earlier blocks it is less.
        stochastic_depth: f64,
    },
}

/// Blocks of residual networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResidualBlock {
    /// Two 3 × 3 convolutions.
    Basic,
    /// 1 × 1, 3 × 3 and 1 × 1 convolutions, the last with four times the channels.
    Bottleneck,
}

/// A block of a [`MobilenetV3`](Architecture::MobilenetV3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvertedResidual {
    /// Side of the depthwise kernel in pixels.
    pub kernel: usize,
    /// Channels inside.
    pub expanded: usize,
    /// Output channels.
    pub out: usize,
    /// Whether channels are weighted by what is in the whole image (squeeze-and-excitation).
    pub squeeze: bool,
    /// Whether activations are hard swishes, not rectified.
    pub hard_swish: bool,
    /// Stride in pixels.
    pub stride: usize,
}
