//! Runs a comparison.

use std::fs;

use fovea_files::FileLock;
use fovea_pipeline::{Dataset, Split};
use fovea_trainer::training::{RunSettings, TrainingData};

use super::error::ComparisonError;
use super::folders::{check_all, run_folder, with_rate};
use super::metric::Metric;
use super::plan::{Candidate, Plan};
use super::result::{Comparison, RecipeResult, TrialResult};
use super::trial::{Event, Pause, SweepContext, Trial, TrialId};
use super::tuning::{EpochResult, Goal, Tuning};

/// Runs the trials of a comparison that are not finished yet and writes the result; `None` when it was
/// stopped. `datasets` are those of the candidates, in their order.
///
/// # Errors
/// [`ComparisonError`]; finished epochs are kept.
pub fn compare(
    plan: &Plan,
    datasets: &[Dataset],
    context: &mut SweepContext<'_>,
) -> Result<Option<Comparison>, ComparisonError> {
    plan.check()?;
    let mut data = Vec::new();
    for (Candidate { recipe, data: folder }, dataset) in plan.candidates.iter().zip(datasets) {
        let opened = TrainingData::new(dataset, recipe)?;
        opened.check_batch(recipe, context.options.settings.parts)?;
        plan.check_target(opened.classes().len())?;
        if plan.metric == Metric::ValError && opened.split() == Split::Train {
            return Err(ComparisonError::NoValidation { data: folder.clone() });
        }
        data.push(opened);
    }
    let _lock = lock(plan)?;
    check_all(plan, context.options.settings.limit_batches)?;
    let mut recipes = Vec::new();
    for (candidate, data) in plan.candidates.iter().zip(&data) {
        match (CandidateSweep { plan, candidate, data }).run(context)? {
            Some(result) => recipes.push(result),
            None => return Ok(None),
        }
    }
    let split = data.first().map_or(Split::Val, TrainingData::split);
    let comparison = Comparison::new(plan, split, recipes);
    comparison.write(&plan.out)?;
    Ok(Some(comparison))
}

fn lock(plan: &Plan) -> Result<FileLock, ComparisonError> {
    let failed = |reason| ComparisonError::Write { path: plan.out.clone(), reason };
    fs::create_dir_all(&plan.out).map_err(failed)?;
    FileLock::try_acquire(&plan.out.join("lock"))
        .map_err(failed)?
        .ok_or_else(|| ComparisonError::InUse { path: plan.out.clone() })
}

/// The trials of one candidate.
struct CandidateSweep<'a> {
    plan: &'a Plan,
    candidate: &'a Candidate,
    data: &'a TrainingData,
}

impl<'a> CandidateSweep<'a> {
    /// Tunes the rate with the first seed, then trains the other seeds with the best rate.
    fn run(&self, context: &mut SweepContext<'_>) -> Result<Option<RecipeResult>, ComparisonError> {
        let recipe = self.candidate.recipe.name.as_str();
        let Some((tuning, tried)) = self.sweep(&self.plan.rates_of(&self.candidate.recipe), 0, context)?
        else {
            return Ok(None);
        };
        let best = tuning.best();
        let rate = best.map(|index| tried[index].rate);
        if tried.len() > 1 || rate.is_none() {
            context.observer.on_event(&Event::Tuned { recipe, rate });
        }
        let mut runs: Vec<TrialResult> = best.iter().map(|index| tried[*index].clone()).collect();
        for seed in 1..self.plan.seeds {
            let Some(rate) = rate else { break };
            match self.sweep(&[rate], seed, context)? {
                Some((_, trained)) => runs.extend(trained),
                None => return Ok(None),
            }
        }
        let epochs = self.candidate.recipe.training.epochs;
        Ok(Some(RecipeResult::new(recipe, epochs, tuning.range_end(), tried, runs)))
    }

    /// Trains these rates with one seed until the best is known.
    fn sweep(
        &self,
        rates: &[f64],
        seed: u64,
        context: &mut SweepContext<'_>,
    ) -> Result<Option<(Tuning, Vec<TrialResult>)>, ComparisonError> {
        let Candidate { recipe, .. } = self.candidate;
        let (classes, metric) = (self.data.classes().len(), self.plan.metric);
        let goal = Goal {
            target: self.plan.until,
            start: metric.at_chance(classes),
            epochs: recipe.training.epochs,
            classes,
        };
        let mut tuning = Tuning::new(goal, rates);
        let mut trials: Vec<Trial<'a>> = Vec::new();
        while let Some(index) = tuning.next_to_train() {
            for rate in tuning.rates().split_off(trials.len()) {
                if trials.len() >= rates.len() {
                    let best = tuning.best().map(|index| tuning.rates()[index]);
                    context.observer.on_event(&Event::Extended { recipe: &recipe.name, best, rate });
                }
                trials.push(self.trial(rate, seed, context)?);
            }
            let pause = trials[index].resume(context, &mut |epoch| {
                let result = EpochResult { train_loss: epoch.train_loss, metric: metric.value(epoch) };
                tuning.record(index, result);
                tuning.next_to_train() == Some(index)
            })?;
            match pause {
                Pause::Interrupted => return Ok(None),
                Pause::NotFinite => tuning.record_not_finite(index),
                Pause::Enough => {}
            }
            if let Some(reason) = tuning.pruned(index) {
                let trial = TrialId { recipe: &recipe.name, rate: tuning.rates()[index], seed };
                context.observer.on_event(&Event::Pruned { trial, reason });
            }
        }
        let result = |(index, trial): (usize, &Trial<'_>)| TrialResult {
            rate: tuning.rates()[index],
            seed,
            folder: run_folder(recipe, tuning.rates()[index], seed),
            epochs_to_target: tuning.epochs_to_target(index),
            lowest: tuning.lowest(index),
            pruned: tuning.pruned(index),
            values: trial.epochs().iter().map(|epoch| metric.value(epoch)).collect(),
            epochs: trial.epochs().to_vec(),
        };
        let results = trials.iter().enumerate().map(result).collect();
        Ok(Some((tuning, results)))
    }

    fn trial(&self, rate: f64, seed: u64, context: &SweepContext<'_>) -> Result<Trial<'a>, ComparisonError> {
        let Candidate { recipe, data } = self.candidate;
        let settings = RunSettings { data: data.clone(), seed, ..context.options.settings.clone() };
        let folder = self.plan.out.join(run_folder(recipe, rate, seed));
        Trial::open(with_rate(recipe, rate), self.data, settings, &folder)
    }
}
