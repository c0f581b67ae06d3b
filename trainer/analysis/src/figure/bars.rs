//! Horizontal bar charts, and dot charts on a logarithmic axis.

use maud::html;

use super::axis::{Axis, Level, Placed, Scale};
use super::colors::Color;
use super::svg::{
    Anchor, Svg, TEXT_PX, TITLE_HEIGHT_PX, WIDTH_PX, line, px, shortened, sized_text, text, text_width,
    with_hint,
};

/// Height of a bar including the space around it.
const ROW_PX: f64 = 24.0;
const BAR_PX: f64 = 14.0;
const DOT_PX: f64 = 5.0;
const LABEL_MOST_PX: f64 = 190.0;
const NOTE_PX: f64 = 12.0;
/// Space before each column of notes.
const BEFORE_NOTE_PX: f64 = 16.0;
/// Space to the right of the plot.
const RIGHT_PX: f64 = 16.0;

/// Bars below each other; on a logarithmic axis, which has no zero for a bar to start at, dots.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BarChart {
    /// Title.
    pub title: String,
    /// The axis along the bars.
    pub axis: Axis,
    /// The bars from top to bottom.
    pub bars: Vec<Bar>,
    /// Headings of the columns of notes.
    pub columns: Vec<String>,
    /// Vertical lines for comparison.
    pub levels: Vec<Level>,
}

/// A bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// Its label.
    pub label: String,
    /// Its length.
    pub value: f64,
    /// Numbers to its right, one for each column.
    pub notes: Vec<String>,
    /// Its colour.
    pub color: Color,
}

impl BarChart {
    /// Draws the chart.
    #[must_use]
    pub fn svg(&self) -> Svg {
        let width_of = |text: &String| text_width(text, TEXT_PX);
        let labels: Vec<String> =
            self.bars.iter().map(|bar| shortened(&bar.label, LABEL_MOST_PX, TEXT_PX)).collect();
        let left = 14.0 + labels.iter().map(width_of).fold(0.0, f64::max);
        let notes = self.note_widths();
        let notes_width: f64 = notes.iter().map(|width| width + BEFORE_NOTE_PX).sum();
        let width = (WIDTH_PX - left - notes_width - RIGHT_PX).max(120.0);
        let right_of_note = |column: usize| {
            left + width + notes[..=column].iter().map(|width| width + BEFORE_NOTE_PX).sum::<f64>()
        };
        let values = self.bars.iter().map(|bar| bar.value).chain(self.levels.iter().map(|level| level.at));
        let dots = self.axis.scale == Scale::Log;
        let axis = if dots { self.axis.clone() } else { self.axis.clone().from_zero() };
        let x = Placed::roomy(&axis, values, width, 6);
        let above = if self.levels.is_empty() && self.columns.is_empty() { 0.0 } else { 18.0 };
        let top = TITLE_HEIGHT_PX + above;
        let bottom = top + self.bars.len() as f64 * ROW_PX + 4.0;
        let zero = if dots { 0.0 } else { x.position(0.0).unwrap_or(0.0) };
        let body = html! {
            @for (place, label) in &x.horizontal_ticks() {
                (line((left + place, top), (left + place, bottom), Color::Grid, false))
                (text(left + place, bottom + 16.0, Anchor::Middle, Color::Faint, label))
            }
            @for level in &self.levels {
                @if let Some(place) = x.position(level.at) {
                    (line((left + place, top - 2.0), (left + place, bottom), Color::Faint, true))
                    (sized_text((left + place, top - 6.0), Anchor::Middle, Color::Faint, NOTE_PX, &level.label))
                }
            }
            @for (column, heading) in self.columns.iter().enumerate() {
                (sized_text((right_of_note(column), top - 6.0), Anchor::End, Color::Faint, NOTE_PX, heading))
            }
            @for (index, (bar, label)) in self.bars.iter().zip(&labels).enumerate() {
                @let middle = top + (index as f64 + 0.5) * ROW_PX + 2.0;
                @let place = x.position(bar.value);
                (with_hint(&bar.label, *label == bar.label, text(left - 8.0, middle + 4.5, Anchor::End, Color::Ink, label)))
                @if dots {
                    (line((left, middle), (left + width, middle), Color::Grid, false))
                    @if let Some(place) = place {
                        circle cx=(px(left + place)) cy=(px(middle)) r=(DOT_PX) fill=(bar.color) {}
                    }
                } @else {
                    @let end = place.unwrap_or(zero);
                    rect x=(px(left + zero.min(end))) y=(px(middle - BAR_PX / 2.0)) width=(px((end - zero).abs()))
                        height=(BAR_PX) rx="2" fill=(bar.color) {}
                }
                @for (column, note) in bar.notes.iter().enumerate().take(notes.len()) {
                    (sized_text((right_of_note(column), middle + 4.0), Anchor::End, Color::Ink, NOTE_PX, note))
                }
            }
            (text(left + width / 2.0, bottom + 35.0, Anchor::Middle, Color::Ink, &axis.title))
        };
        Svg::new(&self.title, left + width + notes_width + RIGHT_PX, bottom + 42.0, &body)
    }

    /// Width of each column of notes.
    fn note_widths(&self) -> Vec<f64> {
        let columns = self.bars.iter().map(|bar| bar.notes.len()).max().unwrap_or(0);
        let texts = |column: usize| {
            self.bars.iter().filter_map(move |bar| bar.notes.get(column)).chain(self.columns.get(column))
        };
        let widest = |column| texts(column).map(|text| text_width(text, NOTE_PX)).fold(0.0, f64::max);
        (0..columns).map(widest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(axis: Axis, values: &[f64]) -> BarChart {
        let bar = |&value| Bar {
            label: format!("{value}"),
            value,
            notes: vec![format!("w {value}"), "u".into()],
            color: Color::Right,
        };
        BarChart { bars: values.iter().map(bar).collect(), axis, ..BarChart::default() }
    }

    /// An attribute of every element of a kind.
    fn numbers(svg: &str, element: &str, name: &str) -> Vec<f64> {
        let of = |part: &str| part.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?.parse().ok();
        svg.split(&format!("<{element}")).skip(1).map(|part| of(part).unwrap()).collect()
    }

    #[test]
    fn bars_are_proportional_to_their_values() {
        let svg = chart(Axis::linear("share"), &[1.0, 2.0, f64::NAN]).svg().to_string();
        let widths = numbers(&svg, "rect", "width");
        assert!((widths[1] - 2.0 * widths[0]).abs() < 0.2 && widths[2] == 0.0, "{widths:?}");
    }

    #[test]
    fn on_a_logarithmic_axis_values_are_dots_at_equal_distances_for_equal_ratios() {
        let svg = chart(Axis::log("ratio"), &[1e-4, 1e-3, 1e-2, 0.0]).svg().to_string();
        assert!(!svg.contains("<rect"), "{svg}");
        let dots = numbers(&svg, "circle", "cx");
        assert_eq!(dots.len(), 3, "a value without a position has no dot");
        assert!((dots[2] + dots[0] - 2.0 * dots[1]).abs() < 0.2 && dots[1] > dots[0] + 50.0, "{dots:?}");
    }

    #[test]
    fn notes_are_in_columns_to_the_right_of_the_plot() {
        let mut chart = chart(Axis::log("ratio"), &[1e-4, 1e-2]);
        chart.columns = vec!["weights".into(), "update".into()];
        chart.levels = vec![Level { at: 1e-3, label: "1/1000".into() }];
        let svg = chart.svg().to_string();
        let end = numbers(&svg, "line", "x2").into_iter().fold(0.0, f64::max);
        let at = |text: &str| -> f64 {
            let before = svg.split(&format!(">{text}</text>")).next().unwrap();
            before.rsplit("<text x=\"").next().unwrap().split('"').next().unwrap().parse().unwrap()
        };
        assert_eq!(at("weights"), at("w 0.01"));
        assert!(at("w 0.01") - text_width("w 0.0001", NOTE_PX) > end, "{svg}");
        assert!(at("u") > at("w 0.01"), "{svg}");
    }
}
