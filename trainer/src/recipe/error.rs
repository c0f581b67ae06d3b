//! Errors of recipes.

use std::io;
use std::path::PathBuf;

/// Why a recipe cannot be used; keys are written as they would be for `--set`.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// No built-in recipe has this name, and no file either.
    #[error("there is no recipe and no file `{given}`{}; recipes: {}", hint(nearest.as_deref()), known.join(", "))]
    UnknownRecipe {
        /// The name or path given.
        given: String,
        /// The known recipe with the most similar name.
        nearest: Option<String>,
        /// All built-in recipes.
        known: Vec<String>,
    },
    /// The file cannot be read.
    #[error("cannot read the recipe {}: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The file system's message.
        reason: io::Error,
    },
    /// The text is not TOML.
    #[error("recipe `{recipe}` is not TOML: {reason}")]
    Syntax {
        /// Name or path.
        recipe: String,
        /// Line, column and what the parser expected.
        reason: String,
    },
    /// Recipes build upon each other in a cycle, or too many in a chain.
    #[error("recipe `{recipe}` builds upon itself")]
    EndlessBase {
        /// Name or path.
        recipe: String,
    },
    /// An override is not of the form `key=value`.
    #[error("`--set {given}`: expected key=value, as in `--set optimizer.learning_rate=0.02`")]
    BadOverride {
        /// The text given.
        given: String,
    },
    /// A key, layer or operation that does not exist.
    #[error("recipe `{recipe}`: unknown key `{key}`{}; known there: {}", hint(nearest.as_deref()), known.join(", "))]
    UnknownKey {
        /// Name or path.
        recipe: String,
        /// The key, from the top.
        key: String,
        /// The most similar known key.
        nearest: Option<String>,
        /// All keys known at that place.
        known: Vec<String>,
    },
    /// A value of the wrong type, or a key that is missing.
    #[error("recipe `{recipe}`: `{key}`: {reason}")]
    WrongType {
        /// Name or path.
        recipe: String,
        /// The key, from the top.
        key: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// A value of the right type that is out of range.
    #[error("recipe `{recipe}`: `{key}` is {given}, expected {expected}")]
    BadValue {
        /// Name or path.
        recipe: String,
        /// The key, from the top.
        key: String,
        /// The value.
        given: String,
        /// The range of valid values.
        expected: String,
    },
    /// A pattern or condition that no parameter meets.
    #[error("recipe `{recipe}`: `{key}`: {given} matches no parameter of the network; near: {}", near.join(", "))]
    NoParameter {
        /// Name or path.
        recipe: String,
        /// The key, from the top.
        key: String,
        /// The pattern or the condition.
        given: String,
        /// Names of parameters.
        near: Vec<String>,
    },
    /// Nothing is left to train.
    #[error(
        "recipe `{recipe}`: nothing is trained: `network.freeze` and `network.train` leave all {parameters} \
         parameters as they are"
    )]
    NothingTrained {
        /// Name or path.
        recipe: String,
        /// Parameters of the network.
        parameters: usize,
    },
    /// A layer does not fit what comes before it.
    #[error("recipe `{recipe}`: layer `{layer}`: {reason}")]
    Shape {
        /// Name or path.
        recipe: String,
        /// Name of the layer.
        layer: String,
        /// What does not fit, with the numbers.
        reason: String,
    },
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}
