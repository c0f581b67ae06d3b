//! Which parameters are trained, with which learning rate and decay.

use fovea_graph::{Parameter, ParameterKind, nearest_names};

use crate::models::head;
use crate::recipe::{GroupConfig, NetworkPart, OptimizerConfig, Recipe, RecipeError, matches};

/// Parameters with the same hyperparameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParameterGroup {
    /// Learning rate as a multiple of the schedule's.
    pub learning_rate_factor: f64,
    /// Weight decay λ.
    pub weight_decay: f64,
}

/// The group of each of `parameters` under `recipe`; `None` for one that keeps its values.
///
/// # Errors
/// [`RecipeError::NoParameter`] for a pattern that matches none, [`RecipeError::NothingTrained`].
pub fn groups(recipe: &Recipe, parameters: &[Parameter]) -> Result<Vec<Option<ParameterGroup>>, RecipeError> {
    let names: Vec<&str> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    let nothing = |key: String, given: String, pattern: &str| {
        let plain: String = pattern.chars().filter(|letter| !"*?".contains(*letter)).collect();
        let near = nearest_names(&plain, names.iter().copied());
        let near = near.into_iter().map(str::to_owned).collect();
        RecipeError::NoParameter { recipe: recipe.name.clone(), key, given, near }
    };
    let check = |key: &str, patterns: &[String]| {
        let unmatched = patterns.iter().find(|pattern| !names.iter().any(|name| matches(pattern, name)));
        unmatched.map_or(Ok(()), |pattern| Err(nothing(key.to_owned(), format!("`{pattern}`"), pattern)))
    };
    check("network.freeze", &recipe.network.freeze)?;
    check("network.train", &recipe.network.train)?;
    let head = head(parameters);
    for (at, group) in recipe.optimizer.group.iter().enumerate() {
        let key = format!("optimizer.group.{at}");
        check(&format!("{key}.match"), group.names.as_deref().unwrap_or_default())?;
        // Other conditions say what a parameter is like: a network may have none that is.
        let mut all = parameters.iter().enumerate();
        if group.names.is_some() && !all.any(|(at, parameter)| group.holds(parameter, at >= head)) {
            return Err(nothing(key, "what it asks for together".to_owned(), ""));
        }
    }
    let trained = recipe.network.trained();
    let of = |(at, parameter): (usize, &Parameter)| {
        let trained = trained.contains(&parameter.name);
        trained.then(|| ParameterGroup::new(&recipe.optimizer, parameter, at >= head))
    };
    let groups: Vec<_> = parameters.iter().enumerate().map(of).collect();
    if groups.iter().all(Option::is_none) {
        let (recipe, parameters) = (recipe.name.clone(), parameters.len());
        return Err(RecipeError::NothingTrained { recipe, parameters });
    }
    Ok(groups)
}

impl ParameterGroup {
    fn new(config: &OptimizerConfig, parameter: &Parameter, in_head: bool) -> Self {
        let is_bias = parameter.kind == ParameterKind::Bias;
        let mut group = Self {
            learning_rate_factor: if is_bias { config.bias_lr_mult } else { 1.0 },
            weight_decay: match is_bias && !config.bias_decay {
                true => 0.0,
                false => parameter.weight_decay.unwrap_or(config.weight_decay),
            },
        };
        let mut factor = 1.0;
        for exception in config.group.iter().filter(|exception| exception.holds(parameter, in_head)) {
            factor = exception.learning_rate_factor.unwrap_or(factor);
            group.weight_decay = exception.weight_decay.unwrap_or(group.weight_decay);
        }
        group.learning_rate_factor *= factor;
        group
    }
}

impl GroupConfig {
    /// Whether a parameter meets all conditions.
    fn holds(&self, parameter: &Parameter, in_head: bool) -> bool {
        let is_named = |patterns: &Vec<String>| patterns.iter().any(|word| matches(word, &parameter.name));
        self.names.as_ref().is_none_or(is_named)
            && self.axes.is_none_or(|axes| axes == parameter.axes())
            && self.part.is_none_or(|part| (part == NetworkPart::Head) == in_head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Classifier;

    fn of(set: &[&str]) -> Result<Vec<(String, Option<ParameterGroup>)>, String> {
        let set: Vec<String> = set.iter().map(|text| (*text).to_owned()).collect();
        let recipe = Recipe::load("demo", &set).unwrap_or_else(|error| panic!("{error}"));
        let parameters = Classifier::new(&recipe, 10).unwrap().parameters().unwrap();
        let groups = groups(&recipe, &parameters).map_err(|error| error.to_string())?;
        Ok(parameters.into_iter().map(|parameter| parameter.name).zip(groups).collect())
    }

    /// Factor and decay of the parameter `name`.
    fn values(set: &[&str], name: &str) -> Option<[f64; 2]> {
        let group = of(set).unwrap().into_iter().find(|(other, _)| other == name).unwrap().1;
        group.map(|group| [group.learning_rate_factor, group.weight_decay])
    }

    #[test]
    fn biases_have_their_own_rate_and_decay_and_layers_may_have_a_decay() {
        assert_eq!(values(&[], "conv1.bias"), Some([1.0, 0.0005]));
        let own = ["optimizer.bias_lr_mult=2", "optimizer.bias_decay=false"];
        assert_eq!(values(&own, "conv1.bias"), Some([2.0, 0.0]));
        assert_eq!(values(&own, "conv1.weight"), Some([1.0, 0.0005]));
        let layer = ["network.layer.fc6.weight_decay=3"];
        assert_eq!(values(&layer, "fc6.weight"), Some([1.0, 3.0]));
        assert_eq!(values(&layer, "fc6.bias"), Some([1.0, 3.0]));
        assert_eq!(values(&layer, "fc7.weight"), Some([1.0, 0.0005]));
    }

    #[test]
    fn the_last_group_that_states_a_value_counts() {
        let groups = "optimizer.group=[{ axes = 1, weight_decay = 0 }, { part = \"head\", learning_rate_factor = 10 }, \
                      { match = [\"fc8.b*\", \"conv?.bias\"], learning_rate_factor = 4 }]";
        let set = [groups, "optimizer.bias_lr_mult=2"];
        assert_eq!(values(&set, "conv1.weight"), Some([1.0, 0.0005]));
        assert_eq!(values(&set, "fc7.bias"), Some([2.0, 0.0]));
        assert_eq!(values(&set, "fc8.weight"), Some([10.0, 0.0005]));
        assert_eq!(values(&set, "fc8.bias"), Some([8.0, 0.0]));
        assert_eq!(values(&set, "conv2.bias"), Some([8.0, 0.0]));
        // There may be nothing of a kind.
        assert_eq!(
            values(&["optimizer.group=[{ axes = 7, weight_decay = 2 }]"], "fc8.bias"),
            Some([1.0, 0.0005])
        );
        let backbone = ["optimizer.group=[{ part = \"backbone\", weight_decay = 2 }]"];
        assert_eq!(values(&backbone, "fc7.bias"), Some([1.0, 2.0]));
        assert_eq!(values(&backbone, "fc8.weight"), Some([1.0, 0.0005]));
    }

    #[test]
    fn frozen_parameters_have_no_group() {
        let set = ["network.freeze=[\"conv*\"]", "network.train=[\"conv5.*\"]"];
        assert_eq!(values(&set, "conv4.weight"), None);
        assert!(values(&set, "conv5.weight").is_some() && values(&set, "fc6.weight").is_some());
    }

    #[test]
    fn a_pattern_without_a_parameter_is_an_error_with_near_names() {
        for (set, parts) in [
            (
                "network.freeze=[\"conv*\", \"cnov1.*\"]",
                ["`network.freeze`: `cnov1.*` matches no", "conv1.weight"],
            ),
            ("network.train=[\"fc9.*\"]", ["`network.train`: `fc9.*` matches no", "fc8.weight"]),
            (
                "optimizer.group=[{ match = [\"haed.*\"], weight_decay = 0 }]",
                ["`optimizer.group.0.match`: `haed.*` matches no", "near: "],
            ),
            (
                "optimizer.group=[{ match = [\"fc8.weight\"], axes = 1, weight_decay = 0 }]",
                ["`optimizer.group.0`: what it asks for together matches no", "near: "],
            ),
        ] {
            let error = of(&[set]).unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
        let error = of(&["network.freeze=[\"*\"]"]).unwrap_err();
        assert!(error.contains("nothing is trained") && error.contains("all 16 parameters"), "{error}");
    }
}
