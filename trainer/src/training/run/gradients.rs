//! The gradients of a batch: this process's share of it, and the exchange with the others.

use std::time::{Duration, Instant};

use fovea_pipeline::Batch;

use super::{Run, Together};
use crate::backend::{MicroBatch, NextImages, Rows};
use crate::collective::sum_in_tree;
use crate::metrics::BatchMetrics;
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
            Some(NextImages { id: first.id, images: &next.image_bytes()[first.samples.start * row_bytes..] })
        });
        let images = |piece: &Piece| &batch.image_bytes()[piece.samples.start * row_bytes..];
        let targets = BatchTargets::new(batch);
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
                images: &images(piece)[..piece.samples.len() * row_bytes],
                color_offsets: &batch.color_offsets()[piece.samples.clone()],
                targets: targets.of(piece.samples.clone()),
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

    /// Makes the gradients those of the whole batch, in every process.
    pub fn exchange(&mut self) -> Result<(), TrainingError> {
        if self.ranks.world() == 1 || self.backend.overflows() {
            return Ok(());
        }
        let begin = Instant::now();
        let mut summed = Ok(());
        self.backend.lend_gradients(&mut |gradients| summed = self.ranks.sum(gradients))?;
        self.together.exchanged = begin.elapsed();
        Ok(summed?)
    }
}
