//! `features`: activations of a layer as a file.

use std::{process::ExitCode, sync::Arc};

use anyhow::Context;
use fovea_trainer::{
    backend::Precision,
    features::{Extractor, Format, last_hidden, write_features},
    recipe::Recipe,
    training::{Trained, default_workers, open_dataset},
};

use super::{INTERRUPTED, STOP, args::FeaturesArgs, device, progress};

pub fn features(args: &FeaturesArgs) -> anyhow::Result<ExitCode> {
    Format::of(&args.out)?;
    let trained = Trained::load(&args.trained.run, args.trained.checkpoint.into())?;
    let dataset = open_dataset(&args.data, &trained.recipe)?;
    let records = Arc::new(dataset.records(args.split.into())?);
    let layer = layer(args.layer.as_deref(), &trained.recipe)?;
    let (loaded, options) = device::runtime(&args.runtime, Precision::F32)?;
    let mut extractor = Extractor::new(trained, Some(&layer), loaded, &options)?;

    let bar = progress::images_bar(records.len() as u64, "looking");
    let workers = args.workers.map_or_else(default_workers, usize::from);
    let data = (&records, dataset.info().classes.as_slice());
    let written = write_features(&args.out, &mut extractor, data, workers, &STOP, &mut |done| {
        bar.set_position(done as u64)
    })?;
    bar.finish_and_clear();
    if !written {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    eprintln!("{layer}: f32 [{}, {}]", records.len(), extractor.width());
    println!("{}", args.out.display());
    Ok(ExitCode::SUCCESS)
}

/// The layer that was asked for, or the last hidden one.
pub fn layer(asked: Option<&str>, recipe: &Recipe) -> anyhow::Result<String> {
    let layer = asked.or_else(|| last_hidden(recipe));
    layer
        .map(str::to_owned)
        .with_context(|| format!("recipe `{}` names no hidden layer; its network is a file", recipe.name))
}
