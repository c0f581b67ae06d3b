//! `features`: activations of a layer as a file.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use fovea_analysis::features::{Extractor, Format, Origin, write_features};
use fovea_graph::Network;
use fovea_pipeline::cores;
use fovea_tools::bars::titled_bar;
use fovea_tools::terminal::INTERRUPTED;
use fovea_tools::{errln, outln};
use fovea_trainer::backend::Precision;
use fovea_trainer::training::{TrainedModel, TrainingError};

use super::args::FeaturesArgs;
use super::{STOP, WrongUsage, data, device, finish_first};

pub fn features(args: &FeaturesArgs) -> anyhow::Result<ExitCode> {
    Format::from_path(&args.out).map_err(|error| WrongUsage(error.to_string()))?;
    check_folder_of(&args.out)?;
    let trained = TrainedModel::load(&args.trained.run, args.trained.checkpoint)?;
    let layer = layer(args.layer.as_deref(), &*trained.network.network)?;
    let dataset = data::open_for(&args.cache, &args.data, &trained.recipe)?;
    let records = Arc::new(dataset.records(args.split).map_err(TrainingError::from)?);
    let (loaded, options) = device::runtime(&args.runtime, None, Precision::F32)?;
    let origin = Origin { layer, run: args.trained.run.clone(), checkpoint: trained.path.clone() };
    let mut extractor = Extractor::new(trained, Some(&origin.layer), loaded, &options)?;

    let bar = titled_bar("looking", records.len() as u64, "images");
    let workers = args.workers.unwrap_or_else(cores).get();
    let data = (&records, dataset.info().classes.as_slice());
    let from = (&mut extractor, &origin);
    let _finish = finish_first("the batch");
    let written =
        write_features(&args.out, from, data, workers, &STOP, &mut |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    if !written {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    errln!("{}: f32 [{}, {}]", origin.layer, records.len(), extractor.width());
    outln!("{}", args.out.display())?;
    Ok(ExitCode::SUCCESS)
}

/// The layer `asked` of a network, by default the last hidden one.
pub fn layer(asked: Option<&str>, network: &dyn Network) -> Result<String, WrongUsage> {
    let (name, known) = (network.name(), network.taps());
    let known_names = known.join(", ");
    match asked.map(str::to_owned).or_else(|| network.last_hidden()) {
        None => Err(WrongUsage(format!(
            "network `{name}` has no hidden layer before a linear one; give one with --layer: {known_names}"
        ))),
        Some(layer) if known.contains(&layer) => Ok(layer),
        Some(layer) => {
            Err(WrongUsage(format!("network `{name}` has no layer `{layer}`; its layers: {known_names}")))
        }
    }
}

/// Checks that the folder of a file exists, before much time is spent on its content.
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
    use fovea_trainer::models::Layers;
    use fovea_trainer::recipe::Recipe;

    use super::*;

    #[test]
    fn a_layer_is_one_of_the_network_by_default_the_last_hidden_one() {
        let network = |recipe: &Recipe| Layers::new(recipe, 10);
        let recipe = Recipe::load("demo", &[]).unwrap();
        assert_eq!(layer(None, &network(&recipe)).unwrap(), "relu7");
        assert_eq!(layer(Some("conv1"), &network(&recipe)).unwrap(), "conv1");
        let error = layer(Some("conv9"), &network(&recipe)).unwrap_err().to_string();
        assert!(error.contains("no layer `conv9`; its layers: conv1, relu1, "), "{error}");
        let mut convolutions = recipe.clone();
        convolutions.network.layer.truncate(4);
        assert_eq!(layer(Some("pool1"), &network(&convolutions)).unwrap(), "pool1");
        let error = layer(None, &network(&convolutions)).unwrap_err().to_string();
        assert!(error.ends_with("give one with --layer: conv1, relu1, norm1, pool1"), "{error}");
    }

    #[test]
    fn a_file_without_a_folder_is_refused_and_one_beside_the_user_is_not() {
        check_folder_of(Path::new("found.png")).unwrap();
        let error = check_folder_of(Path::new("no/such/found.png")).unwrap_err().to_string();
        assert!(error.contains("no/such/found.png: there is no folder no/such; make it"), "{error}");
    }
}
