//! The comparison as a chart.

use super::metric::Metric;
use super::result::{Comparison, RecipeResult, Spread, TrialResult};
use crate::figure::{Axis, Level, LineChart, Series};

impl Comparison {
    /// The metric over the epochs: for each recipe the mean over seeds within a band of ± one standard
    /// deviation, as long as all seeds trained. Thin lines show single seeds after that, and the rates that
    /// were not the best.
    #[must_use]
    pub fn chart(&self) -> LineChart {
        let y = match self.metric {
            Metric::TrainError | Metric::ValError => Axis::percent(self.metric.title()).from_zero(),
            Metric::TrainLoss => Axis::linear(format!("{}, nats", self.metric.title())),
        };
        let level = |target| Level { at: target, label: format!("target: {}", self.metric.text(target)) };
        LineChart {
            title: self.recipes.iter().map(|result| result.recipe.as_str()).collect::<Vec<_>>().join(", "),
            series: self.recipes.iter().map(series).collect(),
            levels: self.until.map(level).into_iter().collect(),
            note: self.note(),
            ..LineChart::new(Axis::whole("epoch"), y)
        }
    }

    /// Explains the thin lines and bands that the chart has.
    fn note(&self) -> String {
        let any = |is: &dyn Fn(&RecipeResult) -> bool| self.recipes.iter().any(is);
        let trained_on = any(&|result| longer(result).next().is_some());
        let around = match (any(&|result| lost(result).next().is_some()), trained_on) {
            (true, true) => "other rates, and seeds that took longer",
            (true, false) => "other rates",
            (false, true) => "seeds that took longer",
            (false, false) => "",
        };
        // A trial of one epoch is a dot.
        let lines = any(&|result| result.tried.iter().chain(&result.runs).any(|run| run.values.len() > 1));
        let around =
            (!around.is_empty()).then(|| format!("{}: {around}", if lines { "thin" } else { "pale" }));
        let spread = |is: &dyn Fn(usize) -> bool| any(&|result| result.runs.len() > 1 && is(common(result)));
        let spread = match (spread(&|epochs| epochs > 1), spread(&|epochs| epochs == 1)) {
            (true, true) => Some("band or bar"),
            (true, false) => Some("band"),
            (false, true) => Some("bar"),
            (false, false) => None,
        };
        let spread = spread.map(|what| format!("{what}: ± one standard deviation over seeds"));
        around.into_iter().chain(spread).collect::<Vec<_>>().join("; ")
    }
}

/// Number of epochs that all seeds trained.
fn common(result: &RecipeResult) -> usize {
    result.runs.iter().map(|run| run.values.len()).min().unwrap_or(0)
}

/// Seeds that trained longer than others.
fn longer(result: &RecipeResult) -> impl Iterator<Item = &TrialResult> {
    let common = common(result);
    result.runs.iter().filter(move |run| run.values.len() > common)
}

/// Trials with rates that were not the best.
fn lost(result: &RecipeResult) -> impl Iterator<Item = &TrialResult> {
    result.tried.iter().filter(|run| Some(run.rate) != result.rate)
}

fn series(result: &RecipeResult) -> Series {
    let RecipeResult { recipe, runs, rate, .. } = result;
    let name = match (rate, runs.len()) {
        (None, _) => format!("{recipe}: no rate is left"),
        (Some(rate), 1) => format!("{recipe}, rate {rate}"),
        (Some(rate), seeds) => format!("{recipe}, rate {rate}, mean of {seeds} seeds"),
    };
    let common = common(result);
    let mut series = Series::new(name, Vec::new());
    for index in 0..common {
        let values: Vec<f64> = runs.iter().map(|run| run.values[index]).collect();
        let Some(Spread { mean, deviation }) = Spread::new(&values) else { continue };
        let epoch = (index + 1) as f64;
        series.points.push((epoch, mean));
        series.band.extend(deviation.map(|deviation| (epoch, mean - deviation, mean + deviation)));
    }
    series.around.extend(longer(result).map(|run| points(run, common.max(1))));
    series.around.extend(lost(result).map(|run| points(run, 1)));
    series
}

/// The metric of a trial over its epochs, starting with epoch `from`.
fn points(run: &TrialResult, from: usize) -> Vec<(f64, f64)> {
    (1_u32..).map(f64::from).zip(run.values.iter().copied()).skip(from - 1).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use fovea_pipeline::Split;

    use super::*;

    fn run(rate: f64, seed: u64, values: &[f64]) -> TrialResult {
        TrialResult {
            rate,
            seed,
            folder: PathBuf::new(),
            epochs_to_target: None,
            lowest: None,
            pruned: None,
            values: values.to_vec(),
            epochs: Vec::new(),
        }
    }

    #[test]
    fn a_recipe_is_shown_by_its_mean_while_all_seeds_train_with_the_lost_rates_around_it() {
        let runs = vec![run(0.1, 0, &[0.8, 0.4]), run(0.1, 1, &[0.6, 0.6, 0.2])];
        let tried = vec![runs[0].clone(), run(0.3, 0, &[0.9])];
        let result = RecipeResult::new("relu", 9, None, tried, runs);
        let until = Some(0.25);
        let comparison = Comparison {
            metric: Metric::TrainError,
            until,
            seeds: 2,
            split: Split::Val,
            recipes: vec![result],
        };
        let chart = comparison.chart();
        let [series] = chart.series.as_slice() else { panic!("{chart:?}") };
        assert_eq!(series.points, [(1.0, 0.7), (2.0, 0.5)]);
        let (_, low, high) = series.band[1];
        assert!((high - low - 2.0 * 0.02_f64.sqrt()).abs() < 1e-9, "{series:?}");
        assert_eq!(series.around, [vec![(2.0, 0.6), (3.0, 0.2)], vec![(1.0, 0.9)]]);
        assert_eq!(chart.levels[0].label, "target: 25 %");
        assert!(chart.svg().to_string().contains("relu, rate 0.1, mean of 2 seeds"));
        assert_eq!(
            chart.note,
            "thin: other rates, and seeds that took longer; band: ± one standard deviation over seeds"
        );
    }

    #[test]
    fn one_epoch_of_one_rate_is_a_point_with_its_spread_and_the_note_explains_no_thin_line() {
        let runs = vec![run(0.1, 0, &[0.4]), run(0.1, 1, &[0.6])];
        let result = RecipeResult::new("relu", 1, None, vec![runs[0].clone()], runs);
        let mut comparison = Comparison {
            metric: Metric::TrainError,
            until: None,
            seeds: 2,
            split: Split::Val,
            recipes: vec![result],
        };
        let chart = comparison.chart();
        assert_eq!(chart.note, "bar: ± one standard deviation over seeds");
        let svg = chart.svg().to_string();
        assert!(
            svg.contains(">1</text>") && !svg.contains(">2</text>") && !svg.contains(">0</text>"),
            "{svg}"
        );
        assert!(svg.contains("bar: ±") && !svg.contains("fill-opacity=\"0.18\""), "{svg}");
        comparison.recipes[0].runs.truncate(1);
        assert_eq!(comparison.chart().note, "");
    }
}
