//! Initial values of parameters, a function of seed, parameter and position.

use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::ChaCha8Rng;
use rand::{Rng, RngExt, SeedableRng};

/// Values drawn from one position of the generator; also the unit of work of a thread.
const CHUNK: usize = 1 << 20;
/// 32-bit words of the generator per value.
const WORDS_PER_VALUE: u128 = 2;

/// Initialiser of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Init {
    /// Values from N(0, std²).
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Values uniform between −bound and bound.
    Uniform {
        /// Largest magnitude.
        bound: f64,
    },
    /// All values equal.
    Constant(f32),
    /// Given values, such as those of a file.
    Values(Arc<[f32]>),
}

impl Init {
    /// Fills the `values` of parameter `index` in a run with `seed`.
    ///
    /// Values are made from 53-bit uniform values of `ChaCha8Rng`, stream `index`, in f64 and rounded to f32;
    /// normal ones in pairs by the transform of Box and Muller (1958). Value i depends only on seed, index
    /// and i, for any number of threads and on every platform (up to the last bit of the system's logarithm
    /// and cosine, which the rounding nearly always hides).
    pub fn fill(&self, seed: u64, index: usize, values: &mut [f32]) {
        match *self {
            Self::Constant(value) => values.fill(value),
            Self::Values(ref given) => values.copy_from_slice(given),
            Self::Normal { std } => {
                in_chunks(values, |first, part| fill_normal(std, seed, index, first, part))
            }
            Self::Uniform { bound } => {
                in_chunks(values, |first, part| fill_uniform(bound, seed, index, first, part));
            }
        }
    }
}

/// Calls `fill` with the offset and the values of each chunk, on one thread per core.
fn in_chunks(values: &mut [f32], fill: impl Fn(usize, &mut [f32]) + Sync) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let chunks = values.len().div_ceil(CHUNK);
    let per_thread = chunks.div_ceil(threads).max(1) * CHUNK;
    let parts = Mutex::new(values.chunks_mut(per_thread).enumerate());
    let work = || {
        while let Some((part, values)) = next(&parts) {
            for (chunk, values) in values.chunks_mut(CHUNK).enumerate() {
                fill(part * per_thread + chunk * CHUNK, values);
            }
        }
    };
    std::thread::scope(|scope| {
        // This thread works too, and alone where the system starts no other: starting one costs more than
        // filling a small tensor.
        for _ in 1..threads.min(chunks) {
            if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
}

/// The next item of an iterator that several threads share.
fn next<T>(items: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    items.lock().unwrap_or_else(PoisonError::into_inner).next()
}

/// The generator of parameter `index`, positioned at value `first`.
fn generator(seed: u64, index: usize, first: usize) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(index as u64);
    random.set_word_pos(first as u128 * WORDS_PER_VALUE);
    random
}

/// Fills values `first..` of a parameter.
fn fill_uniform(bound: f64, seed: u64, index: usize, first: usize, values: &mut [f32]) {
    let mut random = generator(seed, index, first);
    values.fill_with(|| (bound * (2.0 * random.random::<f64>() - 1.0)) as f32);
}

/// Fills values `first..` of a parameter; `first` is even.
fn fill_normal(std: f64, seed: u64, index: usize, first: usize, values: &mut [f32]) {
    draw_normal(std, &mut generator(seed, index, first), values);
}

/// Fills `values` with normal random numbers with a mean of 0 and the deviation `std`: a pair for each two
/// numbers that are drawn (G. E. P. Box, M. E. Muller, 1958).
pub fn draw_normal(std: f64, random: &mut impl Rng, values: &mut [f32]) {
    for pair in values.chunks_mut(2) {
        // 1 − u lies in (0, 1], where the logarithm is finite.
        let radius = std * (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * random.random::<f64>()).sin_cos();
        pair[0] = (radius * cos) as f32;
        if let Some(second) = pair.get_mut(1) {
            *second = (radius * sin) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CHUNK, Init, fill_normal, fill_uniform};

    fn normal(seed: u64, index: usize, count: usize) -> Vec<f32> {
        let mut values = vec![0.0; count];
        Init::Normal { std: 0.01 }.fill(seed, index, &mut values);
        values
    }

    #[test]
    fn values_have_the_given_mean_and_standard_deviation() {
        let values = normal(1, 2, 200_001);
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64;
        let square = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / values.len() as f64;
        assert!(mean.abs() < 1e-4, "mean {mean}");
        assert!((square.sqrt() - 0.01).abs() < 1e-4, "standard deviation {}", square.sqrt());
        let within = values.iter().filter(|v| v.abs() < 0.01).count() as f64 / values.len() as f64;
        assert!((within - 0.6827).abs() < 5e-3, "share within one standard deviation {within}");
    }

    #[test]
    fn uniform_values_fill_their_range_evenly_for_any_number_of_threads() {
        let mut values = vec![0.0; CHUNK + 7];
        Init::Uniform { bound: 0.25 }.fill(1, 2, &mut values);
        let mut quarters = [0; 4];
        values.iter().for_each(|value| quarters[((value + 0.25) * 8.0) as usize] += 1);
        // 262,144 expected in each, with a standard deviation of 443.
        assert!(quarters.iter().all(|count| (260_000..264_500).contains(count)), "{quarters:?}");
        let mut serial = vec![0.0; CHUNK + 7];
        fill_uniform(0.25, 1, 2, 0, &mut serial);
        assert!(values == serial);
    }

    #[test]
    fn values_depend_only_on_seed_index_and_position() {
        assert_eq!(normal(1, 2, 10), normal(1, 2, 1000)[..10]);
        assert_ne!(normal(1, 2, 10), normal(1, 3, 10));
        assert_ne!(normal(1, 2, 10), normal(2, 2, 10));
    }

    #[test]
    fn threads_do_not_change_the_values() {
        let count = 2 * CHUNK + 5;
        let mut serial = vec![0.0; count];
        fill_normal(0.01, 4, 1, 0, &mut serial);
        assert!(normal(4, 1, count) == serial);
    }

    #[test]
    fn the_first_values_of_a_seed_never_change() {
        let values = normal(42, 0, 3);
        assert_eq!(values, [0.01440254, -0.004652131, -0.0073568225]);
    }
}
