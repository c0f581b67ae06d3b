//! Dropout masks as a function of where the training is.

use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};

use super::MicroBatch;

/// Bytes of randomness that are drawn at once.
const BLOCK_BYTES: usize = 4096;

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

/// Fills the mask number `index` of a micro-batch: each value is true with probability `keep`, rounded to a multiple of 2⁻¹⁶.
///
/// The values depend on seed, step, part, index and place alone, on every platform: they come from `ChaCha8Rng` with these
/// four numbers as its key, one bit a value if `keep` is ½ and 16 bits a value else, lowest bits first.
pub fn fill_mask(micro_batch: &MicroBatch, index: u32, keep: f64, mask: &mut [bool]) {
    let mut random = ChaCha8Rng::from_seed(key(micro_batch, index));
    let mut block = [0; BLOCK_BYTES];
    if keep == 0.5 {
        for values in mask.chunks_mut(BLOCK_BYTES * 8) {
            random.fill_bytes(&mut block);
            let mut bits = block.iter().map(|&byte| &BITS[usize::from(byte)]);
            let (whole, rest) = values.as_chunks_mut();
            for (values, bits) in whole.iter_mut().zip(&mut bits) {
                *values = *bits;
            }
            if let Some(bits) = bits.next() {
                rest.copy_from_slice(&bits[..rest.len()]);
            }
        }
    } else {
        let threshold = (keep * 65536.0).round() as u32;
        for values in mask.chunks_mut(BLOCK_BYTES / 2) {
            random.fill_bytes(&mut block);
            for (value, word) in values.iter_mut().zip(block.as_chunks().0) {
                *value = u32::from(u16::from_le_bytes(*word)) < threshold;
            }
        }
    }
}

fn key(micro_batch: &MicroBatch, index: u32) -> [u8; 32] {
    let mut key = *b"........................fovea/dm";
    key[..8].copy_from_slice(&micro_batch.seed.to_le_bytes());
    key[8..16].copy_from_slice(&micro_batch.step.to_le_bytes());
    key[16..20].copy_from_slice(&micro_batch.part.to_le_bytes());
    key[20..24].copy_from_slice(&index.to_le_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::{MicroBatch, fill_mask};
    use crate::backend::RowsId;

    const ID: RowsId = RowsId { epoch: 0, batch: 0, first_row: 0 };
    const FIRST: MicroBatch = MicroBatch { seed: 7, step: 3, part: 0, id: ID, gradient_scale: 1.0 };

    fn mask(micro_batch: MicroBatch, index: u32, keep: f64, count: usize) -> Vec<bool> {
        let mut mask = vec![false; count];
        fill_mask(&micro_batch, index, keep, &mut mask);
        mask
    }

    #[test]
    fn the_share_of_kept_units_is_the_asked_one() {
        for keep in [0.5, 0.25, 0.9, 1.0] {
            let count = 200_003;
            let kept = mask(FIRST, 0, keep, count).into_iter().filter(|&kept| kept).count();
            let share = kept as f64 / count as f64;
            assert!((share - keep).abs() < 5e-3, "{share} instead of {keep}");
        }
    }

    #[test]
    fn masks_depend_on_seed_step_part_index_and_place_alone() {
        for keep in [0.5, 0.7] {
            let first = mask(FIRST, 1, keep, 70_000);
            assert_eq!(first, mask(FIRST, 1, keep, 70_000));
            assert_eq!(first[..1001], mask(FIRST, 1, keep, 1001));
            assert_eq!(first, mask(MicroBatch { gradient_scale: 0.5, ..FIRST }, 1, keep, 70_000));
            for other in [
                mask(MicroBatch { seed: 8, ..FIRST }, 1, keep, 70_000),
                mask(MicroBatch { step: 4, ..FIRST }, 1, keep, 70_000),
                mask(MicroBatch { part: 1, ..FIRST }, 1, keep, 70_000),
                mask(FIRST, 2, keep, 70_000),
            ] {
                assert_ne!(first, other);
            }
        }
    }

    #[test]
    fn the_first_values_of_a_key_never_change() {
        let ones = |keep| mask(FIRST, 0, keep, 16).iter().map(|&kept| if kept { '1' } else { '0' }).collect();
        let (half, most): (String, String) = (ones(0.5), ones(0.75));
        assert_eq!((half.as_str(), most.as_str()), ("1000100110100111", "0101110011011001"));
    }
}
