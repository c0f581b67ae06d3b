//! Layout of the state in flat buffers: parameters grouped by their update, then the network's own buffers.
//!
//! There is one flat buffer for weights, one for gradients, and one for each slot of the optimizer, all of
//! the same layout. The gradients' flat buffer holds, in the range of a network's buffer, the step's change
//! of it.

use std::ops::Range;

use fovea_graph::{Buffer, Parameter};

use crate::names;
use crate::optimizer::ParameterGroup;

/// Every tensor starts at a multiple of this many values: 256 bytes, the alignment of device memory.
const ALIGNMENT: usize = 64;

/// Positions of tensors in the flat buffers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layout {
    /// First value of each parameter, in the parameters' order.
    pub offsets: Vec<usize>,
    /// First value of each buffer, in the buffers' order.
    pub buffer_offsets: Vec<usize>,
    /// Number of values of a flat buffer, gaps included.
    pub len: usize,
    /// Ranges of parameters with the same update.
    pub groups: Vec<(Range<usize>, ParameterGroup)>,
    /// Range of the buffers, after all parameters.
    pub buffers: Range<usize>,
}

/// A tensor of the saved state.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// Name in the state.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// First value in its flat buffer.
    pub offset: usize,
    /// The slot whose flat buffer it is in; `None` for the weights'.
    pub slot: Option<usize>,
}

impl Entry {
    /// Its values in the flat buffer.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.shape.iter().product::<usize>()
    }
}

impl Layout {
    pub fn new(parameters: &[Parameter], buffers: &[Buffer]) -> Self {
        let mut len = 0;
        let mut place = |count: usize| {
            let offset = len;
            len += count.next_multiple_of(ALIGNMENT);
            offset
        };
        let mut offsets = vec![0; parameters.len()];
        let mut placed = vec![false; parameters.len()];
        let mut starts = Vec::new();
        for (first, parameter) in parameters.iter().enumerate() {
            if placed[first] {
                continue;
            }
            let group = ParameterGroup::from(parameter);
            starts.push((place(0), group));
            for (at, other) in parameters.iter().enumerate().skip(first) {
                if ParameterGroup::from(other) == group {
                    placed[at] = true;
                    offsets[at] = place(other.len());
                }
            }
        }
        let end = place(0);
        let buffer_offsets = buffers.iter().map(|buffer| place(buffer.len())).collect();
        let ends = starts.iter().skip(1).map(|(start, _)| *start).chain([end]).collect::<Vec<_>>();
        let groups = starts.into_iter().zip(ends).map(|((start, group), end)| (start..end, group)).collect();
        Self { offsets, buffer_offsets, len, groups, buffers: end..len }
    }

    /// All tensors of the state: parameters, each followed by its slots, then buffers.
    pub fn entries(&self, parameters: &[Parameter], buffers: &[Buffer], slots: &[&str]) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(parameters.len() * (1 + slots.len()) + buffers.len());
        for (parameter, &offset) in parameters.iter().zip(&self.offsets) {
            let entry = |name, slot| Entry { name, shape: parameter.shape.clone(), offset, slot };
            entries.push(entry(parameter.name.clone(), None));
            for (at, slot) in slots.iter().enumerate() {
                entries.push(entry(names::slot(&parameter.name, slot), Some(at)));
            }
        }
        for (buffer, &offset) in buffers.iter().zip(&self.buffer_offsets) {
            let (name, shape) = (buffer.name.clone(), buffer.shape.clone());
            entries.push(Entry { name, shape, offset, slot: None });
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use fovea_graph::{Init, ParameterKind};

    use super::*;

    fn parameter(count: usize, kind: ParameterKind, weight_decay: Option<f64>) -> Parameter {
        let (name, init) = (format!("{kind:?}{count}"), Init::Constant(0.0));
        Parameter { name, shape: vec![count], kind, init, weight_decay }
    }

    #[test]
    fn parameters_with_the_same_update_are_adjacent_and_buffers_follow_them() {
        use ParameterKind::{Bias, Weight};
        let parameters = [
            parameter(100, Weight, None),
            parameter(3, Bias, None),
            parameter(64, Weight, None),
            parameter(64, Bias, None),
            parameter(1, Weight, Some(1.0)),
        ];
        let buffers = [Buffer { name: "mean".into(), shape: vec![65], init: Init::Constant(0.0) }];
        let layout = Layout::new(&parameters, &buffers);
        assert_eq!(layout.offsets, [0, 192, 128, 256, 320]);
        let ranges: Vec<_> = layout.groups.iter().map(|(range, _)| range.clone()).collect();
        assert_eq!(ranges, [0..192, 192..320, 320..384]);
        assert_eq!(
            (layout.buffer_offsets.as_slice(), layout.buffers.clone(), layout.len),
            (&[384][..], 384..512, 512)
        );
        let entries = layout.entries(&parameters, &buffers, &["momentum"]);
        let named: Vec<_> =
            entries.iter().map(|entry| (entry.name.as_str(), entry.slot, entry.range())).collect();
        assert_eq!(
            named[..3],
            [("Weight100", None, 0..100), ("Weight100.momentum", Some(0), 0..100), ("Bias3", None, 192..195)]
        );
        assert_eq!(named[10..], [("mean", None, 384..449)]);
    }
}
