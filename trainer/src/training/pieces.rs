//! A process's share of a batch, in pieces that a backend takes at once.

use std::ops::Range;

use fovea_pipeline::Batch;

use crate::backend::RowsId;

/// Rows that are computed at once.
pub(super) struct Piece {
    /// The part of the batch that they are of, counted from 0 in each process.
    pub part: usize,
    /// Their places among the process's rows.
    pub rows: Range<usize>,
    pub id: RowsId,
}

/// The pieces of at most `at_once` rows of a batch that process `rank` divides into `parts` parts.
pub(super) fn pieces(batch: &Batch, parts: usize, at_once: usize, rank: usize) -> Vec<Piece> {
    let (samples, views) = (batch.shape().samples, batch.shape().views);
    let of_part = samples / parts;
    // Damaged records are left out of their own part, with all their views.
    let start_of = |part: usize| {
        views * batch.positions().partition_point(|&position| (position as usize) < part * of_part)
    };
    let mut pieces = Vec::new();
    for part in 0..parts {
        let (start, end) = (start_of(part), start_of(part + 1));
        for first in (start..end).step_by(at_once) {
            let first_row = (views * (rank * samples + part * of_part) + first - start) as u64;
            let id = RowsId { epoch: batch.epoch(), batch: batch.index(), first_row };
            pieces.push(Piece { part, rows: first..end.min(first + at_once), id });
        }
    }
    pieces
}
