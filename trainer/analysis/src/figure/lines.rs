//! Line charts.

use maud::{Markup, html};

use super::axis::{Axis, Level, Placed};
use super::colors::Color;
use super::svg::{
    Anchor, Svg, TEXT_PX, TITLE_HEIGHT_PX, WIDTH_PX, line, px, shortened, sized_text, text, text_width,
    with_hint,
};

/// Height of the plot.
const PLOT_HEIGHT_PX: f64 = 230.0;
/// Height of a line of text.
const TEXT_LINE_PX: f64 = 18.0;
/// Space to the right of the plot.
const RIGHT_PX: f64 = 14.0;
/// Space below the plot, for ticks and the title of the axis.
const BELOW_PX: f64 = 44.0;
/// Size of the labels of marks and of the note.
const NOTE_PX: f64 = 11.0;
/// Most rows of labels of marks; a label that fits into none is left out.
const MARK_ROWS: usize = 3;
/// Most points of a series that are drawn as dots too.
const DOTTED: usize = 30;
/// Half the width of the ends of an error bar.
const ERROR_END_PX: f64 = 4.0;
/// Horizontal distance between series that all have a single point at the same x.
const SHIFT_PX: f64 = 16.0;
/// Dashes of a level, different from those of a series.
const LEVEL_DASHES: &str = "2 3";

/// A line chart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LineChart {
    /// Title.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The lines.
    pub series: Vec<Series>,
    /// Vertical lines at events.
    pub marks: Vec<Mark>,
    /// Horizontal lines for comparison; their labels are in the legend.
    pub levels: Vec<Level>,
    /// Text below the axis; none if empty.
    pub note: String,
}

/// A line, with an optional spread.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// x and y, from left to right; the line is interrupted at values without a position.
    pub points: Vec<(f64, f64)>,
    /// A shaded band: x, lower and upper end; an error bar if there is a single x.
    pub band: Vec<(f64, f64, f64)>,
    /// Additional thin lines, such as single seeds around their mean.
    pub around: Vec<Vec<(f64, f64)>>,
    /// The colour; by default that of its index in the chart.
    pub color: Option<Color>,
    /// Whether the line is dashed.
    pub dashed: bool,
}

/// An event at an x.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// The x.
    pub at: f64,
    /// Its label.
    pub label: String,
}

impl Series {
    /// A plain line.
    #[must_use]
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points, ..Self::default() }
    }

    /// The means of `points` over `bins` equal parts of their x range, within a band from the least to the
    /// greatest value of each part. Points that are not finite are left out. With no more points than bins it
    /// is a plain line.
    #[must_use]
    pub fn binned(name: impl Into<String>, points: &[(f64, f64)], bins: usize) -> Self {
        let points: Vec<(f64, f64)> =
            points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
        if points.len() <= bins {
            return Self::new(name, points);
        }
        let first = points.iter().map(|point| point.0).fold(f64::INFINITY, f64::min);
        let last = points.iter().map(|point| point.0).fold(f64::NEG_INFINITY, f64::max);
        let bin_of = |x: f64| (((x - first) / (last - first) * bins as f64) as usize).min(bins - 1);
        let mut parts: Vec<Vec<(f64, f64)>> = vec![Vec::new(); bins];
        for &(x, y) in &points {
            parts[bin_of(x)].push((x, y));
        }
        let mut series = Self::new(name, Vec::new());
        for part in parts.iter().filter(|part| !part.is_empty()) {
            let mean = |of: fn(&(f64, f64)) -> f64| part.iter().map(of).sum::<f64>() / part.len() as f64;
            let (x, y) = (mean(|point| point.0), mean(|point| point.1));
            let low = part.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
            let high = part.iter().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
            series.points.push((x, y));
            series.band.push((x, low, high));
        }
        series
    }

    fn xs(&self) -> impl Iterator<Item = f64> {
        let around = self.around.iter().flatten().map(|point| point.0);
        self.points.iter().map(|point| point.0).chain(self.band.iter().map(|part| part.0)).chain(around)
    }

    fn ys(&self) -> impl Iterator<Item = f64> {
        let around = self.around.iter().flatten().map(|point| point.1);
        let band = self.band.iter().flat_map(|part| [part.1, part.2]);
        self.points.iter().map(|point| point.1).chain(band).chain(around)
    }
}

impl LineChart {
    /// An empty chart.
    #[must_use]
    pub fn new(x: Axis, y: Axis) -> Self {
        Self { x, y, ..Self::default() }
    }

    /// Draws the chart.
    #[must_use]
    pub fn svg(&self) -> Svg {
        let ys = self.series.iter().flat_map(Series::ys).chain(self.levels.iter().map(|level| level.at));
        let y = Placed::roomy(&self.y, ys, PLOT_HEIGHT_PX, 6);
        let y_ticks = y.ticks();
        let widest = y_ticks.iter().map(|(_, label)| text_width(label, TEXT_PX)).fold(0.0, f64::max);
        let left = 30.0 + widest;
        let width = WIDTH_PX - left - RIGHT_PX;
        let xs = self.series.iter().flat_map(Series::xs).chain(self.marks.iter().map(|mark| mark.at));
        let x = Placed::tight(&self.x, xs, width, 7);

        let (legend, legend_rows) = self.legend();
        let (marks, mark_rows) = self.position_marks(&x, width);
        let top = TITLE_HEIGHT_PX + (legend_rows + mark_rows) as f64 * TEXT_LINE_PX + 6.0;
        let frame = Frame { left, top, width, x: &x, y: &y };
        let below = BELOW_PX + if self.note.is_empty() { 0.0 } else { TEXT_LINE_PX };
        let body = html! {
            g transform=(format!("translate(2 {})", px(TITLE_HEIGHT_PX + 6.0))) { (legend) }
            (frame.axes(&self.x, &self.y, &y_ticks))
            @for (at, row, label) in &marks { (frame.mark(*at, *row, mark_rows, label)) }
            @for (index, series) in self.series.iter().enumerate() {
                @let color = series.color.unwrap_or(Color::Series(index));
                g transform=[self.shift(index).map(|shift| format!("translate({} 0)", px(shift)))] {
                    (frame.series(series, color))
                }
            }
            @for level in &self.levels { (frame.level(level)) }
            @if !self.note.is_empty() {
                (sized_text((left, top + PLOT_HEIGHT_PX + BELOW_PX + 10.0), Anchor::Start, Color::Faint, NOTE_PX, &self.note))
            }
        };
        Svg::new(&self.title, WIDTH_PX, top + PLOT_HEIGHT_PX + below, &body)
    }

    /// Horizontal shift of a series when all points of all series have the same x, so that none hides
    /// another.
    fn shift(&self, index: usize) -> Option<f64> {
        let mut xs = self.series.iter().flat_map(Series::xs);
        let first = xs.next()?;
        let middle = (self.series.len() - 1) as f64 / 2.0;
        (self.series.len() > 1 && xs.all(|x| x == first)).then_some(SHIFT_PX * (index as f64 - middle))
    }

    /// The legend in columns, and the number of its rows; empty if no line has a name.
    fn legend(&self) -> (Markup, usize) {
        let series = self.series.iter().enumerate().map(|(index, series)| Named {
            name: &series.name,
            color: series.color.unwrap_or(Color::Series(index)),
            width: 3.0,
            dashes: series.dashed.then_some("5 3"),
        });
        let levels = self.levels.iter().map(|level| Named {
            name: &level.label,
            color: Color::Faint,
            width: 1.5,
            dashes: Some(LEVEL_DASHES),
        });
        let named: Vec<Named<'_>> = series.chain(levels).filter(|line| !line.name.is_empty()).collect();
        let widest = named.iter().map(|line| text_width(line.name, TEXT_PX)).fold(0.0, f64::max);
        let column_px = (widest + 42.0).min(WIDTH_PX);
        let rows = named.len().div_ceil(((WIDTH_PX / column_px) as usize).max(1));
        // Spread evenly over the rows.
        let columns = named.len().div_ceil(rows.max(1)).max(1);
        let markup = html! {
            @for (place, named) in named.iter().enumerate() {
                @let (x, y) = ((place % columns) as f64 * column_px, (place / columns) as f64 * TEXT_LINE_PX);
                @let shown = shortened(named.name, WIDTH_PX - 30.0, TEXT_PX);
                line x1=(px(x)) y1=(px(y)) x2=(px(x + 20.0)) y2=(px(y)) stroke=(named.color) stroke-width=(named.width)
                    stroke-dasharray=[named.dashes] {}
                (with_hint(named.name, shown == named.name, text(x + 26.0, y + 4.5, Anchor::Start, Color::Ink, &shown)))
            }
        };
        (markup, rows)
    }

    /// Positions of the marks and rows of their labels, and the number of rows. A mark without a row has no
    /// label.
    fn position_marks(&self, x: &Placed<'_>, width: f64) -> (Vec<PositionedMark<'_>>, usize) {
        let mut ends = [f64::NEG_INFINITY; MARK_ROWS];
        let mut placed = Vec::new();
        for mark in &self.marks {
            let Some(at) = x.position(mark.at) else { continue };
            let half = text_width(&mark.label, NOTE_PX) / 2.0;
            let middle = at.clamp(half.min(width / 2.0), (width - half).max(width / 2.0));
            let row = ends.iter().position(|&end| middle - half > end);
            if let Some(row) = row {
                ends[row] = middle + half + 8.0;
            }
            placed.push((at, row, mark.label.as_str()));
        }
        let rows = placed.iter().filter_map(|(_, row, _)| row.map(|row| row + 1)).max().unwrap_or(0);
        (placed, rows)
    }
}

/// An entry of the legend.
struct Named<'a> {
    name: &'a str,
    color: Color,
    width: f64,
    dashes: Option<&'static str>,
}

/// Position of a mark, row of its label, and the label.
type PositionedMark<'a> = (f64, Option<usize>, &'a str);

/// The position of the plot, and its axes.
struct Frame<'a> {
    left: f64,
    top: f64,
    width: f64,
    x: &'a Placed<'a>,
    y: &'a Placed<'a>,
}

impl Frame<'_> {
    fn bottom(&self) -> f64 {
        self.top + PLOT_HEIGHT_PX
    }

    fn point(&self, (x, y): (f64, f64)) -> Option<(f64, f64)> {
        Some((self.left + self.x.position(x)?, self.bottom() - self.y.position(y)?))
    }

    fn axes(&self, x: &Axis, y: &Axis, y_ticks: &[(f64, String)]) -> Markup {
        let (left, right, bottom) = (self.left, self.left + self.width, self.bottom());
        let middle = self.top + PLOT_HEIGHT_PX / 2.0;
        html! {
            @for (place, label) in y_ticks {
                (line((left, bottom - place), (right, bottom - place), Color::Grid, false))
                (text(left - 6.0, bottom - place + 4.5, Anchor::End, Color::Faint, label))
            }
            @for (place, label) in &self.x.horizontal_ticks() {
                (line((left + place, bottom), (left + place, bottom + 4.0), Color::Faint, false))
                (text(left + place, bottom + 18.0, Anchor::Middle, Color::Faint, label))
            }
            (line((left, bottom), (right, bottom), Color::Faint, false))
            (text(f64::midpoint(left, right), bottom + 37.0, Anchor::Middle, Color::Ink, &x.title))
            g transform=(format!("translate(14 {}) rotate(-90)", px(middle))) {
                (text(0.0, 0.0, Anchor::Middle, Color::Ink, &y.title))
            }
        }
    }

    fn mark(&self, at: f64, row: Option<usize>, rows: usize, label: &str) -> Markup {
        let x = self.left + at;
        let half = text_width(label, NOTE_PX) / 2.0;
        let middle = x.clamp(
            self.left + half.min(self.width / 2.0),
            self.left + (self.width - half).max(self.width / 2.0),
        );
        let baseline = |row: usize| self.top - 6.0 - (rows - 1 - row) as f64 * TEXT_LINE_PX;
        html! {
            (line((x, row.map_or(self.top, |row| baseline(row) + 4.0)), (x, self.bottom()), Color::Faint, true))
            @if let Some(row) = row {
                (sized_text((middle, baseline(row)), Anchor::Middle, Color::Faint, NOTE_PX, label))
            }
        }
    }

    fn level(&self, level: &Level) -> Markup {
        let Some(place) = self.y.position(level.at) else { return html! {} };
        let (y, right) = (self.bottom() - place, self.left + self.width);
        html! {
            line x1=(px(self.left)) y1=(px(y)) x2=(px(right)) y2=(px(y)) stroke=(Color::Faint) stroke-width="1.5"
                stroke-dasharray=(LEVEL_DASHES) {}
        }
    }

    fn series(&self, series: &Series, color: Color) -> Markup {
        let shown = series.points.len() <= DOTTED;
        html! {
            @match series.band.as_slice() {
                [] => {},
                [part] => (self.error_bar(*part, color)),
                band => { path d=(self.band(band)) fill=(color) fill-opacity="0.18" {} },
            }
            @for points in &series.around {
                path d=(self.path(points)) fill="none" stroke=(color) stroke-width="1" stroke-opacity="0.45" {}
                @if let [point] = points.as_slice() && let Some((x, y)) = self.point(*point) {
                    circle cx=(px(x)) cy=(px(y)) r="2" fill=(color) fill-opacity="0.45" {}
                }
            }
            path d=(self.path(&series.points)) fill="none" stroke=(color) stroke-width="2" stroke-linejoin="round"
                stroke-dasharray=[series.dashed.then_some("5 3")] {}
            @if shown {
                @for (x, y) in series.points.iter().filter_map(|&point| self.point(point)) {
                    circle cx=(px(x)) cy=(px(y)) r="2.8" fill=(color) {}
                }
            }
        }
    }

    fn error_bar(&self, (x, low, high): (f64, f64, f64), color: Color) -> Markup {
        let (Some((x, low)), Some((_, high))) = (self.point((x, low)), self.point((x, high))) else {
            return html! {};
        };
        let end = |y: f64| line((x - ERROR_END_PX, y), (x + ERROR_END_PX, y), color, false);
        html! { (line((x, low), (x, high), color, false)) (end(low)) (end(high)) }
    }

    fn path(&self, points: &[(f64, f64)]) -> String {
        let mut path = String::new();
        let mut broken = true;
        for &point in points {
            match self.point(point) {
                Some((x, y)) => {
                    path.push_str(&format!("{}{} {}", if broken { 'M' } else { 'L' }, px(x), px(y)));
                    broken = false;
                }
                None => broken = true,
            }
        }
        path
    }

    /// The outline of the band: along the upper ends, and back along the lower ones.
    fn band(&self, band: &[(f64, f64, f64)]) -> String {
        let upper = band.iter().map(|&(x, _, high)| (x, high));
        let lower = band.iter().rev().map(|&(x, low, _)| (x, low));
        let corners: Vec<String> = upper
            .chain(lower)
            .filter_map(|point| self.point(point))
            .map(|(x, y)| format!("{} {}", px(x), px(y)))
            .collect();
        if corners.is_empty() { String::new() } else { format!("M{}Z", corners.join("L")) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::png::png;
    use super::*;

    fn chart(points: &[(f64, f64)]) -> LineChart {
        LineChart {
            title: "Loss".into(),
            series: vec![Series::new("training", points.to_vec())],
            ..LineChart::new(Axis::whole("epoch"), Axis::linear("loss").from_zero())
        }
    }

    #[test]
    fn a_line_is_interrupted_where_a_value_has_no_position() {
        let svg = chart(&[(1.0, 1.0), (2.0, 2.0), (3.0, f64::NAN), (4.0, 1.0), (5.0, 2.0)]).svg().to_string();
        let path = svg.split("<path d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!((path.matches('M').count(), path.matches('L').count()), (2, 2), "{path}");
        assert!(!svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn a_chart_of_one_point_or_none_is_drawn() {
        for points in [&[][..], &[(1.0, 0.5)], &[(1.0, f64::NAN)]] {
            let svg = chart(points).svg();
            png(&svg).unwrap();
            let svg = svg.to_string();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn higher_values_are_further_up_and_later_ones_further_right() {
        let svg = chart(&[(0.0, 0.0), (1.0, 1.0)]).svg().to_string();
        let number = |part: &str, name: &str| -> f64 {
            part.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
        };
        let dots: Vec<(f64, f64)> =
            svg.split("<circle ").skip(1).map(|dot| (number(dot, "cx"), number(dot, "cy"))).collect();
        assert!(dots[0].0 < dots[1].0 && dots[0].1 > dots[1].1, "{dots:?}");
    }

    #[test]
    fn many_points_become_means_within_a_band() {
        let points: Vec<(f64, f64)> = (0..1000).map(|i| (f64::from(i), f64::from(i % 2))).collect();
        let series = Series::binned("loss", &points, 10);
        assert_eq!(series.points.len(), 10);
        assert!(series.points.iter().all(|point| (point.1 - 0.5).abs() < 0.01), "{:?}", series.points);
        assert!(series.band.iter().all(|part| (part.1, part.2) == (0.0, 1.0)), "{:?}", series.band);
        assert_eq!(Series::binned("loss", &[(1.0, 2.0), (2.0, f64::NAN)], 10).points, [(1.0, 2.0)]);
    }

    #[test]
    fn the_label_of_a_level_is_in_the_legend_and_not_over_the_lines() {
        let mut chart = chart(&[(0.0, 0.0), (1.0, 1.0)]);
        chart.levels = vec![Level { at: 1.0, label: "all classes alike".into() }];
        let svg = chart.svg().to_string();
        let before = svg.split(">all classes alike</text>").next().unwrap();
        let y: f64 = before.rsplit(" y=\"").next().unwrap().split('"').next().unwrap().parse().unwrap();
        assert!(y < TEXT_LINE_PX, "{svg}");
        assert_eq!(
            svg.matches(&format!("dasharray=\"{LEVEL_DASHES}\"")).count(),
            2,
            "in the legend and in the plot"
        );
        assert!(!svg.contains("paint-order"), "{svg}");
    }

    #[test]
    fn the_spread_of_a_single_point_is_an_error_bar_and_points_at_the_same_x_are_shifted() {
        let series = |name: &str, at: f64| Series {
            band: vec![(1.0, at - 0.1, at + 0.1)],
            around: vec![vec![(1.0, 0.9)]],
            ..Series::new(name, vec![(1.0, at)])
        };
        let mut chart = chart(&[]);
        chart.series = vec![series("a", 0.5), series("b", 0.6)];
        let svg = chart.svg().to_string();
        assert!(!svg.contains("fill-opacity=\"0.18\""), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 4, "{svg}");
        assert!(svg.contains("translate(-8 0)") && svg.contains("translate(8 0)"), "{svg}");
        assert!(svg.contains(">1</text>") && !svg.contains(">2</text>"), "{svg}");
        chart.series[0].points.push((2.0, 0.4));
        assert!(!chart.svg().to_string().contains("translate(8 0)"));
    }

    #[test]
    fn labels_of_marks_do_not_overlap() {
        let mut chart = chart(&[(0.0, 0.0), (100.0, 1.0)]);
        chart.marks =
            (0..9).map(|at| Mark { at: 50.0 + f64::from(at), label: format!("rate {at}") }).collect();
        let svg = chart.svg().to_string();
        assert_eq!(svg.matches(">rate ").count(), MARK_ROWS, "{svg}");
        assert_eq!(svg.matches("stroke-dasharray").count(), 9);
    }
}
