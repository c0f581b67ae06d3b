//! The small data set inside the program, and the commands to run after it.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use fovea_datasets::prepare::{PrepareError, PrepareOptions, Preparer, Progress};
use fovea_datasets::{EmbeddedSample, Source};
use fovea_pipeline::Split;
use fovea_runtime::{cache_folder, create_private_folder};
use fovea_tools::errln;
use fovea_trainer::recipe::Recipe;

use super::WrongUsage;

/// Largest side in pixels for the sample's images, which are 28 pixels wide; beyond it they would only be
/// blown up.
const LARGEST_PX: usize = 64;

/// How long a process waits that finds another one preparing the sample, before it looks again.
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// The folder with the embedded sample in the recipe's image size; it is prepared once and kept.
pub fn prepared_sample(recipe: &Recipe) -> anyhow::Result<PathBuf> {
    let px = recipe.input.image_px;
    if px > LARGEST_PX {
        let name = &recipe.name;
        return Err(WrongUsage(format!(
            "recipe `{name}` needs images of {px} pixels; give a prepared data set with --data, or leave --recipe \
             out for the demonstration"
        ))
        .into());
    }
    let cache = cache_folder().context("no folder to prepare the sample in; set FOVEA_CACHE")?;
    create_private_folder(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let folder = cache.join("datasets").join(format!("embedded-sample-{px}"));
    let sample = EmbeddedSample::new();
    let options = PrepareOptions { size: px as u32, ..PrepareOptions::default() };
    let preparer = loop {
        match Preparer::new(&sample, options.clone(), &folder) {
            // Another process is in the folder, and will not be for long.
            Err(PrepareError::Busy { .. }) => thread::sleep(BETWEEN_TRIES),
            preparer => break preparer?,
        }
    };
    if preparer.shards_kept() < preparer.shards() {
        let [train, val] = Split::ALL.map(|split| sample.entries(split).len());
        errln!("preparing the built-in sample (Fashion-MNIST): {train} training and {val} validation images");
    }
    preparer.run(&Progress::default())?;
    Ok(folder)
}

/// The commands to run after the demonstration.
pub fn next_commands(run: &Path) -> String {
    format!(
        "\nThis was the demonstration. For ImageNet (ILSVRC-2012), with the official archives in one folder:\n\
         \n  cargo run --release --bin prepare_imagenet -- --train ILSVRC2012_img_train.tar --val ILSVRC2012_img_val.tar \
         --devkit ILSVRC2012_devkit_t12.tar.gz --out shards\
         \n  cargo run --release --bin trainer -- --data shards --epochs 90\
         \n  cargo run --release --bin trainer -- evaluate runs/alexnet-1 --data shards --ten-crop\n\
         \nThe metrics of this run are in {}; `tensorboard --logdir runs` draws them.\n",
        run.display()
    )
}
