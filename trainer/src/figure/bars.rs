//! Bar charts with horizontal bars.

use maud::html;

use super::{
    Axis, Color, Level, Scale, WIDTH_PX,
    axis::Placed,
    svg::{
        Anchor, TEXT_PX, TITLE_HEIGHT_PX, document, line, px, shortened, sized_text, text, text_over,
        text_width,
    },
};

/// Height that a bar takes with the space around it.
const ROW_PX: f64 = 24.0;
const BAR_PX: f64 = 14.0;
const LABEL_MOST_PX: f64 = 190.0;
const NOTE_PX: f64 = 11.0;

/// Bars below each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BarChart {
    /// What it shows.
    pub title: String,
    /// The axis along the bars.
    pub axis: Axis,
    /// The bars from top to bottom.
    pub bars: Vec<Bar>,
    /// Vertical lines to compare with.
    pub levels: Vec<Level>,
}

/// A bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// What it stands for.
    pub label: String,
    /// Its length.
    pub value: f64,
    /// Text at its end.
    pub note: String,
    /// Its colour.
    pub color: Color,
}

impl BarChart {
    /// Draws it.
    #[must_use]
    pub fn svg(&self) -> String {
        let width_of = |text: &String| text_width(text, TEXT_PX);
        let labels: Vec<String> =
            self.bars.iter().map(|bar| shortened(&bar.label, LABEL_MOST_PX, TEXT_PX)).collect();
        let left = 14.0 + labels.iter().map(width_of).fold(0.0, f64::max);
        let notes = self.bars.iter().map(|bar| text_width(&bar.note, NOTE_PX)).fold(0.0, f64::max);
        let width = (WIDTH_PX - left - notes - 16.0).max(120.0);
        let values = self.bars.iter().map(|bar| bar.value).chain(self.levels.iter().map(|level| level.at));
        // On a logarithmic axis bars begin at its end, which must leave the shortest a length.
        let (axis, spare) = match self.axis.scale {
            Scale::Linear => (self.axis.clone().from_zero(), 1.0),
            Scale::Log => (self.axis.clone(), 0.4),
        };
        let x = Placed::roomy(&axis, values.flat_map(|value| [value, spare * value]), width, 5);
        let above = if self.levels.is_empty() { 0.0 } else { 18.0 };
        let top = TITLE_HEIGHT_PX + above;
        let bottom = top + self.bars.len() as f64 * ROW_PX + 4.0;
        let zero = if axis.scale == Scale::Linear { x.place(0.0).unwrap_or(0.0) } else { 0.0 };
        let body = html! {
            @for (place, label) in &x.ticks() {
                (line((left + place, top), (left + place, bottom), Color::Grid, false))
                (text(left + place, bottom + 16.0, Anchor::Middle, Color::Faint, label))
            }
            @for level in &self.levels {
                @if let Some(place) = x.place(level.at) {
                    (line((left + place, top - 2.0), (left + place, bottom), Color::Faint, true))
                    (sized_text((left + place, top - 6.0), Anchor::Middle, Color::Faint, NOTE_PX, &level.label))
                }
            }
            @for (index, (bar, label)) in self.bars.iter().zip(&labels).enumerate() {
                @let middle = top + (index as f64 + 0.5) * ROW_PX + 2.0;
                @let end = x.place(bar.value).unwrap_or(zero);
                (text(left - 8.0, middle + 4.5, Anchor::End, Color::Ink, label))
                rect x=(px(left + zero.min(end))) y=(px(middle - BAR_PX / 2.0)) width=(px((end - zero).abs()))
                    height=(BAR_PX) rx="2" fill=(bar.color) {}
                (text_over((left + zero.max(end) + 5.0, middle + 4.0), Anchor::Start, Color::Faint, NOTE_PX, &bar.note))
            }
            (text(left + width / 2.0, bottom + 35.0, Anchor::Middle, Color::Ink, &axis.title))
        };
        document(&self.title, WIDTH_PX, bottom + 42.0, &body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values() {
        let bar = |value| Bar { label: format!("{value}"), value, note: String::new(), color: Color::Right };
        let chart = BarChart {
            bars: [1.0, 2.0, f64::NAN].map(bar).to_vec(),
            axis: Axis::linear("share"),
            ..BarChart::default()
        };
        let svg = chart.svg();
        let widths: Vec<f64> = svg
            .split("<rect ")
            .skip(1)
            .map(|bar| bar.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
            .collect();
        assert!((widths[1] - 2.0 * widths[0]).abs() < 0.2 && widths[2] == 0.0, "{widths:?}");
    }
}
