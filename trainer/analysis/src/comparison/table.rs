//! The result as a table of text.

use std::fmt;

use fovea_pipeline::Split;

use super::metric::Metric;
use super::result::{Comparison, RecipeResult, Spread, TrialResult};

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { metric, until, seeds, recipes, .. } = self;
        let title = metric.title();
        let mut rows = vec![self.heading()];
        rows.extend(recipes.iter().map(|result| self.row(result)));
        let seeds = if *seeds == 1 { "seed 0".to_owned() } else { format!("seeds 0 to {}", seeds - 1) };
        match until {
            Some(target) => {
                let target = metric.text(*target);
                writeln!(
                    f,
                    "epochs until the {title} is {target}, errors in the epoch that reaches it; {seeds}\n"
                )?;
            }
            None => writeln!(f, "{title} after the last epoch; {seeds}\n")?,
        }
        write_aligned(f, &rows)?;
        if rows.iter().flatten().any(|cell| cell.contains('±')) {
            writeln!(f, "\n±: one standard deviation over seeds")?;
        }
        let notes: Vec<String> = recipes.iter().flat_map(|result| self.notes(result)).collect();
        if !notes.is_empty() {
            writeln!(f)?;
        }
        notes.iter().try_for_each(|note| writeln!(f, "{note}"))
    }
}

impl Comparison {
    fn heading(&self) -> Vec<String> {
        let mut heading = vec!["recipe".to_owned(), "rate".to_owned()];
        if let Some(target) = self.until {
            heading.push(format!("epochs to {}", self.metric.text(target)));
            heading.push("each seed".to_owned());
        }
        let after_epoch = match self.split {
            Split::Val => "validation error",
            Split::Train => "error of training images",
        };
        heading.extend(["ratio", "training error", after_epoch].map(str::to_owned));
        if self.metric == Metric::TrainLoss {
            heading.push("training loss".to_owned());
        }
        heading.push("time per epoch".to_owned());
        heading
    }

    fn row(&self, result: &RecipeResult) -> Vec<String> {
        let errors =
            |spread| or_dash(spread, |spread| text_of(spread, &|value| Metric::ValError.text(value)));
        let digits = |value: f64| format!("{value:.2}");
        let mut row = vec![result.recipe.clone(), or_dash(result.rate, |rate| rate.to_string())];
        if self.until.is_some() {
            let missing = result.runs.iter().filter(|run| run.epochs_to_target.is_none()).count();
            row.push(match result.epochs_to_target {
                Some(spread) => text_of(spread, &digits),
                None if result.runs.is_empty() => "-".to_owned(),
                None => format!("not reached by {missing} of {}", result.runs.len()),
            });
            let each = |run: &TrialResult| or_dash(run.epochs_to_target, digits);
            row.push(result.runs.iter().map(each).collect::<Vec<_>>().join(", "));
        }
        row.push(or_dash(result.ratio_to_first, digits));
        row.push(errors(result.train_error));
        row.push(errors(result.val_error.or(result.train_images_error)));
        if self.metric == Metric::TrainLoss {
            row.push(or_dash(result.train_loss, |spread| {
                text_of(spread, &|value| Metric::TrainLoss.text(value))
            }));
        }
        row.push(or_dash(result.seconds_per_epoch, |seconds| format!("{seconds:.1} s")));
        row
    }

    /// What the table has no column for.
    fn notes(&self, result: &RecipeResult) -> Vec<String> {
        let RecipeResult { recipe, epochs, runs, tried, range_end, .. } = result;
        let mut notes = Vec::new();
        if runs.is_empty() {
            notes.push(format!("{recipe}: no learning rate is left; give lower ones with --rates"));
        }
        if let (Some(end), Some(rate)) = (range_end, result.rate) {
            notes.push(format!(
                "{recipe}: the best learning rate, {rate}, is the {end} of those tried; one beyond it may be better \
                 (--rates)"
            ));
        }
        for run in tried.iter().chain(runs.iter().skip(1)) {
            if let Some(reason) = run.pruned {
                notes.push(format!("{recipe}, rate {}, seed {}: pruned, {reason}", run.rate, run.seed));
            }
        }
        for run in runs.iter().filter(|run| self.until.is_some() && run.epochs_to_target.is_none()) {
            let lowest = or_dash(run.lowest, |lowest| self.metric.text(lowest));
            notes
                .push(format!("{recipe}, seed {}: not reached in {epochs} epochs (best {lowest})", run.seed));
        }
        notes
    }
}

fn or_dash<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), text)
}

/// Mean and deviation, each formatted by `text`.
fn text_of(spread: Spread, text: &dyn Fn(f64) -> String) -> String {
    let mean = text(spread.mean);
    spread.deviation.map_or_else(|| mean.clone(), |deviation| format!("{mean} ± {}", text(deviation)))
}

fn write_aligned(f: &mut fmt::Formatter<'_>, rows: &[Vec<String>]) -> fmt::Result {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        writeln!(f, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use fovea_trainer::metrics::Epoch;

    use super::*;
    use crate::comparison::{Plan, Pruned, RangeEnd, Rates};

    fn run(seed: u64, epochs_to_target: Option<f64>) -> TrialResult {
        let epoch = Epoch {
            epoch: 1,
            step: 9,
            lr: 0.01,
            train_loss: 1.0,
            train_top1: 0.5,
            train_top5: 0.1,
            val_loss: 1.5,
            val_top1: 0.625,
            val_top5: 0.2,
            images_per_s: 10.0,
            data_wait: 0.0,
            seconds: 2.0,
        };
        TrialResult {
            rate: 0.01,
            seed,
            folder: PathBuf::new(),
            epochs_to_target,
            lowest: Some(0.5),
            pruned: None,
            values: vec![0.5],
            epochs: vec![epoch],
        }
    }

    fn comparison(split: Split, recipes: Vec<RecipeResult>) -> Comparison {
        let plan = Plan {
            candidates: Vec::new(),
            metric: Metric::TrainError,
            until: Some(0.25),
            seeds: 2,
            rates: Rates::Own,
            out: PathBuf::new(),
        };
        Comparison::new(&plan, split, recipes)
    }

    #[test]
    fn each_recipe_has_a_row_with_its_ratio_to_the_first() {
        let runs = |first, second| vec![run(0, Some(first)), run(1, Some(second))];
        let result =
            |name, runs: Vec<TrialResult>| RecipeResult::new(name, 9, None, vec![runs[0].clone()], runs);
        let text =
            comparison(Split::Val, vec![result("fast", runs(1.0, 3.0)), result("slow", runs(6.0, 6.0))])
                .to_string();
        let cells: Vec<Vec<&str>> =
            text.lines().skip(3).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            cells[0].join(" "),
            "fast 0.01 2.00 ± 1.41 1.00, 3.00 1.00 50 % ± 0 % 62.50 % ± 0 % 2.0 s"
        );
        assert!(cells[1].join(" ").starts_with("slow 0.01 6.00 ± 0.00 6.00, 6.00 3.00 "), "{text}");
        assert_eq!(
            cells[2..],
            [vec![], "±: one standard deviation over seeds".split(' ').collect()],
            "{text}"
        );
    }

    #[test]
    fn without_validation_images_nothing_is_called_validation() {
        let runs = vec![run(0, Some(1.0)), run(1, Some(2.0))];
        let result = RecipeResult::new("relu", 9, None, vec![runs[0].clone()], runs);
        let comparison = comparison(Split::Train, vec![result]);
        let text = comparison.to_string();
        assert!(text.contains("error of training images") && text.contains("62.50 % ± 0 %"), "{text}");
        assert!(!text.contains("validation"), "{text}");
        let folder = tempfile::tempdir().unwrap();
        comparison.write(folder.path()).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let (json, csv) = (read("comparison.json"), read("comparison.csv"));
        assert!(csv.starts_with("recipe,rate,seed,epoch,train_loss,train_error,train_images_loss,"), "{csv}");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["split"], "train");
        assert_eq!(json["recipes"][0]["val_error"], serde_json::Value::Null);
        assert_eq!(json["recipes"][0]["train_images_error"]["mean"], 0.625);
    }

    #[test]
    fn targets_not_reached_pruned_rates_and_ends_of_the_range_are_noted() {
        let runs = vec![run(0, Some(4.0)), run(1, None)];
        let lost = TrialResult { rate: 0.1, pruned: Some(Pruned::NotFinite { epoch: 1 }), ..run(0, None) };
        let tried = vec![runs[0].clone(), lost.clone()];
        let partly = RecipeResult::new("partly", 9, Some(RangeEnd::Lowest), tried, runs);
        let never = RecipeResult::new("never", 9, None, vec![lost], Vec::new());
        let text = comparison(Split::Val, vec![partly, never]).to_string();
        assert!(text.contains("\n±: one standard deviation over seeds\n"), "{text}");
        for part in [
            "not reached by 1 of 2",
            "partly: the best learning rate, 0.01, is the lowest of those tried",
            "partly, rate 0.1, seed 0: pruned, the loss is not finite in epoch 1",
            "partly, seed 1: not reached in 9 epochs (best 50 %)",
            "never: no learning rate is left",
        ] {
            assert!(text.contains(part), "`{part}` is missing: {text}");
        }
    }
}
