//! Heat maps.

use maud::html;

use super::colors::Color;
use super::svg::{Anchor, Svg, TEXT_PX, TITLE_HEIGHT_PX, px, shortened, sized_text, text, text_width};

const CELL_PX: f64 = 38.0;
const LABEL_MOST_PX: f64 = 170.0;
const NUMBER_PX: f64 = 11.0;

/// A table of shaded numbers, such as a confusion matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeatMap {
    /// Title.
    pub title: String,
    /// Title of the rows.
    pub rows_title: String,
    /// Title of the columns.
    pub columns_title: String,
    /// Labels of the rows.
    pub rows: Vec<String>,
    /// Labels of the columns.
    pub columns: Vec<String>,
    /// Values by row and column, 0 or more.
    pub values: Vec<Vec<f64>>,
    /// Row and column of the cells in [`Color::Right`]; the others are in [`Color::Wrong`].
    pub right: Vec<(usize, usize)>,
}

impl HeatMap {
    /// Draws the heat map.
    #[must_use]
    pub fn svg(&self) -> Svg {
        let cut = |labels: &[String]| -> Vec<String> {
            labels.iter().map(|label| shortened(label, LABEL_MOST_PX, TEXT_PX)).collect()
        };
        let (rows, columns) = (cut(&self.rows), cut(&self.columns));
        let widest =
            |labels: &[String]| labels.iter().map(|label| text_width(label, TEXT_PX)).fold(0.0, f64::max);
        let left = widest(&rows) + 32.0;
        // Column labels are rotated by 45 degrees.
        let slanted = widest(&columns) * 0.71;
        let top = TITLE_HEIGHT_PX + slanted + 34.0;
        let (width, height) = (columns.len() as f64 * CELL_PX, rows.len() as f64 * CELL_PX);
        let most =
            self.values.iter().flatten().copied().filter(|value| value.is_finite()).fold(0.0, f64::max);
        let body = html! {
            (text(left + width / 2.0, TITLE_HEIGHT_PX + 12.0, Anchor::Middle, Color::Faint, &self.columns_title))
            g transform=(format!("translate(14 {}) rotate(-90)", px(top + height / 2.0))) {
                (text(0.0, 0.0, Anchor::Middle, Color::Faint, &self.rows_title))
            }
            @for (index, label) in columns.iter().enumerate() {
                g transform=(format!("translate({} {}) rotate(-45)", px(left + (index as f64 + 0.5) * CELL_PX), px(top - 6.0))) {
                    (text(0.0, 0.0, Anchor::Start, Color::Ink, label))
                }
            }
            @for (row, label) in rows.iter().enumerate() {
                (text(left - 8.0, top + (row as f64 + 0.5) * CELL_PX + 4.5, Anchor::End, Color::Ink, label))
            }
            @for (row, values) in self.values.iter().enumerate() {
                @for (column, &value) in values.iter().enumerate() {
                    @let (x, y) = (left + column as f64 * CELL_PX, top + row as f64 * CELL_PX);
                    @let color = if self.right.contains(&(row, column)) { Color::Right } else { Color::Wrong };
                    @let share = if most > 0.0 && value > 0.0 { value / most } else { 0.0 };
                    rect x=(px(x + 1.0)) y=(px(y + 1.0)) width=(CELL_PX - 2.0) height=(CELL_PX - 2.0) rx="2"
                        fill=(Color::Grid) fill-opacity="0.45" {}
                    @if share > 0.0 {
                        rect x=(px(x + 1.0)) y=(px(y + 1.0)) width=(CELL_PX - 2.0) height=(CELL_PX - 2.0) rx="2"
                            fill=(color) fill-opacity=(format!("{:.2}", 0.08 + 0.62 * share)) {}
                        (sized_text((x + CELL_PX / 2.0, y + CELL_PX / 2.0 + 4.0), Anchor::Middle, Color::Ink, NUMBER_PX, &value.to_string()))
                    }
                }
            }
        };
        Svg::new(&self.title, left + width + slanted.max(12.0), top + height + 8.0, &body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_shaded_by_its_value_in_the_colour_for_right_or_wrong() {
        let map = HeatMap {
            rows: vec!["cat".into(), "dog".into()],
            columns: vec!["cat".into(), "dog".into()],
            values: vec![vec![8.0, 4.0], vec![0.0, f64::NAN]],
            right: vec![(0, 0), (1, 1)],
            ..HeatMap::default()
        };
        let svg = map.svg().to_string();
        assert_eq!(
            svg.matches(&format!("fill=\"{}\" fill-opacity=\"0.70\"", Color::Right)).count(),
            1,
            "{svg}"
        );
        assert_eq!(
            svg.matches(&format!("fill=\"{}\" fill-opacity=\"0.39\"", Color::Wrong)).count(),
            1,
            "{svg}"
        );
        assert!(!svg.contains("NaN"), "{svg}");
    }
}
