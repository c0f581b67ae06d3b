//! The networks of a recipe's `network.architecture`.

use fovea_graph::{
    Builder, Forward, Lowering, Mode, Network, Result, Target, Tensor, TensorType, unknown_tap,
};

use super::assembly::Assembly;
use super::{convnext, mobilenet, resnet, vit};
use crate::recipe::{Architecture, BatchNormStatistics};

/// A network of a family.
#[derive(Clone, Debug)]
pub struct FamilyNetwork {
    /// Name of the recipe.
    pub name: String,
    /// The family, and its sizes.
    pub architecture: Architecture,
    /// Which statistics batches are normalised by in training.
    pub statistics: BatchNormStatistics,
    /// Number of classes K.
    pub classes: usize,
    /// Side of the input images in pixels.
    pub input_px: usize,
}

impl FamilyNetwork {
    /// Appends the network; also returns its named activations.
    fn assemble(&self, g: &mut Builder, x: Tensor, mode: Mode) -> Result<(Forward, Vec<(String, Tensor)>)> {
        let mut net = Assembly::new(g, x, mode, self.statistics);
        let classes = self.classes;
        let logits = match &self.architecture {
            Architecture::Resnet { block, depths } => resnet::append(&mut net, x, *block, *depths, classes),
            Architecture::MobilenetV3 { stem, block, hidden, dropout } => {
                let sizes = mobilenet::Sizes { stem: *stem, hidden: *hidden, dropout: *dropout, classes };
                mobilenet::append(&mut net, x, block, &sizes)
            }
            Architecture::Convnext { depths, widths, stochastic_depth } => {
                convnext::append(&mut net, x, [*depths, *widths], *stochastic_depth, classes)
            }
            &Architecture::Vit { patch_px, width, depth, heads, stochastic_depth } => {
                let sizes = vit::Sizes { patch_px, width, depth, heads, stochastic_depth, classes };
                vit::append(&mut net, x, &sizes)
            }
        }?;
        Ok(net.finish(logits))
    }
}

impl Network for FamilyNetwork {
    fn name(&self) -> &str {
        &self.name
    }

    fn forward(&self, g: &mut Builder, x: Tensor, mode: Mode) -> Result<Forward> {
        Ok(self.assemble(g, x, mode)?.0)
    }

    /// Ends of stages, what the last linear layer takes, and the logits.
    fn taps(&self) -> Vec<String> {
        let mut g = Builder::new(&self.name, Lowering::evaluation(Target::Cpu));
        let shape = [1, 3, self.input_px, self.input_px];
        let taps =
            g.input("x", TensorType::f32(shape)).and_then(|x| self.assemble(&mut g, x, Mode::Evaluate));
        // A network that does not fit its images has none.
        taps.map_or_else(|_| Vec::new(), |(_, taps)| taps.into_iter().map(|(name, _)| name).collect())
    }

    fn last_hidden(&self) -> Option<String> {
        let taps = self.taps();
        taps.len().checked_sub(2).map(|at| taps[at].clone())
    }

    fn forward_with_tap(&self, g: &mut Builder, x: Tensor, tap: &str) -> Result<(Forward, Tensor)> {
        let (forward, taps) = self.assemble(g, x, Mode::Evaluate)?;
        let Some((_, activation)) = taps.into_iter().find(|(name, _)| name == tap) else {
            return Err(unknown_tap(self, tap));
        };
        Ok((forward, activation))
    }
}
