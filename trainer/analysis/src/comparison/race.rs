//! Carrying out a comparison.

use std::fs;

use fovea_files::FileLock;
use fovea_trainer::training::{RunSettings, TrainingData};

use super::folders::{check_all, run_folder, with_rate};
use super::plan::Contestant;
use super::trial::{Pause, Trial};
use super::tuning::EpochResult;
use super::{Compared, Comparison, ComparisonError, Event, Goal, Place, Plan, Trained, Tuning, Workshop};

/// Carries out a comparison, as far as it is not done already, and writes the result down; `None` when it was asked to stop
/// meanwhile.
///
/// # Errors
/// [`ComparisonError`]; what was trained stays.
pub fn compare(plan: &Plan, workshop: &mut Workshop<'_>) -> Result<Option<Comparison>, ComparisonError> {
    plan.check()?;
    let mut data = Vec::new();
    for Contestant { recipe, data: folder } in &plan.contestants {
        let opened = TrainingData::open(folder, recipe)?;
        opened.check_batch(recipe)?;
        plan.check_target(opened.classes().len())?;
        data.push(opened);
    }
    let _lock = lock(plan)?;
    check_all(plan, workshop.options.settings.limit_batches)?;
    let mut recipes = Vec::new();
    for (contestant, data) in plan.contestants.iter().zip(&data) {
        match (Contest { plan, contestant, data }).compared(workshop)? {
            Some(compared) => recipes.push(compared),
            None => return Ok(None),
        }
    }
    let comparison = Comparison::new(plan, recipes);
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

/// The trainings of one recipe.
struct Contest<'a> {
    plan: &'a Plan,
    contestant: &'a Contestant,
    data: &'a TrainingData,
}

impl<'a> Contest<'a> {
    /// Tunes with the first seed, then trains the others with the best rate.
    fn compared(&self, workshop: &mut Workshop<'_>) -> Result<Option<Compared>, ComparisonError> {
        let recipe = self.contestant.recipe.name.as_str();
        let Some((tuning, tried)) = self.race(&self.plan.rates_of(&self.contestant.recipe), 0, workshop)?
        else {
            return Ok(None);
        };
        let best = tuning.best();
        let rate = best.map(|index| tried[index].rate);
        if tried.len() > 1 || rate.is_none() {
            workshop.watcher.happened(&Event::Tuned { recipe, rate });
        }
        let mut runs: Vec<Trained> = best.iter().map(|index| tried[*index].clone()).collect();
        for seed in 1..self.plan.seeds {
            let Some(rate) = rate else { break };
            match self.race(&[rate], seed, workshop)? {
                Some((_, trained)) => runs.extend(trained),
                None => return Ok(None),
            }
        }
        let epochs = self.contestant.recipe.training.epochs;
        Ok(Some(Compared::new(recipe, epochs, tuning.border(), tried, runs)))
    }

    /// Lets rates train, with one seed, until the best is known.
    fn race(
        &self,
        rates: &[f64],
        seed: u64,
        workshop: &mut Workshop<'_>,
    ) -> Result<Option<(Tuning, Vec<Trained>)>, ComparisonError> {
        let Contestant { recipe, .. } = self.contestant;
        let (classes, metric) = (self.data.classes().len(), self.plan.metric);
        let goal = Goal {
            target: self.plan.until,
            start: metric.of_guessing(classes),
            epochs: recipe.training.epochs,
            classes,
        };
        let mut tuning = Tuning::new(goal, rates);
        let mut trials: Vec<Trial<'a>> = Vec::new();
        while let Some(index) = tuning.next_to_train() {
            for rate in tuning.rates().split_off(trials.len()) {
                if trials.len() >= rates.len() {
                    let best = tuning.best().map(|index| tuning.rates()[index]);
                    workshop.watcher.happened(&Event::Extended { recipe: &recipe.name, best, rate });
                }
                trials.push(self.trial(rate, seed, workshop)?);
            }
            let pause = trials[index].go_on(workshop, &mut |epoch| {
                let result = EpochResult { train_loss: epoch.train_loss, metric: metric.of(epoch) };
                tuning.record(index, result);
                tuning.next_to_train() == Some(index)
            })?;
            match pause {
                Pause::Interrupted => return Ok(None),
                Pause::NotFinite => tuning.not_finite(index),
                Pause::Heard => {}
            }
            if let Some(why) = tuning.dropped(index) {
                let place = Place { recipe: &recipe.name, rate: tuning.rates()[index], seed };
                workshop.watcher.happened(&Event::GivenUp { place, why });
            }
        }
        let trained = |(index, trial): (usize, &Trial<'_>)| Trained {
            rate: tuning.rates()[index],
            seed,
            folder: run_folder(recipe, tuning.rates()[index], seed),
            epochs_to_target: tuning.epochs_to_target(index),
            lowest: tuning.lowest(index),
            dropped: tuning.dropped(index),
            values: trial.epochs().iter().map(|epoch| metric.of(epoch)).collect(),
            epochs: trial.epochs().to_vec(),
        };
        let trained = trials.iter().enumerate().map(trained).collect();
        Ok(Some((tuning, trained)))
    }

    fn trial(&self, rate: f64, seed: u64, workshop: &Workshop<'_>) -> Result<Trial<'a>, ComparisonError> {
        let Contestant { recipe, data } = self.contestant;
        let settings = RunSettings { data: data.clone(), seed, ..workshop.options.settings.clone() };
        let folder = self.plan.out.join(run_folder(recipe, rate, seed));
        Trial::open(with_rate(recipe, rate), self.data, settings, &folder)
    }
}
