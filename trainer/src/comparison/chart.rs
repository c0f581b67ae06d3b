//! The comparison as a chart.

use super::{Compared, Comparison, Metric, Spread, Trained};
use crate::figure::{Axis, Level, LineChart, Series};

impl Comparison {
    /// The metric over the epochs: for each recipe the mean over seeds in a band of a standard deviation to each side, for as
    /// long as all seeds trained; around it, thin, single seeds from there on, and the rates that lost.
    #[must_use]
    pub fn chart(&self) -> LineChart {
        let y = match self.metric {
            Metric::TrainError | Metric::ValError => Axis::percent(self.metric.to_string()).from_zero(),
            Metric::TrainLoss => Axis::linear(format!("{}, nats", self.metric)),
        };
        let level = |target| Level { at: target, label: format!("target: {}", self.metric.text(target)) };
        LineChart {
            title: self
                .recipes
                .iter()
                .map(|compared| compared.recipe.as_str())
                .collect::<Vec<_>>()
                .join(", "),
            series: self.recipes.iter().map(series).collect(),
            levels: self.until.map(level).into_iter().collect(),
            ..LineChart::new(Axis::whole("epoch"), y)
        }
    }
}

fn series(compared: &Compared) -> Series {
    let Compared { recipe, runs, tried, rate, .. } = compared;
    let name = match (rate, runs.len()) {
        (None, _) => format!("{recipe}: no rate is left"),
        (Some(rate), 1) => format!("{recipe}, rate {rate}"),
        (Some(rate), seeds) => format!("{recipe}, rate {rate}, mean of {seeds} seeds"),
    };
    let common = runs.iter().map(|run| run.values.len()).min().unwrap_or(0);
    let mut series = Series::new(name, Vec::new());
    for index in 0..common {
        let values: Vec<f64> = runs.iter().map(|run| run.values[index]).collect();
        let Some(Spread { mean, deviation }) = Spread::of(&values) else { continue };
        let epoch = (index + 1) as f64;
        series.points.push((epoch, mean));
        series.band.extend(deviation.map(|deviation| (epoch, mean - deviation, mean + deviation)));
    }
    let longer = runs.iter().filter(|run| run.values.len() > common);
    series.around.extend(longer.map(|run| points(run, common.max(1))));
    let lost = tried.iter().filter(|run| Some(run.rate) != *rate);
    series.around.extend(lost.map(|run| points(run, 1)));
    series
}

/// The metric of a training over its epochs, from one of them on.
fn points(run: &Trained, from: usize) -> Vec<(f64, f64)> {
    (1_u32..).map(f64::from).zip(run.values.iter().copied()).skip(from - 1).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn run(rate: f64, seed: u64, values: &[f64]) -> Trained {
        Trained {
            rate,
            seed,
            folder: PathBuf::new(),
            epochs_to_target: None,
            lowest: None,
            dropped: None,
            values: values.to_vec(),
            epochs: Vec::new(),
        }
    }

    #[test]
    fn a_recipe_is_its_mean_while_all_seeds_train_with_the_lost_rates_around_it() {
        let runs = vec![run(0.1, 0, &[0.8, 0.4]), run(0.1, 1, &[0.6, 0.6, 0.2])];
        let tried = vec![runs[0].clone(), run(0.3, 0, &[0.9])];
        let compared = Compared::new("relu", 9, None, tried, runs);
        let until = Some(0.25);
        let comparison = Comparison { metric: Metric::TrainError, until, seeds: 2, recipes: vec![compared] };
        let chart = comparison.chart();
        let [series] = chart.series.as_slice() else { panic!("{chart:?}") };
        assert_eq!(series.points, [(1.0, 0.7), (2.0, 0.5)]);
        let (_, low, high) = series.band[1];
        assert!((high - low - 2.0 * 0.02_f64.sqrt()).abs() < 1e-9, "{series:?}");
        assert_eq!(series.around, [vec![(2.0, 0.6), (3.0, 0.2)], vec![(1.0, 0.9)]]);
        assert_eq!(chart.levels[0].label, "target: 25 %");
        assert!(chart.svg().contains("relu, rate 0.1, mean of 2 seeds"));
    }
}
