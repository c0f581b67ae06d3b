//! Iterates over the training images of a prepared data set, as a trainer of your own would.
//!
//! `cargo run --release -p fovea-pipeline --example iterate -- DIR`

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use fovea_pipeline::geometry::Size;
use fovea_pipeline::{Chain, Dataset, Images, Loader, LoaderConfig, Split, augment};

fn main() -> Result<(), Box<dyn Error>> {
    let directory: PathBuf = std::env::args_os().nth(1).ok_or("usage: iterate DIR")?.into();
    let dataset = Dataset::open(&directory)?;
    let info = dataset.info();

    // What happens to each image: here the recipe of AlexNet; `Chain::new` takes augmentations of your own.
    let chain =
        Chain::from_configs(&augment::alexnet(), Size::square(info.image_size), info.statistics.as_ref())?;
    let records = Arc::new(dataset.records(Split::Train)?);
    let config = LoaderConfig { epochs: 0..2, batch_size: 64, seed: 42, ..LoaderConfig::training(chain) };

    let mut loader = Loader::start(records, config)?;
    let stats = loader.stats();
    for batch in &mut loader {
        let batch = batch?;
        let Images::U8(pixels) = batch.images() else { unreachable!("u8 is the default form") };
        let mean = pixels.iter().map(|&pixel| f64::from(pixel)).sum::<f64>() / pixels.len() as f64;
        let first = &info.classes[batch.labels()[0] as usize].name;
        println!(
            "epoch {} batch {}: mean pixel {mean:.1}, first label {first}",
            batch.epoch(),
            batch.index()
        );
    } // dropping a batch gives its memory back to the loader
    let snapshot = stats.snapshot();
    println!("{} images, waited {:?} for them", snapshot.images, snapshot.consumer_waiting);
    Ok(())
}
