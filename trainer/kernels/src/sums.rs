//! Sums of many values.

use crate::lanes::add_product;

/// Sums that are kept side by side.
pub(crate) const WIDTH: usize = 64;
/// Values that are added to a sum in single precision before it is added to the total in double precision.
const ROUND: usize = 1024;

/// A sum of products in single precision, added up in double precision every so often.
pub(crate) struct Sum {
    lanes: [f32; WIDTH],
    rounds: usize,
    total: f64,
}

impl Sum {
    pub const ZERO: Self = Self { lanes: [0.0; WIDTH], rounds: 0, total: 0.0 };

    /// Adds the products of up to [`WIDTH`] values.
    #[inline(always)]
    pub fn add(&mut self, a: &[f32], b: &[f32], fused: bool) {
        for ((lane, a), b) in self.lanes.iter_mut().zip(a).zip(b) {
            *lane = add_product(*lane, *a, *b, fused);
        }
        self.rounds += 1;
        if self.rounds == ROUND {
            self.round();
        }
    }

    #[inline(never)]
    fn round(&mut self) {
        self.total += self.lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
        self.lanes = [0.0; WIDTH];
        self.rounds = 0;
    }

    pub fn total(mut self) -> f64 {
        self.round();
        self.total
    }
}
