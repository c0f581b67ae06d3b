//! Layout of the state in flat buffers: trained parameters grouped by their update, then the network's own
//! buffers, then parameters that keep their values.
//!
//! All flat buffers have the same layout and end where nothing more is in them: those of the optimizer's
//! slots after the trained parameters, that of the gradients after the network's buffers, whose changes in
//! the step it holds, that of the weights after all.

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
    /// Whether each parameter is trained.
    pub trained: Vec<bool>,
    /// First value of each buffer, in the buffers' order.
    pub buffer_offsets: Vec<usize>,
    /// Number of values of the weights' flat buffer, gaps included.
    pub len: usize,
    /// Ranges of parameters with the same update.
    pub groups: Vec<(Range<usize>, ParameterGroup)>,
    /// Range of the buffers, after all trained parameters.
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
    /// The layout of parameters of these groups (`None` keeps its values); `separate` keeps parameters apart
    /// that are in the same group.
    pub fn new(
        parameters: &[Parameter],
        of_parameters: &[Option<ParameterGroup>],
        buffers: &[Buffer],
        separate: bool,
    ) -> Self {
        let mut len = 0;
        let mut place = |count: usize| {
            let offset = len;
            len += count.next_multiple_of(ALIGNMENT);
            offset
        };
        let mut offsets = vec![0; parameters.len()];
        let mut placed = vec![false; parameters.len()];
        let mut groups = Vec::new();
        for (first, group) in of_parameters.iter().enumerate() {
            let Some(group) = group.filter(|_| !placed[first]) else { continue };
            let start = place(0);
            for (at, other) in of_parameters.iter().enumerate().skip(first) {
                if *other == Some(group) && (at == first || !separate) {
                    placed[at] = true;
                    offsets[at] = place(parameters[at].len());
                }
            }
            groups.push((start..place(0), group));
        }
        let trained_end = place(0);
        let buffer_offsets = buffers.iter().map(|buffer| place(buffer.len())).collect();
        let buffers = trained_end..place(0);
        for (at, parameter) in parameters.iter().enumerate().filter(|(at, _)| of_parameters[*at].is_none()) {
            offsets[at] = place(parameter.len());
        }
        let trained = of_parameters.iter().map(Option::is_some).collect();
        Self { offsets, trained, buffer_offsets, len, groups, buffers }
    }

    /// Parameters that are trained, with their first values.
    pub fn trained<'a>(
        &self,
        parameters: &'a [Parameter],
    ) -> impl Iterator<Item = (&'a Parameter, usize)> + use<'a, '_> {
        let places = parameters.iter().zip(&self.offsets).zip(&self.trained);
        places.filter(|(_, trained)| **trained).map(|((parameter, offset), _)| (parameter, *offset))
    }

    /// All tensors of the state: parameters, those that are trained each followed by its slots, then buffers.
    pub fn entries(&self, parameters: &[Parameter], buffers: &[Buffer], slots: &[&str]) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(parameters.len() * (1 + slots.len()) + buffers.len());
        for ((parameter, &offset), &trained) in parameters.iter().zip(&self.offsets).zip(&self.trained) {
            let entry = |name, slot| Entry { name, shape: parameter.shape.clone(), offset, slot };
            entries.push(entry(parameter.name.clone(), None));
            for (at, slot) in slots.iter().enumerate().filter(|_| trained) {
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

    fn parameter(count: usize) -> Parameter {
        let (name, init) = (format!("p{count}"), Init::Constant(0.0));
        Parameter { name, shape: vec![count], kind: ParameterKind::Weight, init, weight_decay: None }
    }

    fn group(weight_decay: f64) -> Option<ParameterGroup> {
        Some(ParameterGroup { learning_rate_factor: 1.0, weight_decay })
    }

    fn ranges(layout: &Layout) -> Vec<Range<usize>> {
        layout.groups.iter().map(|(range, _)| range.clone()).collect()
    }

    #[test]
    fn parameters_with_the_same_update_are_adjacent_and_buffers_follow_them() {
        let parameters = [100, 3, 64, 65, 1].map(parameter);
        let groups = [group(0.0), group(1.0), group(0.0), group(1.0), group(2.0)];
        let buffers = [Buffer { name: "mean".into(), shape: vec![65], init: Init::Constant(0.0) }];
        let layout = Layout::new(&parameters, &groups, &buffers, false);
        assert_eq!(layout.offsets, [0, 192, 128, 256, 384]);
        assert_eq!(ranges(&layout), [0..192, 192..384, 384..448]);
        assert_eq!(
            (layout.buffer_offsets.as_slice(), layout.buffers.clone(), layout.len),
            (&[448][..], 448..576, 576)
        );
        let entries = layout.entries(&parameters, &buffers, &["momentum"]);
        let named: Vec<_> =
            entries.iter().map(|entry| (entry.name.as_str(), entry.slot, entry.range())).collect();
        assert_eq!(
            named[..3],
            [("p100", None, 0..100), ("p100.momentum", Some(0), 0..100), ("p3", None, 192..195)]
        );
        assert_eq!(named[10..], [("mean", None, 448..513)]);
    }

    #[test]
    fn parameters_that_keep_their_values_come_last_and_have_no_slots() {
        let parameters = [100, 3, 64].map(parameter);
        let buffers = [Buffer { name: "mean".into(), shape: vec![1], init: Init::Constant(0.0) }];
        let layout = Layout::new(&parameters, &[None, group(0.0), None], &buffers, false);
        assert_eq!((layout.offsets.as_slice(), layout.buffers.clone()), (&[128, 0, 256][..], 64..128));
        assert_eq!((layout.groups[0].0.clone(), layout.groups.len(), layout.len), (0..64, 1, 320));
        let entries = layout.entries(&parameters, &buffers, &["momentum"]);
        let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["p100", "p3", "p3.momentum", "p64", "mean"]);
        let trained: Vec<_> = layout.trained(&parameters).map(|(p, at)| (p.name.as_str(), at)).collect();
        assert_eq!(trained, [("p3", 0)]);
    }

    #[test]
    fn separate_parameters_have_a_range_each() {
        let layout = Layout::new(&[100, 3].map(parameter), &[group(0.0), group(0.0)], &[], true);
        assert_eq!(ranges(&layout), [0..128, 128..192]);
    }
}
