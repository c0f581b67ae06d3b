//! The bare work that a loader does, as the ceiling of its speed: no order, no channel, no batch handed over.

use std::hint::black_box;
use std::ops::Range;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};
use fovea_pipeline::decode::JpegDecoder;
use fovea_pipeline::kernels::{self, Mean, Normalize, Plane};
use fovea_pipeline::memory::{HostMemory, MemoryProvider};
use fovea_pipeline::random::sample_rng;
use fovea_pipeline::records::StoredRecord;
use fovea_pipeline::view::{Scratch, View};

use fovea_pipeline::{Chain, Encoding, MeanValue, Normalization, OutputForm, Records};
use half::f16;

/// Said of a thread that the system does not start.
pub const NO_THREAD: &str = "cannot start a thread; use fewer workers, or raise the limit (ulimit -u)";

/// A loop over images drawn at random.
#[derive(Clone, Copy, Debug)]
pub struct BareLoop<'a> {
    /// The images.
    pub records: &'a Records,
    /// What is made of them.
    pub form: &'a OutputForm,
    /// Images of a batch; batches are written one over the other.
    pub batch: usize,
    /// The augmentations.
    pub chain: &'a Chain,
    /// Whether they are a crop, a flip and an offset of the colours, for which the loop calls nothing but the
    /// kernels.
    pub is_plain: bool,
}

impl BareLoop<'_> {
    /// Does the work for `images` images on `threads` threads; gives images per second.
    ///
    /// # Errors
    /// When an image cannot be decoded, or memory or threads cannot be had.
    pub fn images_per_s(&self, threads: usize, images: u64) -> Result<f64> {
        let per_thread = images / threads as u64;
        let started = Instant::now();
        thread::scope(|scope| {
            let start = |number: u64| {
                let work = move || match self.form {
                    OutputForm::U8 => self.run::<u8>(None, number, per_thread),
                    OutputForm::F32(n) => self.run::<f32>(Some(n), number, per_thread),
                    OutputForm::F16(n) => self.run::<f16>(Some(n), number, per_thread),
                };
                thread::Builder::new().spawn_scoped(scope, work).context(NO_THREAD)
            };
            let threads: Vec<_> = (0..threads as u64).map(start).collect::<Result<_>>()?;
            threads.into_iter().try_for_each(|thread| thread.join().expect("the bare loop does not panic"))
        })?;
        Ok((per_thread * threads as u64) as f64 / started.elapsed().as_secs_f64())
    }

    fn run<T: Value>(&self, normalization: Option<&Normalization>, thread: u64, images: u64) -> Result<()> {
        let values = 3 * self.chain.output_size().area();
        // The same kind of memory as the loader's.
        let mut memory = HostMemory
            .allocate(self.batch * values * size_of::<T>())
            .map_err(|error| anyhow::anyhow!("no memory for the bare loop: {error}"))?;
        let batch: &mut [T] = bytemuck::cast_slice_mut(memory.bytes_mut());
        let mut decoder = JpegDecoder::default();
        let mut scratch = Scratch::default();
        // Looking them up belongs to the loader's work.
        let stored: Vec<StoredRecord> =
            (0..self.records.len()).map(|index| self.records.record(index)).collect::<Result<_, _>>()?;
        let mut planar = vec![0; values];
        // A linear congruential generator (Knuth, MMIX): random enough, and cheap.
        let mut state = thread + 1;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) * below) >> 31
        };
        for image in 0..images {
            let record = &stored[random(stored.len() as u64) as usize];
            let slot = &mut batch[image as usize % self.batch * values..][..values];
            if self.is_plain {
                self.crop(record, &mut decoder, &mut planar, &mut random, normalization, slot)?;
            } else {
                let mut view = record.pixels(&mut decoder)?.view(&mut scratch);
                self.chain.apply(&mut view, &mut sample_rng(thread, 0, image));
                T::write_view(&mut view, normalization, slot);
            }
            black_box(slot);
        }
        Ok(())
    }

    /// Crops, flips and normalises (and decodes) an image by nothing but the kernels.
    fn crop<T: Value>(
        &self,
        record: &StoredRecord,
        decoder: &mut JpegDecoder,
        planar: &mut [u8],
        random: &mut impl FnMut(u64) -> u64,
        normalization: Option<&Normalization>,
        slot: &mut [T],
    ) -> Result<()> {
        let record = record.get();
        let (stored, size) = (record.size.width as usize, self.chain.output_size());
        let (crop, area) = (size.width as usize, size.area());
        let mut place = |stored: u32, crop: u32| random(u64::from(stored - crop + 1)) as usize;
        let (x, y) = (place(record.size.width, size.width), place(record.size.height, size.height));
        let flipped = random(2) == 1;
        let offset = random(16) as f32;
        let (pixels, x, y, stride): (&[u8], _, _, _) = match self.records.encoding() {
            Encoding::Raw => (record.image, x, y, stored),
            Encoding::Jpeg => {
                let decoded = decoder
                    .decode(record.image, record.size)
                    .map_err(anyhow::Error::msg)
                    .context("decoding in the bare loop")?;
                let part = &decoded[3 * (y * stored + x)..];
                let part = Plane { pixels: part, stride: 3 * stored, size, flipped: false };
                kernels::deinterleave(part, planar);
                (planar, 0, 0, crop)
            }
        };
        for (channel, target) in slot.chunks_exact_mut(area).enumerate() {
            let start = channel * (pixels.len() / 3) + y * stride + x;
            let plane = Plane { pixels: &pixels[start..], stride, size, flipped };
            T::write(plane, normalization.map(|n| normalize(n, channel, offset, 0..area)), target);
        }
        Ok(())
    }
}

/// A value type that the bare loop writes.
trait Value: bytemuck::Pod {
    fn write(plane: Plane<'_>, normalize: Option<Normalize<'_>>, target: &mut [Self]);

    /// Writes a view to `[3,H,W]`.
    fn write_view(view: &mut View<'_>, normalization: Option<&Normalization>, target: &mut [Self]) {
        let (width, area, offset) = (view.size().width as usize, view.size().area(), view.color_offset());
        view.for_rows(|rows, planes| {
            let pixels = rows.start * width..rows.end * width;
            for (channel, plane) in planes.into_iter().enumerate() {
                let target = &mut target[channel * area..][pixels.clone()];
                let normalize = normalization.map(|n| normalize(n, channel, offset[channel], pixels.clone()));
                Self::write(plane, normalize, target);
            }
        });
    }
}

/// How these pixels of a channel are normalised.
fn normalize(
    normalization: &Normalization,
    channel: usize,
    offset: f32,
    pixels: Range<usize>,
) -> Normalize<'_> {
    let mean = match &normalization.mean {
        MeanValue::Channels(means) => Mean::Constant(means[channel]),
        MeanValue::Image(mean) => {
            let values = mean.as_slice().expect("made in standard layout");
            Mean::PerPixel(&values[channel * (values.len() / 3)..][pixels])
        }
    };
    Normalize { mean, offset, scale: normalization.scale[channel] }
}

impl Value for u8 {
    fn write(plane: Plane<'_>, _normalize: Option<Normalize<'_>>, target: &mut [Self]) {
        kernels::copy(plane, target);
    }

    fn write_view(view: &mut View<'_>, _normalization: Option<&Normalization>, target: &mut [Self]) {
        view.write_u8(target);
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
