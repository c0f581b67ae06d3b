//! `features`: activations of a layer as a file.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use fovea_analysis::features::{Extractor, Format, Origin, last_hidden, write_features};
use fovea_tools::terminal::INTERRUPTED;
use fovea_tools::{say, tell};
use fovea_trainer::backend::Precision;
use fovea_trainer::recipe::Recipe;
use fovea_trainer::training::{Trained, default_workers, open_dataset};

use super::args::FeaturesArgs;
use super::{STOP, WrongUsage, device, progress};

pub fn features(args: &FeaturesArgs) -> anyhow::Result<ExitCode> {
    Format::of(&args.out).map_err(|error| WrongUsage(error.to_string()))?;
    check_folder_of(&args.out)?;
    let trained = Trained::load(&args.trained.run, args.trained.checkpoint.into())?;
    let layer = layer(args.layer.as_deref(), &trained.recipe)?;
    let dataset = open_dataset(&args.data, &trained.recipe)?;
    let records = Arc::new(dataset.records(args.split.into())?);
    let (loaded, options) = device::runtime(&args.runtime, None, Precision::F32)?;
    let origin = Origin { layer, run: args.trained.run.clone(), checkpoint: trained.path.clone() };
    let mut extractor = Extractor::new(trained, Some(&origin.layer), loaded, &options)?;

    let bar = progress::images_bar(records.len() as u64, "looking");
    let workers = args.workers.map_or_else(default_workers, usize::from);
    let data = (&records, dataset.info().classes.as_slice());
    let from = (&mut extractor, &origin);
    let written =
        write_features(&args.out, from, data, workers, &STOP, &mut |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    if !written {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    tell!("{}: f32 [{}, {}]", origin.layer, records.len(), extractor.width());
    say!("{}", args.out.display())?;
    Ok(ExitCode::SUCCESS)
}

/// The layer that was asked for, or the last hidden one; what is wrong with the command line if there is none.
pub fn layer(asked: Option<&str>, recipe: &Recipe) -> Result<String, WrongUsage> {
    let name = &recipe.name;
    let known: Vec<&str> = recipe.network.layer.iter().map(|layer| layer.name.as_str()).collect();
    if known.is_empty() {
        return Err(WrongUsage(format!("recipe `{name}` names no layer; its network is a file")));
    }
    let known_names = known.join(", ");
    match asked.or_else(|| last_hidden(recipe)) {
        None => Err(WrongUsage(format!(
            "recipe `{name}` has no hidden layer before a linear one; give one with --layer: {known_names}"
        ))),
        Some(layer) if known.contains(&layer) => Ok(layer.to_owned()),
        Some(layer) => {
            Err(WrongUsage(format!("recipe `{name}` has no layer `{layer}`; its layers: {known_names}")))
        }
    }
}

/// Whether a file can be where it is wanted, before much time is spent on what shall stand in it.
pub fn check_folder_of(file: &Path) -> anyhow::Result<()> {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            bail!("cannot write {}: there is no folder {}; make it first", file.display(), folder.display())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_one_of_the_recipe_by_default_the_last_hidden_one() {
        let recipe = Recipe::load("demo", &[]).unwrap();
        assert_eq!(layer(None, &recipe).unwrap(), "relu7");
        assert_eq!(layer(Some("conv1"), &recipe).unwrap(), "conv1");
        let error = layer(Some("conv9"), &recipe).unwrap_err().to_string();
        assert!(error.contains("no layer `conv9`; its layers: conv1, relu1, "), "{error}");
        let mut convolutions = recipe.clone();
        convolutions.network.layer.truncate(4);
        assert_eq!(layer(Some("pool1"), &convolutions).unwrap(), "pool1");
        let error = layer(None, &convolutions).unwrap_err().to_string();
        assert!(error.ends_with("give one with --layer: conv1, relu1, norm1, pool1"), "{error}");
    }

    #[test]
    fn a_file_without_a_folder_is_refused_and_one_beside_the_user_is_not() {
        check_folder_of(Path::new("found.png")).unwrap();
        let error = check_folder_of(Path::new("no/such/found.png")).unwrap_err().to_string();
        assert!(error.contains("no/such/found.png: there is no folder no/such; make it"), "{error}");
    }
}
