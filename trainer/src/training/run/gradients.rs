//! The gradients and the update of a batch: this process's share of them, and the exchange with the others.

use std::time::{Duration, Instant};

use fovea_pipeline::Batch;

use super::{Run, Together};
use crate::backend::{BackendError, MicroBatch, NextImages, Rows, Updated};
use crate::collective::{CollectiveError, sum_in_tree};
use crate::metrics::BatchMetrics;
use crate::optimizer::{Update, clip_factor};
use crate::training::pieces::{Piece, pieces};
use crate::training::{BatchTargets, TrainingError};

impl Run<'_> {
    /// Gradients over this process's share of a batch with `rows` rows, in as many micro-batches as the
    /// backend needs, and metrics of the whole batch; ends at the first micro-batch whose loss is not finite.
    /// `next` is the following batch, if it is known.
    pub fn accumulate(
        &mut self,
        batch: &Batch,
        next: Option<&Batch>,
        rows: u64,
    ) -> Result<BatchMetrics, TrainingError> {
        let begin = Instant::now();
        let row_bytes = batch.shape().view_values();
        let pieces = self.pieces(batch);
        let of_next = next.and_then(|next| {
            let first = self.pieces(next).into_iter().next()?;
            Some(NextImages { id: first.id, images: &next.image_bytes()[first.rows.start * row_bytes..] })
        });
        let images = |piece: &Piece| &batch.image_bytes()[piece.rows.start * row_bytes..];
        let targets = BatchTargets::of_rows(batch);
        let mut parts = vec![BatchMetrics::default(); self.own_parts()];
        let mut ended = 0;
        for (at, piece) in pieces.iter().enumerate() {
            self.end_parts(&mut ended, piece.part)?;
            let micro_batch = MicroBatch {
                seed: self.meta.seed,
                step: self.meta.step,
                id: piece.id,
                gradient_scale: 1.0 / rows as f32,
            };
            let rows = Rows {
                images: &images(piece)[..piece.rows.len() * row_bytes],
                color_offsets: &batch.color_offsets()[piece.rows.clone()],
                targets: targets.of(piece.rows.clone()),
            };
            let within = pieces.get(at + 1).map(|next| NextImages { id: next.id, images: images(next) });
            let metrics = match within.or(of_next) {
                Some(next) => self.backend.accumulate_and_fetch(rows, micro_batch, next)?,
                None => self.backend.accumulate(rows, micro_batch)?,
            };
            parts[piece.part] += metrics;
            if !metrics.loss.is_finite() {
                break;
            }
        }
        if self.options.settings.parts > 1 {
            self.end_parts(&mut ended, parts.len())?;
        }
        let sum = |parts: Vec<BatchMetrics>| sum_in_tree(parts, |sum, part| *sum += part).unwrap_or_default();
        let [rows, loss, top1, top5, first, second] = sum(parts).to_words();
        let overflows = self.backend.overflows();
        let computed = begin.elapsed();
        let micros = computed.as_micros() as u64;
        let all =
            self.ranks.gather_words([overflows.into(), micros, rows, loss, top1, top5, first, second])?;
        let slowest = (0..all.len()).max_by_key(|&rank| all[rank][1]).unwrap_or(0);
        self.together = Together { slowest, waited: begin.elapsed() - computed, exchanged: Duration::ZERO };
        if !overflows && all.iter().any(|&[overflows, ..]| overflows > 0) {
            self.backend.set_overflow();
        }
        let of_rank = |[_, _, words @ ..]: [u64; 8]| BatchMetrics::from_words(words);
        Ok(sum(all.into_iter().map(of_rank).collect()))
    }

    /// Parts of a batch that this process computes.
    fn own_parts(&self) -> usize {
        self.options.settings.parts / self.ranks.world()
    }

    /// This process's share of a batch, in pieces that the backend takes at once.
    fn pieces(&self, batch: &Batch) -> Vec<Piece> {
        pieces(batch, self.own_parts(), self.backend.batch_rows(), self.ranks.rank())
    }

    /// Ends the parts before number `part` in the backend, where `ended` of them have ended.
    fn end_parts(&mut self, ended: &mut usize, part: usize) -> Result<(), TrainingError> {
        for _ in *ended..part {
            self.backend.end_part()?;
        }
        *ended = part.max(*ended);
        Ok(())
    }

    /// Updates the weights from the gradients of all processes: each sums and updates its share of them, and
    /// gives it to the others.
    pub fn update(&mut self, update: Update) -> Result<Updated, TrainingError> {
        if self.ranks.world() == 1 || self.backend.overflows() {
            return Ok(self.backend.update(update)?);
        }
        let mut begin = Instant::now();
        let ranks = &mut *self.ranks;
        exchanged(|done| {
            self.backend.lend_gradients(&mut |values, shares| *done = ranks.sum_share(values, shares))
        })?;
        let gradient_factor = match self.recipe.training.clip_norm {
            Some(limit) => {
                let own: Vec<u64> = self.backend.squares()?.into_iter().map(f64::to_bits).collect();
                let all = ranks.gather(&own)?.into_iter().flatten().map(f64::from_bits);
                Some(clip_factor(limit, all))
            }
            None => None,
        };
        self.together.exchanged = begin.elapsed();
        let updated = self.backend.update(Update { gradient_factor, ..update })?;
        begin = Instant::now();
        exchanged(|done| {
            self.backend.lend_weights(&mut |values, shares| *done = ranks.gather_shares(values, shares))
        })?;
        self.together.exchanged += begin.elapsed();
        self.has_average = false;
        Ok(updated)
    }

    /// Makes the running average of the weights whole, in every process.
    pub fn complete_average(&mut self) -> Result<(), TrainingError> {
        if self.ranks.world() > 1 && !self.has_average {
            let ranks = &mut *self.ranks;
            exchanged(|done| {
                self.backend.lend_average(&mut |values, shares| *done = ranks.gather_shares(values, shares))
            })?;
            self.has_average = true;
        }
        Ok(())
    }

    /// The whole slots of the optimizer, in the first process, if they are shared.
    pub fn slots(&mut self) -> Result<Vec<Vec<f32>>, TrainingError> {
        let (ranks, mut slots) = (&mut *self.ranks, Vec::new());
        exchanged(|done| {
            self.backend.lend_slots(&mut |own, shares| {
                if done.is_ok() {
                    *done = ranks.gather_to_first(own, shares).map(|whole| slots.push(whole));
                }
            })
        })?;
        Ok(slots)
    }
}

/// Does an exchange inside of a call to the backend.
fn exchanged(
    call: impl FnOnce(&mut Result<(), CollectiveError>) -> Result<(), BackendError>,
) -> Result<(), TrainingError> {
    let mut done = Ok(());
    call(&mut done)?;
    Ok(done?)
}
