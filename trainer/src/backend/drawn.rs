//! Dropout masks and noises as a function of the position in training.

use fovea_graph::{Distribution, draw_normal};
use rand::rngs::ChaCha8Rng;
use rand::{Rng, RngExt, SeedableRng};

use super::MicroBatch;

/// Bytes of randomness that are drawn at once.
const BLOCK_BYTES: usize = 4096;
/// Unit in which the generator counts its position, in bytes.
const WORD_BYTES: usize = 4;

/// The end of the key of a stream.
type Kind = &'static [u8; 8];
const MASKS: Kind = b"fovea/dm";
const NOISES: Kind = b"fovea/nz";

/// The bits of every byte, lowest first.
static BITS: [[bool; 8]; 256] = {
    let mut bits = [[false; 8]; 256];
    let mut place = 0;
    while place < 256 * 8 {
        bits[place / 8][place % 8] = (place / 8) >> (place % 8) & 1 == 1;
        place += 1;
    }
    bits
};

/// Fills the mask number `index` for the rows of a micro-batch, `row_len` values each: a value is true with
/// probability `keep`, rounded to a multiple of 2⁻¹⁶.
///
/// The values depend only on seed, step, index, the row's position in the batch and the position in the row,
/// on every platform and for every division of the batch: they are a stream of `ChaCha8Rng` with seed, step
/// and index as its key, one bit a value if `keep` is ½ and 16 bits a value otherwise, lowest bits first.
/// Every row begins with a new word of 32 bits.
///
/// # Panics
/// When `mask` does not consist of whole rows.
pub fn fill_mask(micro_batch: &MicroBatch, index: u32, keep: f64, row_len: usize, mask: &mut [bool]) {
    assert!(row_len > 0 && mask.len().is_multiple_of(row_len), "a mask has whole rows");
    let bits = if keep == 0.5 { 1 } else { 16 };
    let bytes_of = |values: usize| (values * bits).div_ceil(8).next_multiple_of(WORD_BYTES);
    let mut random = generator(MASKS, micro_batch, index, bytes_of(row_len) / WORD_BYTES);
    let mut block = [0; BLOCK_BYTES];
    for row in mask.chunks_exact_mut(row_len) {
        for values in row.chunks_mut(BLOCK_BYTES * 8 / bits) {
            let drawn = &mut block[..bytes_of(values.len())];
            random.fill_bytes(drawn);
            if bits == 1 { fill_by_bits(values, drawn) } else { fill_by_words(values, drawn, keep) }
        }
    }
}

fn fill_by_bits(values: &mut [bool], drawn: &[u8]) {
    let mut bits = drawn.iter().map(|&byte| &BITS[usize::from(byte)]);
    let (whole, rest) = values.as_chunks_mut();
    for (values, bits) in whole.iter_mut().zip(&mut bits) {
        *values = *bits;
    }
    if let Some(bits) = bits.next() {
        rest.copy_from_slice(&bits[..rest.len()]);
    }
}

fn fill_by_words(values: &mut [bool], drawn: &[u8], keep: f64) {
    let threshold = (keep * 65536.0).round() as u32;
    for (value, word) in values.iter_mut().zip(drawn.as_chunks().0) {
        *value = u32::from(u16::from_le_bytes(*word)) < threshold;
    }
}

/// Fills the noise number `index` for the rows of a micro-batch, `row_len` values each.
///
/// The values depend on what those of a [mask](fill_mask) depend on. A uniform one takes a word of 32 bits of
/// the stream, a pair of normal ones four.
///
/// # Panics
/// When `noise` does not consist of whole rows.
pub fn fill_noise(
    micro_batch: &MicroBatch,
    index: u32,
    distribution: Distribution,
    row_len: usize,
    noise: &mut [f32],
) {
    assert!(row_len > 0 && noise.len().is_multiple_of(row_len), "a noise has whole rows");
    let words = match distribution {
        Distribution::Uniform => row_len,
        Distribution::Normal => 2 * row_len.next_multiple_of(2),
    };
    let mut random = generator(NOISES, micro_batch, index, words);
    for row in noise.chunks_exact_mut(row_len) {
        match distribution {
            Distribution::Uniform => row.fill_with(|| random.random()),
            Distribution::Normal => draw_normal(1.0, &mut random, row),
        }
    }
}

/// The stream of an input of this kind, at the first row of a micro-batch, where a row takes `words` words.
fn generator(kind: Kind, micro_batch: &MicroBatch, index: u32, words: usize) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::from_seed(key(kind, micro_batch, index));
    random.set_word_pos(u128::from(micro_batch.id.first_row) * words as u128);
    random
}

fn key(kind: Kind, micro_batch: &MicroBatch, index: u32) -> [u8; 32] {
    let mut key = [0; 32];
    key[24..].copy_from_slice(kind);
    key[..8].copy_from_slice(&micro_batch.seed.to_le_bytes());
    key[8..16].copy_from_slice(&micro_batch.step.to_le_bytes());
    // Earlier versions stored the number of the micro-batch here; a batch in one part keeps its masks.
    key[16..20].fill(0);
    key[20..24].copy_from_slice(&index.to_le_bytes());
    key
}

#[cfg(test)]
mod tests {
    use fovea_graph::Distribution::{Normal, Uniform};

    use super::{Distribution, MicroBatch, fill_mask, fill_noise};
    use crate::backend::RowsId;

    const ID: RowsId = RowsId { epoch: 0, batch: 0, first_row: 0 };
    const FIRST: MicroBatch = MicroBatch { seed: 7, step: 3, id: ID, gradient_scale: 1.0 };

    fn mask(micro_batch: MicroBatch, index: u32, keep: f64, row_len: usize, rows: usize) -> Vec<bool> {
        let mut mask = vec![false; rows * row_len];
        fill_mask(&micro_batch, index, keep, row_len, &mut mask);
        mask
    }

    fn from_row(first_row: u64) -> MicroBatch {
        MicroBatch { id: RowsId { first_row, ..ID }, ..FIRST }
    }

    #[test]
    fn the_share_of_kept_units_is_the_requested_one() {
        for keep in [0.5, 0.25, 0.9, 1.0] {
            let (row_len, rows) = (40_003, 5);
            let kept = mask(FIRST, 0, keep, row_len, rows).into_iter().filter(|&kept| kept).count();
            let share = kept as f64 / (row_len * rows) as f64;
            assert!((share - keep).abs() < 5e-3, "{share} instead of {keep}");
        }
    }

    #[test]
    fn masks_depend_only_on_seed_step_index_and_position() {
        for keep in [0.5, 0.7] {
            let first = mask(FIRST, 1, keep, 35_000, 2);
            assert_eq!(first, mask(FIRST, 1, keep, 35_000, 2));
            assert_eq!(first, mask(MicroBatch { gradient_scale: 0.5, ..FIRST }, 1, keep, 35_000, 2));
            let elsewhere = MicroBatch { id: RowsId { epoch: 5, batch: 6, ..ID }, ..FIRST };
            assert_eq!(first, mask(elsewhere, 1, keep, 35_000, 2));
            assert_ne!(first[..35_000], first[35_000..]);
            for other in [
                mask(MicroBatch { seed: 8, ..FIRST }, 1, keep, 35_000, 2),
                mask(MicroBatch { step: 4, ..FIRST }, 1, keep, 35_000, 2),
                mask(FIRST, 2, keep, 35_000, 2),
            ] {
                assert_ne!(first, other);
            }
        }
    }

    #[test]
    fn a_row_has_the_same_mask_in_any_micro_batch() {
        for keep in [0.5, 0.7] {
            // Rows that are whole words and rows that are not, shorter and longer than a block.
            for row_len in [1, 10, 32, 256, 3000, 32_768, 40_000] {
                let whole = mask(FIRST, 1, keep, row_len, 5);
                for (first_row, rows) in [(0, 1), (1, 3), (4, 1)] {
                    let part = mask(from_row(first_row as u64), 1, keep, row_len, rows);
                    assert_eq!(part, whole[first_row * row_len..][..rows * row_len], "{row_len} values");
                }
            }
        }
    }

    #[test]
    fn the_first_values_of_a_key_never_change() {
        let ones = |keep| {
            let mask = mask(FIRST, 0, keep, 16, 1);
            mask.iter().map(|&kept| if kept { '1' } else { '0' }).collect()
        };
        let (half, most): (String, String) = (ones(0.5), ones(0.75));
        assert_eq!((half.as_str(), most.as_str()), ("1000100110100111", "0101110011011001"));
    }

    fn noise(
        micro_batch: MicroBatch,
        index: u32,
        kind: Distribution,
        row_len: usize,
        rows: usize,
    ) -> Vec<f32> {
        let mut noise = vec![f32::NAN; rows * row_len];
        fill_noise(&micro_batch, index, kind, row_len, &mut noise);
        noise
    }

    #[test]
    fn noises_have_the_mean_and_the_variance_of_their_distribution() {
        for (kind, mean, variance, fourth) in
            [(Uniform, 0.5, 1.0 / 12.0, 1.0 / 80.0), (Normal, 0.0, 1.0, 3.0)]
        {
            let values = noise(FIRST, 0, kind, 50_001, 4);
            let moment = |power: i32, middle: f64| {
                values.iter().map(|&v| (f64::from(v) - middle).powi(power)).sum::<f64>() / values.len() as f64
            };
            for (given, expected) in
                [(moment(1, 0.0), mean), (moment(2, mean), variance), (moment(4, mean), fourth)]
            {
                assert!(
                    (given - expected).abs() < 0.015 * (1.0 + expected),
                    "{kind:?}: {given} for {expected}"
                );
            }
            assert!(kind == Normal || values.iter().all(|value| (0.0..1.0).contains(value)));
        }
    }

    #[test]
    fn noises_depend_only_on_seed_step_index_and_position() {
        for kind in [Uniform, Normal] {
            let first = noise(FIRST, 1, kind, 35, 2);
            assert_eq!(first, noise(MicroBatch { gradient_scale: 0.5, ..FIRST }, 1, kind, 35, 2));
            assert_ne!(first[..35], first[35..]);
            for other in [
                noise(MicroBatch { seed: 8, ..FIRST }, 1, kind, 35, 2),
                noise(MicroBatch { step: 4, ..FIRST }, 1, kind, 35, 2),
                noise(FIRST, 2, kind, 35, 2),
            ] {
                assert_ne!(first, other);
            }
            for row_len in [1, 2, 7, 5000] {
                let whole = noise(FIRST, 1, kind, row_len, 5);
                for (first_row, rows) in [(0, 1), (1, 3), (4, 1)] {
                    let part = noise(from_row(first_row as u64), 1, kind, row_len, rows);
                    assert_eq!(part, whole[first_row * row_len..][..rows * row_len], "{row_len} values");
                }
            }
        }
    }
}
