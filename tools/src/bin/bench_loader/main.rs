//! `bench_loader`: the loader's speed, compared with the bare work that it does.

mod augment;
mod bare;
mod measure;

use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use fovea_pipeline::Split;
use fovea_tools::args::{number, threads};
use fovea_tools::data::CacheArgs;
use fovea_tools::{outln, signals, terminal};

use crate::augment::Steps;
use crate::measure::{Form, Measurement, Settings, Subtract, measure};

/// Measures the loader over the training images of a prepared data set.
///
/// Rounds of the loader alternate with rounds of a bare loop that does the same work on images drawn at
/// random, on as many threads, without order, channel or batches: the ceiling. The page cache is warm and
/// every checksum has been checked when the clock starts.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// A folder that prepare_imagenet has written, or the URL of a prepared data set.
    #[arg(value_name = "DIR|URL")]
    directory: PathBuf,
    #[command(flatten)]
    cache: CacheArgs,
    /// Numbers of workers to measure, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "1,2", value_name = "N", value_parser = threads())]
    workers: Vec<NonZero<usize>>,
    /// Type of the batches' values.
    #[arg(long, value_enum, default_value = "u8")]
    form: Form,
    /// Mean that the forms f16 and f32 subtract.
    #[arg(long, value_enum, default_value = "channel")]
    subtract: Subtract,
    /// Images of a batch.
    #[arg(long, default_value_t = 128, value_name = "IMAGES", value_parser = number::<usize>(1..=1_000_000, "images"))]
    batch: usize,
    /// Epochs of each of the five rounds [default: as many as make 16,000 images].
    #[arg(long, value_name = "K", value_parser = number::<u64>(1..=1_000_000, "epochs"))]
    epochs: Option<u64>,
    /// Augmentations: names separated by commas, a list as recipes have it, as in
    /// '[{ op = "random_resized_crop", scale = [0.35, 1] }]', or the file of a recipe [default: the paper's
    /// random_crop,horizontal_flip,pca_jitter].
    #[arg(long, value_name = "NAMES|LIST|FILE", value_parser = Steps::parse)]
    augment: Option<Steps>,
    /// Side of crops that say none, in pixels [default: 7/8 of the image's].
    #[arg(long, value_name = "PIXELS", value_parser = number::<u32>(1..=16_384, "pixels"))]
    crop: Option<u32>,
    /// Prints one JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Rounds of the loader, and of the bare loop.
const ROUNDS: usize = 5;

/// Images of a round if no epochs are given.
const IMAGES_PER_ROUND: u64 = 16_000;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    terminal::exit_code(signals::install().and_then(|()| run(&arguments)))
}

fn run(arguments: &Arguments) -> Result<()> {
    let dataset = arguments.cache.open(&arguments.directory)?;
    let images = dataset.info().images(Split::Train).max(1);
    let crop = arguments.crop.unwrap_or(dataset.info().image_size * 7 / 8);
    let settings = Settings {
        form: arguments.form,
        subtract: arguments.subtract,
        batch: arguments.batch,
        epochs: arguments.epochs.unwrap_or_else(|| IMAGES_PER_ROUND.div_ceil(images)),
        rounds: ROUNDS,
        steps: arguments.augment.clone().unwrap_or_else(Steps::of_paper).with_crop(crop),
        is_plain: arguments.augment.is_none(),
    };
    let mut one_worker = None;
    for &workers in &arguments.workers {
        let measurement = measure(&dataset, &settings, workers.get())?;
        if arguments.json {
            terminal::print_json(&measurement)?;
        } else {
            print_for_people(&measurement, one_worker)?;
        }
        if workers.get() == 1 {
            one_worker = Some(measurement.images_per_s);
        }
    }
    Ok(())
}

fn print_for_people(m: &Measurement, one_worker: Option<f64>) -> Result<()> {
    outln!("{} -> {}, batch {}, {} workers", m.encoding, m.form, m.batch, m.workers)?;
    outln!("  {}", m.augment.join(", "))?;
    outln!("  {:>10.0} images/s   {:.2} GB/s of batches", m.images_per_s, m.bytes_per_s / 1e9)?;
    if let Some(one) = one_worker.filter(|_| m.workers > 1) {
        outln!("  {:>10.2} times the speed of one worker", m.images_per_s / one)?;
    }
    outln!(
        "  {:>10.0} images/s   the bare loop; the loader reaches {:.2} of it",
        m.ceiling_images_per_s,
        m.ratio_to_ceiling
    )?;
    outln!("  {:>10.3} CPU seconds per 1000 images", m.cpu_s_per_1000)?;
    outln!(
        "  {:>10.0} MB peak memory without the mapped shards ({:.0} MB with the mapped pages)",
        m.peak_anonymous_bytes as f64 / 1e6,
        m.peak_rss_bytes as f64 / 1e6
    )?;
    outln!("  {:>10.2} GB/s memcpy on {} threads", m.memcpy_bytes_per_s / 1e9, m.workers)?;
    outln!(
        "  {:>9.0}% of the time the consumer waited; workers waited {:.0}%",
        100.0 * m.consumer_wait_share,
        100.0 * m.workers_wait_share
    )?;
    Ok(())
}
