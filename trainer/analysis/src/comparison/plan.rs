//! The settings of a comparison.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fovea_trainer::recipe::Recipe;

use super::error::ComparisonError;
use super::metric::Metric;
use super::tuning::around;

/// A recipe with its data set.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The recipe.
    pub recipe: Recipe,
    /// Folder of the data set; an absolute path.
    pub data: PathBuf,
}

/// The learning rates to try.
#[derive(Clone, Debug, PartialEq)]
pub enum Rates {
    /// A third of the recipe's own rate, that rate, and three times that rate.
    AroundOwn,
    /// These rates, for all recipes.
    Given(Vec<f64>),
    /// The recipe's own rate only.
    Own,
}

/// The settings of a comparison.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The recipes with their data sets.
    pub candidates: Vec<Candidate>,
    /// The metric that is compared.
    pub metric: Metric,
    /// Target of the metric, at which a trial ends; without it, all epochs are trained.
    pub until: Option<f64>,
    /// Number of seeds, counted from 0.
    pub seeds: u64,
    /// The learning rates.
    pub rates: Rates,
    /// Folder of the runs and the result.
    pub out: PathBuf,
}

impl Plan {
    /// Checks that there are several recipes with different names and contents, and that the rates are valid.
    ///
    /// # Errors
    /// One for which [`ComparisonError::is_usage`] is true.
    pub fn check(&self) -> Result<(), ComparisonError> {
        let recipes: Vec<&Recipe> = self.candidates.iter().map(|candidate| &candidate.recipe).collect();
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

    /// Checks that the target lies between 0 and the metric of guessing among K classes.
    ///
    /// # Errors
    /// [`ComparisonError::Target`].
    pub fn check_target(&self, classes: usize) -> Result<(), ComparisonError> {
        let guessing = self.metric.at_chance(classes);
        match self.until {
            Some(given) if !(given > 0.0 && given < guessing) => {
                Err(ComparisonError::Target { given, metric: self.metric, guessing })
            }
            _ => Ok(()),
        }
    }

    /// The rates to start with for a recipe.
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

/// The default folder of a comparison.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(recipes: &[(&str, &[&str])], rates: Rates) -> Plan {
        let candidate = |(name, overrides): &(&str, &[&str])| {
            let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
            let mut recipe = Recipe::load("demo", &overrides).unwrap();
            recipe.name = (*name).to_owned();
            Candidate { recipe, data: PathBuf::from("/data") }
        };
        Plan {
            candidates: recipes.iter().map(candidate).collect(),
            metric: Metric::TrainError,
            until: None,
            seeds: 1,
            rates,
            out: PathBuf::from("out"),
        }
    }

    #[test]
    fn recipes_with_equal_names_or_contents_are_refused() {
        let other: &[&str] = &["optimizer.momentum=0.5"];
        plan(&[("a", &[]), ("b-0.1", other)], Rates::Own).check().unwrap();
        let error = plan(&[("a", &[])], Rates::Own).check().unwrap_err();
        assert!(matches!(error, ComparisonError::Alone { .. }), "{error}");
        let error = plan(&[("a", &[]), ("b", other), ("a", other)], Rates::Own).check().unwrap_err();
        assert!(matches!(error, ComparisonError::SameName { .. }), "{error}");
        let error = plan(&[("a", &[]), ("b", &["training.epochs=3"])], Rates::Own).check().unwrap_err();
        assert!(matches!(error, ComparisonError::SameRecipe { .. }), "{error}");
        for name in ["", "..", "a/b", "a b", "a,b"] {
            let error = plan(&[("a", &[]), (name, other)], Rates::Own).check().unwrap_err();
            assert!(matches!(error, ComparisonError::Name { .. }), "{name}: {error}");
        }
    }

    #[test]
    fn a_rate_that_is_invalid_or_given_twice_is_refused() {
        let recipes: &[(&str, &[&str])] = &[("a", &[]), ("b", &["optimizer.momentum=0.5"])];
        plan(recipes, Rates::Given(vec![0.1, 0.2])).check().unwrap();
        for rates in [[0.1, 0.0], [0.1, -1.0], [0.1, f64::INFINITY], [f64::NAN, 0.1], [0.1, 0.1]] {
            let error = plan(recipes, Rates::Given(rates.to_vec())).check().unwrap_err();
            assert!(matches!(error, ComparisonError::Rate { .. }), "{rates:?}: {error}");
        }
    }

    #[test]
    fn a_target_lies_between_0_and_guessing() {
        let mut plan = plan(&[], Rates::Own);
        for (until, good) in [(0.89, true), (0.9, false), (25.0, false), (0.0, false), (f64::NAN, false)] {
            plan.until = Some(until);
            assert_eq!(plan.check_target(10).is_ok(), good, "{until}");
        }
        (plan.metric, plan.until) = (Metric::TrainLoss, Some(2.0));
        plan.check_target(10).unwrap();
    }
}
