//! Measures a loader against the bare work that it does.
//!
//! The *ceiling* is a bare loop on as many threads as the loader has workers. It alternates with the loader,
//! so that a machine whose speed drifts slows both.

use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fovea_pipeline::batch::BatchShape;
use fovea_pipeline::form::center_of;
use fovea_pipeline::geometry::Size;
use fovea_pipeline::summary::median;
use fovea_pipeline::{
    AugmentationConfig, Chain, Dataset, Loader, LoaderConfig, MeanValue, Normalization, OutputForm, Records,
    Split,
};
use serde::Serialize;

use crate::bare::{BareLoop, NO_THREAD};

/// The form of the batches that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// `u8 [N,3,224,224]` and colour offsets.
    U8,
    /// `f16 [N,3,224,224]`, mean subtracted, jittered, scaled.
    F16,
    /// `f32 [N,3,224,224]`, mean subtracted, jittered, scaled.
    F32,
}

/// Mean that the forms f16 and f32 subtract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Subtract {
    /// The mean of each channel.
    Channel,
    /// The mean image, as the paper does: 600 KB more to read for every image.
    Image,
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The form of the batches.
    pub form: Form,
    /// Mean that is subtracted in the forms f16 and f32.
    pub subtract: Subtract,
    /// Samples of a batch.
    pub batch: usize,
    /// Epochs of the loader, and of the bare loop, in each round.
    pub epochs: u64,
    /// Rounds of the loader and of the bare loop, alternating; the medians count.
    pub rounds: usize,
    /// The augmentations.
    pub steps: Vec<AugmentationConfig>,
    /// Whether these are the paper's, whose bare loop needs nothing but the kernels.
    pub is_plain: bool,
}

/// Results for one number of workers.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// `raw` or `jpeg`.
    pub encoding: &'static str,
    /// `u8`, `f16` or `f32`.
    pub form: &'static str,
    /// The augmentations, by name.
    pub augment: Vec<String>,
    /// Threads of the loader and of the bare loop.
    pub workers: usize,
    /// Samples of a batch.
    pub batch: usize,
    /// Samples per second out of the loader.
    pub images_per_s: f64,
    /// Bytes of batches per second out of the loader.
    pub bytes_per_s: f64,
    /// CPU time of the process per 1000 samples.
    pub cpu_s_per_1000: f64,
    /// Peak memory of the process while the loader ran, including mapped pages of the shards.
    pub peak_rss_bytes: u64,
    /// Peak memory of the process while the loader ran, without the mapped pages of the shards.
    pub peak_anonymous_bytes: u64,
    /// Bytes of the split's shards.
    pub mapped_bytes: u64,
    /// Bytes per second that as many threads copy from memory to memory.
    pub memcpy_bytes_per_s: f64,
    /// Samples per second of the bare loop.
    pub ceiling_images_per_s: f64,
    /// `images_per_s / ceiling_images_per_s`, the median over the rounds.
    pub ratio_to_ceiling: f64,
    /// Share of time for which the consumer waited for a batch.
    pub consumer_wait_share: f64,
    /// Share of time for which the workers waited for a free buffer.
    pub workers_wait_share: f64,
}

/// Measures a loader over the training images of `dataset` with `workers` threads.
///
/// # Errors
/// When the data set cannot be read or does not fit the settings.
pub fn measure(dataset: &Dataset, settings: &Settings, workers: usize) -> Result<Measurement> {
    let records = Arc::new(dataset.records(Split::Train)?);
    let info = dataset.info();
    let chain = || Chain::from_configs(&settings.steps, info.image_sizes(), info.statistics.as_ref());
    let size = chain()?.output_size();
    let form = output_form(dataset, settings, size)?;

    let mut loaded = Vec::new();
    let mut bare = Vec::new();
    for round in 0..settings.rounds {
        let config = LoaderConfig {
            batch_size: settings.batch,
            workers,
            seed: round as u64,
            // The first epoch warms the page cache and verifies the checksums; it is not counted.
            epochs: 0..1 + settings.epochs,
            form: form.clone(),
            buffers: BUFFERS,
            ..LoaderConfig::training(chain()?)
        };
        loaded.push(run_loader(&records, config)?);
        let images = settings.epochs * records.len() as u64;
        let chain = chain()?;
        let work = BareLoop {
            records: &records,
            form: &form,
            batch: settings.batch,
            chain: &chain,
            is_plain: settings.is_plain,
        };
        bare.push(work.images_per_s(workers, images)?);
    }
    let ratios: Vec<_> = loaded.iter().zip(&bare).map(|(loaded, bare)| loaded.images_per_s / bare).collect();
    let middle = |values: &[f64]| median(values).context("no round was measured");
    let of_runs = |value: fn(&LoaderRun) -> f64| middle(&loaded.iter().map(value).collect::<Vec<_>>());
    let per_image = BatchShape { samples: 1, views: 1, size }.values();
    let images_per_s = of_runs(|run| run.images_per_s)?;
    Ok(Measurement {
        encoding: info.encoding.name(),
        form: form.name(),
        augment: settings.steps.iter().map(|step| step.op.clone()).collect(),
        workers,
        batch: settings.batch,
        images_per_s,
        bytes_per_s: images_per_s * (per_image * value_bytes(settings.form)) as f64,
        cpu_s_per_1000: of_runs(|run| run.cpu_s_per_1000)?,
        // From the first round: later the allocator may keep memory of the bare loop.
        peak_rss_bytes: loaded[0].peak_rss_bytes,
        peak_anonymous_bytes: loaded[0].peak_anonymous_bytes,
        mapped_bytes: info.shards(Split::Train).iter().map(|shard| shard.bytes).sum(),
        memcpy_bytes_per_s: memcpy_bytes_per_s(workers)?,
        ceiling_images_per_s: middle(&bare)?,
        ratio_to_ceiling: middle(&ratios)?,
        consumer_wait_share: of_runs(|run| run.consumer_wait_share)?,
        workers_wait_share: of_runs(|run| run.workers_wait_share)?,
    })
}

/// Buffers of the loader: one being filled and one held by the consumer, enough for a consumer that does
/// nothing.
const BUFFERS: usize = 2;

fn output_form(dataset: &Dataset, settings: &Settings, views: Size) -> Result<OutputForm> {
    if settings.form == Form::U8 {
        return Ok(OutputForm::U8);
    }
    let mean = match settings.subtract {
        Subtract::Image => {
            let side = dataset.info().image_size;
            ensure!(
                views.width <= side && views.height <= side,
                "views of {views} pixels are larger than the mean image of {side}x{side}; use --subtract channel"
            );
            MeanValue::Image(center_of(dataset.mean_image()?.view(), views))
        }
        Subtract::Channel => {
            let statistics = dataset.info().statistics.as_ref().context("the data set has no statistics")?;
            MeanValue::Channels(statistics.mean.map(|mean| mean as f32))
        }
    };
    let normalization = Normalization { mean, scale: [1.0 / 58.0; 3] };
    Ok(match settings.form {
        Form::F32 => OutputForm::F32(normalization),
        Form::F16 | Form::U8 => OutputForm::F16(normalization),
    })
}

fn value_bytes(form: Form) -> usize {
    match form {
        Form::U8 => 1,
        Form::F16 => 2,
        Form::F32 => 4,
    }
}

/// One run of the loader.
struct LoaderRun {
    images_per_s: f64,
    cpu_s_per_1000: f64,
    peak_rss_bytes: u64,
    peak_anonymous_bytes: u64,
    consumer_wait_share: f64,
    workers_wait_share: f64,
}

/// Batches between two samples of the process's memory.
const MEMORY_SAMPLE_BATCHES: u64 = 32;

fn run_loader(records: &Arc<Records>, config: LoaderConfig) -> Result<LoaderRun> {
    reset_peak_rss();
    let workers = config.workers as f64;
    let mut loader = Loader::start(Arc::clone(records), config)?;
    let stats = loader.stats();
    let warm_up = loader.batches_per_epoch();
    let mut start = (Instant::now(), cpu_time(), stats.snapshot());
    let (mut images, mut peak_anonymous_bytes, mut batches) = (0, 0, 0);
    for batch in &mut loader {
        let batch = batch?;
        if batches == warm_up {
            start = (Instant::now(), cpu_time(), stats.snapshot());
            images = 0;
        }
        batches += 1;
        if batches % MEMORY_SAMPLE_BATCHES == 0 {
            peak_anonymous_bytes = peak_anonymous_bytes.max(status_bytes("RssAnon:"));
        }
        images += batch.len();
        black_box(batch.image_bytes().as_ptr());
    }
    let (elapsed, cpu) = (start.0.elapsed().as_secs_f64(), cpu_time() - start.1);
    let counted = stats.snapshot().since(&start.2);
    Ok(LoaderRun {
        images_per_s: images as f64 / elapsed,
        cpu_s_per_1000: cpu.as_secs_f64() / images as f64 * 1000.0,
        peak_rss_bytes: status_bytes("VmHWM:"),
        peak_anonymous_bytes: peak_anonymous_bytes.max(status_bytes("RssAnon:")),
        consumer_wait_share: counted.consumer_waiting.as_secs_f64() / elapsed,
        workers_wait_share: counted.workers_waiting.as_secs_f64() / (elapsed * workers),
    })
}

/// Bytes per second that `threads` threads copy, each between two blocks larger than its caches; of many
/// threads, larger than their share of a cache that all have.
fn memcpy_bytes_per_s(threads: usize) -> Result<f64> {
    const ALL_BYTES: usize = 1 << 30;
    const COPIES: usize = 24;
    let block_bytes = (32 << 20).min(ALL_BYTES / threads);
    let blocks: Vec<_> = (0..threads).map(|_| (vec![1_u8; block_bytes], vec![2_u8; block_bytes])).collect();
    let started = Instant::now();
    thread::scope(|scope| {
        for (from, mut to) in blocks {
            let work = move || {
                for _ in 0..COPIES {
                    to.copy_from_slice(black_box(&from));
                    black_box(&mut to);
                }
            };
            thread::Builder::new().spawn_scoped(scope, work).context(NO_THREAD)?;
        }
        anyhow::Ok(())
    })?;
    Ok((threads * COPIES * block_bytes) as f64 / started.elapsed().as_secs_f64())
}

/// CPU time of the process, in user and kernel mode.
fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name in parentheses, which may hold spaces, fields 14 and 15 are utime and stime in ticks of
    // 10 ms.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

/// A size in `/proc/self/status`; 0 where there is no such file.
fn status_bytes(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
}

/// Resets the kernel's record of peak memory.
fn reset_peak_rss() {
    // Where this is not allowed, the peak is that of the whole process.
    let _ = fs::write("/proc/self/clear_refs", "5");
}
