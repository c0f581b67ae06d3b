//! What is to be compared.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{ComparisonError, Metric, tuning::around};
use crate::recipe::Recipe;

/// A recipe and what it trains on.
#[derive(Clone, Debug)]
pub struct Contestant {
    /// The recipe.
    pub recipe: Recipe,
    /// Folder of the data set; an absolute path.
    pub data: PathBuf,
}

/// Which learning rates are tried.
#[derive(Clone, Debug, PartialEq)]
pub enum Rates {
    /// A third of the recipe's own, the own, and three times the own.
    AroundOwn,
    /// These, for all recipes.
    Given(Vec<f64>),
    /// The recipe's own.
    Own,
}

/// A comparison that makes sense.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The recipes.
    pub contestants: Vec<Contestant>,
    /// What is compared.
    pub metric: Metric,
    /// The metric at which a training is over; without it, all epochs are trained.
    pub until: Option<f64>,
    /// Seeds of the runs: 0 and on.
    pub seeds: u64,
    /// The learning rates.
    pub rates: Rates,
    /// Folder of the runs and the result.
    pub out: PathBuf,
}

impl Plan {
    /// Checks that the recipes can be told apart, and that the rates are some.
    ///
    /// # Errors
    /// One for which [`ComparisonError::is_usage`].
    pub fn check(&self) -> Result<(), ComparisonError> {
        let recipes: Vec<&Recipe> = self.contestants.iter().map(|contestant| &contestant.recipe).collect();
        if let [single] = recipes.as_slice() {
            return Err(ComparisonError::Alone { name: single.name.clone() });
        }
        for (index, second) in recipes.iter().enumerate() {
            check_name(&second.name)?;
            for first in &recipes[..index] {
                if first.name == second.name {
                    return Err(ComparisonError::SameName { name: first.name.clone() });
                }
                if first.hash() == second.hash() {
                    let (first, second) = (first.name.clone(), second.name.clone());
                    return Err(ComparisonError::SameRecipe { first, second });
                }
            }
        }
        if let Rates::Given(rates) = &self.rates {
            let mut seen = BTreeSet::new();
            let bad =
                rates.iter().find(|rate| !(**rate > 0.0 && rate.is_finite() && seen.insert(rate.to_bits())));
            if let Some(&given) = bad {
                return Err(ComparisonError::Rate { given });
            }
        }
        Ok(())
    }

    /// Checks that the target lies between 0 and what guessing among K classes has.
    ///
    /// # Errors
    /// [`ComparisonError::Target`].
    pub fn check_target(&self, classes: usize) -> Result<(), ComparisonError> {
        let guessing = self.metric.of_guessing(classes);
        match self.until {
            Some(given) if !(given > 0.0 && given < guessing) => {
                Err(ComparisonError::Target { given, metric: self.metric, guessing })
            }
            _ => Ok(()),
        }
    }

    /// The rates that a recipe is tried with at first.
    #[must_use]
    pub fn rates_of(&self, recipe: &Recipe) -> Vec<f64> {
        let own = recipe.optimizer.learning_rate;
        match &self.rates {
            Rates::AroundOwn => around(own),
            Rates::Given(rates) => rates.clone(),
            Rates::Own => vec![own],
        }
    }

    /// The folder of a recipe's runs.
    #[must_use]
    pub fn folder_of(&self, recipe: &Recipe) -> PathBuf {
        self.out.join(&recipe.name)
    }
}

/// The folder of a comparison that names none.
#[must_use]
pub fn default_folder(recipes: &[Recipe]) -> PathBuf {
    let names: Vec<&str> = recipes.iter().map(|recipe| recipe.name.as_str()).collect();
    Path::new("runs").join(format!("compare-{}", names.join("+")))
}

fn check_name(name: &str) -> Result<(), ComparisonError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(plain) {
        return Ok(());
    }
    Err(ComparisonError::Name { name: name.to_owned() })
}
