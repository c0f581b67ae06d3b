//! `recipes`: lists the built-in recipes, or prints one.

use std::process::ExitCode;

use fovea_tools::outln;
use fovea_trainer::recipe::Recipe;
use serde_json::{Value, json};

pub fn list(as_json: bool) -> anyhow::Result<ExitCode> {
    let recipes = Recipe::built_in().map(|name| Recipe::load(name, &[])).collect::<Result<Vec<_>, _>>()?;
    if as_json {
        let list: Vec<Value> = recipes
            .iter()
            .map(|recipe| {
                json!({
                    "name": recipe.name,
                    "description": recipe.description,
                    "image_px": recipe.input.image_px,
                    "epochs": recipe.training.epochs,
                })
            })
            .collect();
        outln!("{}", Value::from(list))?;
        return Ok(ExitCode::SUCCESS);
    }
    let width = recipes.iter().map(|recipe| recipe.name.len()).max().unwrap_or(0);
    for recipe in &recipes {
        outln!("{:width$}  {:3} px  {}", recipe.name, recipe.input.image_px, recipe.description)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a recipe with all its keys, after its sources.
pub fn print(name_or_path: &str, as_json: bool) -> anyhow::Result<ExitCode> {
    let recipe = Recipe::load(name_or_path, &[])?;
    if as_json {
        outln!("{}", serde_json::to_value(&recipe)?)?;
    } else {
        outln!("{}{}", Recipe::sources(name_or_path), recipe.to_toml().trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}
