//! All parameters in one flat buffer, those that are updated alike side by side.

use std::ops::Range;

use fovea_graph::{Parameter, ParameterKind};

/// Every parameter starts at a multiple of this many values: 256 bytes, the alignment of device memory.
const ALIGNMENT: usize = 64;

/// Places of parameters in a flat buffer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layout {
    /// First value of each parameter, in the parameters' order.
    pub offsets: Vec<usize>,
    /// Values of the whole buffer, gaps included.
    pub len: usize,
    /// Ranges that are updated alike; together they are the whole buffer.
    pub groups: Vec<Group>,
}

/// A range of values with one learning rate and one decay.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    /// Values.
    pub range: Range<usize>,
    /// Whether they are weights or biases.
    pub kind: ParameterKind,
    /// Weight decay instead of the optimizer's.
    pub weight_decay: Option<f64>,
}

impl Layout {
    pub fn new(parameters: &[Parameter]) -> Self {
        let mut layout = Self { offsets: vec![0; parameters.len()], len: 0, groups: Vec::new() };
        let alike = |a: &Parameter, b: &Parameter| a.kind == b.kind && a.weight_decay == b.weight_decay;
        let mut placed = vec![false; parameters.len()];
        for (first, parameter) in parameters.iter().enumerate() {
            if placed[first] {
                continue;
            }
            let start = layout.len;
            for (at, other) in parameters.iter().enumerate().skip(first) {
                if alike(parameter, other) {
                    placed[at] = true;
                    layout.offsets[at] = layout.len;
                    layout.len += other.len().next_multiple_of(ALIGNMENT);
                }
            }
            let (kind, weight_decay) = (parameter.kind, parameter.weight_decay);
            layout.groups.push(Group { range: start..layout.len, kind, weight_decay });
        }
        layout
    }
}

#[cfg(test)]
mod tests {
    use fovea_graph::Init;

    use super::*;

    fn parameter(count: usize, kind: ParameterKind, weight_decay: Option<f64>) -> Parameter {
        let (name, init) = (String::new(), Init::Constant(0.0));
        Parameter { name, shape: vec![count], kind, init, weight_decay }
    }

    #[test]
    fn parameters_that_are_updated_alike_lie_side_by_side() {
        use ParameterKind::{Bias, Weight};
        let layout = Layout::new(&[
            parameter(100, Weight, None),
            parameter(3, Bias, None),
            parameter(64, Weight, None),
            parameter(64, Bias, None),
            parameter(1, Weight, Some(1.0)),
        ]);
        assert_eq!(layout.offsets, [0, 192, 128, 256, 320]);
        let ranges: Vec<_> = layout.groups.iter().map(|group| group.range.clone()).collect();
        assert_eq!(ranges, [0..192, 192..320, 320..384]);
        assert_eq!(layout.len, 384);
    }
}
