//! The computation of a step: what goes to the device, and what comes back.

use std::ops::Range;

use super::OrtBackend;
use crate::backend::{
    BackendError, BatchMetrics, MicroBatch, NextImages, Rows, fill_mask, fill_noise, largest_magnitude,
};
use crate::collective::{Shares, common};

impl OrtBackend {
    /// Gradients of a batch; meanwhile fetches the images of the next one.
    pub(super) fn compute(
        &mut self,
        rows: &Rows<'_>,
        micro_batch: &MicroBatch,
        next: Option<NextImages<'_>>,
    ) -> Result<BatchMetrics, BackendError> {
        self.train_limits.check_training(rows)?;
        self.train.check(&rows.targets)?;
        self.batch.write(rows)?;
        let count = rows.targets.len();
        self.train.offsets.write(|values| {
            values[..3 * count].copy_from_slice(rows.color_offsets[..count].as_flattened());
            // Rows that do not count must still be numbers: 0 · NaN would be NaN.
            values[3 * count..].fill(0.0);
        })?;
        self.train.scale.fill(micro_batch.gradient_scale)?;
        if let Some(mixed) = &mut self.train.mixed {
            mixed.write(&rows.targets)?;
        }
        if let (Some(half), Some(scale)) = (&mut self.train.half, &self.loss_scale) {
            half.loss_scale.fill(scale.factor())?;
        }
        for ((feed, mask), index) in self.train.masks.iter_mut().zip(&self.network.drawn.masks).zip(0..) {
            let row_len = mask.shape[1..].iter().product();
            feed.write(|values| fill_mask(micro_batch, index, mask.keep, row_len, values))?;
        }
        for ((feed, noise), index) in self.train.noises.iter_mut().zip(&self.network.drawn.noises).zip(0..) {
            let row_len = noise.shape[1..].iter().product();
            feed.write(|values| fill_noise(micro_batch, index, noise.distribution, row_len, values))?;
        }
        let doing = match self.options.records() {
            true => "record or replay a training step (--no-cuda-graph launches its kernels one by one)",
            false => "run a training step",
        };
        let id = micro_batch.id;
        let sum = self.branches.len();
        let to = sum + usize::from(self.micro_batches > 0);
        self.prepare_gradients(to)?;
        let binding = match to {
            0 => &mut self.train.binding,
            _ => &mut self.further[to - 1].binding,
        };
        let images = self.train.images.as_mut().unwrap_or(&mut self.batch.images);
        images.run_and_fetch(id, rows.images, next, binding, &mut self.train.session, doing)?;
        if to > sum {
            self.further[sum].adder.run()?;
        }
        self.written = to;
        self.summed = false;
        self.micro_batches += 1;
        let read = BackendError::session("read the sums of a step");
        if let Some(half) = &self.train.half {
            self.overflows |= !half.gradient_sum.read().map_err(&read)?.is_finite();
        }
        self.train.sums.read(count).map_err(read)
    }

    /// Makes the next micro-batch overwrite the gradients.
    pub(super) fn begin_step(&mut self) {
        self.branches.clear();
        self.micro_batches = 0;
        self.overflows = false;
    }

    /// How processes share the slots, which buffers do not have.
    pub(super) fn shares_of_slots(&self) -> Shares {
        self.shares.of_first(self.layout.buffers.start)
    }

    /// The largest magnitude of each trained parameter's values in a range; not finite if any value is not.
    pub(super) fn largest(&self, values: &[f32], within: &Range<usize>) -> Vec<f32> {
        let ranges = self.layout.trained(&self.network.parameters);
        let ranges = ranges.map(|(p, offset)| common(&(offset..offset + p.len()), within));
        ranges.map(|range| largest_magnitude(&values[range])).collect()
    }
}
