//! Measures a loader against the bare work that it does.
//!
//! The *ceiling* is a loop that only crops, flips and normalises (and decodes) on as many threads as the
//! loader has workers: no order, no channel, no batch handed over. It alternates with the loader, so that a
//! machine whose speed drifts slows both.

use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fovea_pipeline::batch::BatchShape;
use fovea_pipeline::decode::JpegDecoder;
use fovea_pipeline::form::center_of;
use fovea_pipeline::geometry::Size;
use fovea_pipeline::kernels::{self, Mean, Normalize, Plane};
use fovea_pipeline::memory::{HostMemory, MemoryProvider};
use fovea_pipeline::summary::median;
use fovea_pipeline::{
    Chain, Dataset, Encoding, Loader, LoaderConfig, MeanValue, Normalization, OutputForm, Records, Split,
    augment,
};
use half::f16;
use serde::Serialize;

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
    /// Side of the crop in pixels.
    pub crop: u32,
}

/// Results for one number of workers.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// `raw` or `jpeg`.
    pub encoding: &'static str,
    /// `u8`, `f16` or `f32`.
    pub form: &'static str,
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
    let form = output_form(dataset, settings)?;
    let info = dataset.info();
    let mut steps = augment::alexnet();
    steps[0].parameters.insert("size".into(), settings.crop.into());
    let stored = Size::square(info.image_size);

    let mut loaded = Vec::new();
    let mut bare = Vec::new();
    for round in 0..settings.rounds {
        let chain = Chain::from_configs(&steps, stored, info.statistics.as_ref())?;
        let config = LoaderConfig {
            batch_size: settings.batch,
            workers,
            seed: round as u64,
            // The first epoch warms the page cache and verifies the checksums; it is not counted.
            epochs: 0..1 + settings.epochs,
            form: form.clone(),
            buffers: BUFFERS,
            ..LoaderConfig::training(chain)
        };
        loaded.push(run_loader(&records, config)?);
        let images = settings.epochs * records.len() as u64;
        bare.push(run_bare_loop(&records, &form, settings, workers, images)?);
    }
    let ratios: Vec<_> = loaded.iter().zip(&bare).map(|(loaded, bare)| loaded.images_per_s / bare).collect();
    let middle = |values: &[f64]| median(values).context("no round was measured");
    let of_runs = |value: fn(&LoaderRun) -> f64| middle(&loaded.iter().map(value).collect::<Vec<_>>());
    let per_image = BatchShape { samples: 1, views: 1, size: Size::square(settings.crop) }.values();
    let images_per_s = of_runs(|run| run.images_per_s)?;
    Ok(Measurement {
        encoding: info.encoding.name(),
        form: form.name(),
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

/// Said of a thread that the system does not start.
const NO_THREAD: &str = "cannot start a thread; use fewer workers, or raise the limit (ulimit -u)";

fn output_form(dataset: &Dataset, settings: &Settings) -> Result<OutputForm> {
    if settings.form == Form::U8 {
        return Ok(OutputForm::U8);
    }
    let mean = match settings.subtract {
        Subtract::Image => {
            MeanValue::Image(center_of(dataset.mean_image()?.view(), Size::square(settings.crop)))
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

/// The bare work for `images` images on `threads` threads, without a loader; gives images per second.
fn run_bare_loop(
    records: &Records,
    form: &OutputForm,
    settings: &Settings,
    threads: usize,
    images: u64,
) -> Result<f64> {
    let per_thread = images / threads as u64;
    let started = Instant::now();
    thread::scope(|scope| {
        let start = |number: u64| {
            let work = move || match form {
                OutputForm::U8 => bare_thread::<u8>(records, settings, None, number, per_thread),
                OutputForm::F32(n) => bare_thread::<f32>(records, settings, Some(n), number, per_thread),
                OutputForm::F16(n) => bare_thread::<f16>(records, settings, Some(n), number, per_thread),
            };
            thread::Builder::new().spawn_scoped(scope, work).context(NO_THREAD)
        };
        let threads: Vec<_> = (0..threads as u64).map(start).collect::<Result<_>>()?;
        threads.into_iter().try_for_each(|thread| thread.join().expect("the bare loop does not panic"))
    })?;
    Ok((per_thread * threads as u64) as f64 / started.elapsed().as_secs_f64())
}

/// A value type that the bare loop writes.
trait Value: bytemuck::Pod {
    fn write(plane: Plane<'_>, normalize: Option<Normalize<'_>>, target: &mut [Self]);
}

impl Value for u8 {
    fn write(plane: Plane<'_>, _normalize: Option<Normalize<'_>>, target: &mut [Self]) {
        kernels::copy(plane, target);
    }
}

impl Value for f32 {
    fn write(plane: Plane<'_>, normalize: Option<Normalize<'_>>, target: &mut [Self]) {
        kernels::normalize_f32(plane, normalize.expect("floats are normalised"), target);
    }
}

impl Value for f16 {
    fn write(plane: Plane<'_>, normalize: Option<Normalize<'_>>, target: &mut [Self]) {
        kernels::normalize_f16(plane, normalize.expect("floats are normalised"), target);
    }
}

fn bare_thread<T: Value>(
    records: &Records,
    settings: &Settings,
    normalization: Option<&Normalization>,
    thread: u64,
    images: u64,
) -> Result<()> {
    let (stored, crop) = (records.image_size() as usize, settings.crop as usize);
    let area = crop * crop;
    // The same kind of memory as the loader's.
    let mut memory = HostMemory
        .allocate(settings.batch * 3 * area * size_of::<T>())
        .map_err(|error| anyhow::anyhow!("no memory for the bare loop: {error}"))?;
    let batch: &mut [T] = bytemuck::cast_slice_mut(memory.bytes_mut());
    // Looking them up belongs to the loader's work.
    let stored_records =
        (0..records.len()).map(|index| records.record(index)).collect::<Result<Vec<_>, _>>()?;
    let mut decoder = JpegDecoder::default();
    let mut planar = vec![0; 3 * stored * stored];
    // A linear congruential generator (Knuth, MMIX): random enough, and cheap.
    let mut state = thread + 1;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) * below) >> 31
    };
    for image in 0..images {
        let record = stored_records[random(records.len() as u64) as usize].get();
        let free = (stored - crop + 1) as u64;
        let (x, y, flipped) = (random(free) as usize, random(free) as usize, random(2) == 1);
        let offset = random(16) as f32;
        let size = Size::square(settings.crop);
        let (pixels, x, y, stride): (&[u8], _, _, _) = match records.encoding() {
            Encoding::Raw => (record.image, x, y, stored),
            Encoding::Jpeg => {
                let decoded = decoder
                    .decode(record.image, stored as u32)
                    .map_err(anyhow::Error::msg)
                    .context("decoding in the bare loop")?;
                let part = &decoded[3 * (y * stored + x)..];
                let part = Plane { pixels: part, stride: 3 * stored, size, flipped: false };
                kernels::deinterleave(part, &mut planar[..3 * area]);
                (&planar[..3 * area], 0, 0, crop)
            }
        };
        let slot = &mut batch[image as usize % settings.batch * 3 * area..][..3 * area];
        for (channel, target) in slot.chunks_exact_mut(area).enumerate() {
            let start = channel * (pixels.len() / 3) + y * stride + x;
            let plane = Plane { pixels: &pixels[start..], stride, size, flipped };
            let normalize = normalization.map(|normalization| Normalize {
                mean: match &normalization.mean {
                    MeanValue::Channels(means) => Mean::Constant(means[channel]),
                    MeanValue::Image(mean) => {
                        let values = mean.as_slice().expect("made in standard layout");
                        Mean::PerPixel(&values[channel * area..][..area])
                    }
                },
                offset,
                scale: normalization.scale[channel],
            });
            T::write(plane, normalize, target);
        }
        black_box(slot);
    }
    Ok(())
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
