//! What a name of a file stands for while its nodes are translated.

use super::constant::Constant;
use crate::Tensor;

/// What a name of the file stands for.
#[derive(Clone)]
pub(super) enum Bound {
    Tensor(Tensor),
    /// Its values do not depend on images or parameters.
    Known {
        constant: Constant,
        /// Whether it was computed from the shape of a value of the network, and so with its batch size.
        of_shape: bool,
    },
    Random(Random),
    Sequence(Vec<Self>),
}

/// A value that is not computed yet.
#[derive(Clone, Debug)]
pub(super) enum Random {
    /// Uniform in `low..high`.
    Uniform { shape: Vec<usize>, low: f64, high: f64 },
    /// Boolean, true with probability `keep`, of a graph for evaluation.
    Chance { rank: usize, keep: f64 },
}

/// A value of the file in a graph.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub tensor: Tensor,
    /// Whether it depends on inputs or parameters.
    pub is_computed: bool,
}
