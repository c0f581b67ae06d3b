//! Random numbers as a function: every draw depends only on its purpose.
//!
//! A counter-based generator (ChaCha with 8 rounds) is keyed by the seed, the purpose and the epoch; its
//! stream is the position of the sample. So the numbers do not depend on the thread or the order in which
//! they are drawn.

use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

/// The generator of the draws for one sample at one use.
pub type SampleRng = ChaCha8Rng;

/// What numbers are drawn for; different purposes have different streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Purpose {
    Order = 0,
    Augmentation = 1,
    Mixing = 2,
}

/// The draws of the sample at `position` of epoch `epoch`.
#[must_use]
pub fn sample_rng(seed: u64, epoch: u64, position: u64) -> SampleRng {
    view_rng(seed, epoch, position, 0)
}

/// The draws of view number `view` of the sample at `position` of epoch `epoch`; those of view 0 are
/// [`sample_rng`].
#[must_use]
pub fn view_rng(seed: u64, epoch: u64, position: u64, view: u32) -> SampleRng {
    let mut rng = generator(seed, epoch, Purpose::Augmentation, view);
    rng.set_stream(position);
    rng
}

/// The draws of shuffle number `shuffle` of epoch `epoch`.
pub(crate) fn order_rng(seed: u64, epoch: u64, shuffle: u64) -> ChaCha8Rng {
    let mut rng = generator(seed, epoch, Purpose::Order, 0);
    rng.set_stream(shuffle);
    rng
}

/// The draws of the batch whose first sample, of all ranks, is at `position` of epoch `epoch`.
#[must_use]
pub(crate) fn mixing_rng(seed: u64, epoch: u64, position: u64) -> ChaCha8Rng {
    let mut rng = generator(seed, epoch, Purpose::Mixing, 0);
    rng.set_stream(position);
    rng
}

fn generator(seed: u64, epoch: u64, purpose: Purpose, view: u32) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&epoch.to_le_bytes());
    key[16] = purpose as u8;
    key[20..24].copy_from_slice(&view.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn draws_depend_on_seed_epoch_position_and_purpose() {
        let first = |mut rng: ChaCha8Rng| rng.next_u64();
        let draws = [
            first(sample_rng(1, 0, 0)),
            first(sample_rng(2, 0, 0)),
            first(sample_rng(1, 1, 0)),
            first(sample_rng(1, 0, 1)),
            first(order_rng(1, 0, 0)),
            first(order_rng(1, 0, 1)),
            first(view_rng(1, 0, 0, 1)),
            first(view_rng(1, 0, 0, 256)),
            first(mixing_rng(1, 0, 0)),
            first(mixing_rng(1, 0, 1)),
        ];
        for (index, draw) in draws.iter().enumerate() {
            assert!(!draws[..index].contains(draw), "draw {index} repeats an earlier one: {draws:x?}");
        }
        assert_eq!(first(sample_rng(1, 0, 7)), first(sample_rng(1, 0, 7)));
    }

    #[test]
    fn draws_are_the_same_in_every_version() {
        // Changing these values breaks the resumption of every run that exists.
        assert_eq!(sample_rng(7, 3, 5).next_u64(), 770_567_183_021_648_466);
        assert_eq!(order_rng(7, 3, 0).next_u64(), 4_140_881_248_777_258_056);
    }
}
