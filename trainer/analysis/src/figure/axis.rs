//! An axis: its quantity, and the positions of values on it.

use super::svg::{TEXT_PX, text_width};
use super::ticks;

/// Space between the labels of neighbouring ticks on a horizontal axis.
const TICK_GAP_PX: f64 = 10.0;

/// How values are mapped to positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Equal distances for equal differences.
    #[default]
    Linear,
    /// Equal distances for equal ratios; values that are not positive have no position.
    Log,
}

/// The quantity on an axis, and how it is shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Axis {
    /// Quantity and unit.
    pub title: String,
    /// How values are mapped to positions.
    pub scale: Scale,
    /// Whether 0 is always on it; linear axes only.
    pub from_zero: bool,
    /// Whether values are shares, labelled in per cent.
    pub percent: bool,
    /// Whether only whole numbers get a tick.
    pub whole: bool,
    /// A value that is always on the axis.
    pub reach: Option<f64>,
}

impl Axis {
    /// A linear axis.
    #[must_use]
    pub fn linear(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// A logarithmic axis.
    #[must_use]
    pub fn log(title: impl Into<String>) -> Self {
        Self { title: title.into(), scale: Scale::Log, ..Self::default() }
    }

    /// A linear axis of whole numbers, such as epochs.
    #[must_use]
    pub fn whole(title: impl Into<String>) -> Self {
        Self { title: title.into(), whole: true, ..Self::default() }
    }

    /// A linear axis of shares, 0..=1, labelled in per cent.
    #[must_use]
    pub fn percent(title: impl Into<String>) -> Self {
        Self { title: title.into(), percent: true, ..Self::default() }
    }

    /// The same axis, with 0 always on it.
    #[must_use]
    pub fn from_zero(self) -> Self {
        Self { from_zero: true, ..self }
    }

    /// The same axis, with `value` always on it.
    #[must_use]
    pub fn reaching(self, value: f64) -> Self {
        Self { reach: Some(value), ..self }
    }
}

/// A value that is marked by a line, for comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// The value.
    pub at: f64,
    /// Its label.
    pub label: String,
}

/// An axis of `length_px` with its range of values.
pub(super) struct Placed<'a> {
    axis: &'a Axis,
    low: f64,
    high: f64,
    length_px: f64,
    most_ticks: usize,
}

impl<'a> Placed<'a> {
    /// An axis over the range of `values`; values without a position are ignored.
    pub(super) fn tight(
        axis: &'a Axis,
        values: impl Iterator<Item = f64>,
        length_px: f64,
        most_ticks: usize,
    ) -> Self {
        let shown = values
            .chain(axis.reach)
            .filter(|value| value.is_finite() && (axis.scale == Scale::Linear || *value > 0.0));
        let (mut low, mut high) = shown
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            (low, high) = if axis.scale == Scale::Log { (0.1, 1.0) } else { (0.0, 1.0) };
        }
        if axis.from_zero && axis.scale == Scale::Linear {
            (low, high) = (low.min(0.0), high.max(0.0));
        }
        if low == high {
            // A single value is in the middle.
            (low, high) = match axis.scale {
                Scale::Log => (low / 2.0, high * 2.0),
                Scale::Linear if axis.whole => (low - 0.5, high + 0.5),
                Scale::Linear if low == 0.0 => (low - 1.0, high + 1.0),
                Scale::Linear => (low - low.abs() / 2.0, high + high.abs() / 2.0),
            };
        }
        Self { axis, low, high, length_px, most_ticks }
    }

    /// As [`tight`](Self::tight), extended to the next ticks.
    pub(super) fn roomy(
        axis: &'a Axis,
        values: impl Iterator<Item = f64>,
        length_px: f64,
        most_ticks: usize,
    ) -> Self {
        let mut placed = Self::tight(axis, values, length_px, most_ticks);
        match axis.scale {
            Scale::Linear => {
                let step = placed.step();
                placed.low = (placed.low / step + 1e-6).floor() * step;
                placed.high = (placed.high / step - 1e-6).ceil() * step;
            }
            Scale::Log => (placed.low, placed.high) = (placed.low / 1.15, placed.high * 1.15),
        }
        placed
    }

    /// Distance from the start of the axis in pixels; `None` for a value without a position.
    pub(super) fn position(&self, value: f64) -> Option<f64> {
        let share = match self.axis.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        share.is_finite().then_some(share * self.length_px)
    }

    /// Positions and labels of the ticks, for labels below each other.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        self.at_most(self.most_ticks)
    }

    /// Positions and labels of the ticks, for labels next to each other: as many as fit.
    pub(super) fn horizontal_ticks(&self) -> Vec<(f64, String)> {
        let half = |(_, text): &(f64, String)| text_width(text, TEXT_PX) / 2.0;
        let apart = |ticks: &[(f64, String)]| {
            ticks
                .windows(2)
                .all(|pair| pair[1].0 - half(&pair[1]) >= pair[0].0 + half(&pair[0]) + TICK_GAP_PX)
        };
        let fewer = (1..=self.most_ticks).rev().map(|most| self.at_most(most));
        fewer.into_iter().find(|ticks| apart(ticks)).unwrap_or_default()
    }

    fn at_most(&self, most: usize) -> Vec<(f64, String)> {
        let Axis { scale, percent, whole, .. } = *self.axis;
        let values = match scale {
            Scale::Linear => ticks::linear(self.low, self.high, most, whole),
            Scale::Log => ticks::logarithmic(self.low, self.high, most),
        };
        // All labels of an axis have the same notation.
        let powers = scale == Scale::Log && !percent && values.iter().any(|value| !ticks::is_plain(*value));
        let text = |value: f64| match scale {
            _ if powers => ticks::scientific(value),
            Scale::Linear => {
                ticks::label(value, ticks::round_step(self.high - self.low, most, whole), percent)
            }
            Scale::Log => ticks::label(value, value.abs(), percent),
        };
        values.into_iter().filter_map(|value| Some((self.position(value)?, text(value)))).collect()
    }

    fn step(&self) -> f64 {
        ticks::round_step(self.high - self.low, self.most_ticks, self.axis.whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_without_a_position_do_not_widen_the_axis() {
        let axis = Axis::log("rate");
        let values = [0.0, -1.0, f64::NAN, f64::INFINITY, 0.1, 10.0];
        let placed = Placed::tight(&axis, values.into_iter(), 100.0, 5);
        assert_eq!(placed.position(0.1), Some(0.0));
        assert_eq!(placed.position(1.0), Some(50.0));
        assert_eq!([0.0, -1.0, f64::NAN].map(|value| placed.position(value)), [None; 3]);
    }

    #[test]
    fn an_axis_of_one_value_or_none_has_ticks() {
        for axis in [Axis::linear(""), Axis::log(""), Axis::whole(""), Axis::percent("").from_zero()] {
            for values in [vec![], vec![0.0], vec![3.0], vec![f64::NAN]] {
                let placed = Placed::roomy(&axis, values.iter().copied(), 100.0, 5);
                let ticks = placed.ticks();
                assert!(!ticks.is_empty(), "{axis:?} {values:?}");
                assert!(
                    ticks.iter().all(|(position, _)| (-1e-6..=100.0 + 1e-6).contains(position)),
                    "{ticks:?}"
                );
            }
        }
    }

    #[test]
    fn a_single_whole_number_is_the_only_tick_and_is_in_the_middle() {
        let axis = Axis::whole("epoch");
        assert_eq!(Placed::tight(&axis, [1.0].into_iter(), 100.0, 7).ticks(), [(50.0, "1".to_owned())]);
    }

    #[test]
    fn an_axis_reaches_its_fixed_value_and_larger_ones() {
        let axis = Axis::percent("share").from_zero().reaching(0.1);
        for (value, expected) in [(0.001, "10 %"), (0.35, "40 %")] {
            let ticks = Placed::roomy(&axis, [value].into_iter(), 100.0, 5).ticks();
            assert_eq!(ticks.last().unwrap().1, expected);
        }
    }

    #[test]
    fn labels_of_neighbouring_ticks_do_not_touch_and_have_one_notation() {
        for (low, high) in [(4e-5, 6e-3), (2e-6, 0.5), (1e-3, 3e-3), (2e-5, 9e-5), (1e-12, 1e9), (1.0, 900.0)]
        {
            let axis = Axis::log("ratio");
            let ticks = Placed::roomy(&axis, [low, high].into_iter(), 250.0, 6).horizontal_ticks();
            assert!(!ticks.is_empty(), "{low} to {high}");
            for pair in ticks.windows(2) {
                let [left, right] = [&pair[0], &pair[1]];
                let room = (text_width(&left.1, TEXT_PX) + text_width(&right.1, TEXT_PX)) / 2.0;
                assert!(right.0 - left.0 > room, "{ticks:?}");
                let [left, right] = [left, right].map(|tick| tick.1.contains(|c| "⁰¹²³⁴⁵⁶⁷⁸⁹".contains(c)));
                assert_eq!(left, right, "{ticks:?}");
            }
        }
    }

    #[test]
    fn a_roomy_axis_ends_at_ticks() {
        let axis = Axis::linear("loss");
        let ticks = Placed::roomy(&axis, [0.13, 0.92].into_iter(), 100.0, 5).ticks();
        assert_eq!(ticks.first().unwrap(), &(0.0, "0.0".to_owned()));
        assert_eq!(ticks.last().unwrap().1, "1.0");
        assert!((ticks.last().unwrap().0 - 100.0).abs() < 1e-9);
    }
}
