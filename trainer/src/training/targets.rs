//! What a network should give for the images of a batch.

use std::ops::Range;

use fovea_pipeline::Batch;
use fovea_pipeline::batch::Mixed;

use crate::backend::Targets;

/// The targets of a batch.
pub(crate) struct BatchTargets {
    labels: Vec<i64>,
    /// Other labels, and the shares of the labels; only if images are mixed.
    mixed: Option<(Vec<i64>, Vec<f32>)>,
}

impl BatchTargets {
    /// The labels of the batch; for mixed images both, the one of the greater share first (of equal shares an
    /// image's own).
    pub fn new(batch: &Batch) -> Self {
        Self::of_samples(&batch.labels()[..batch.len()], batch.mixed())
    }

    fn of_samples(own: &[i64], mixed: Option<Mixed<'_>>) -> Self {
        let mut labels = own.to_vec();
        let mixed = mixed.map(|mixed| {
            let mut others: Vec<i64> = mixed.partners.iter().map(|&at| own[at as usize]).collect();
            let mut shares = mixed.shares.to_vec();
            for ((label, other), share) in labels.iter_mut().zip(&mut others).zip(&mut shares) {
                if *share < 0.5 {
                    std::mem::swap(label, other);
                    *share = 1.0 - *share;
                }
            }
            (others, shares)
        });
        Self { labels, mixed }
    }

    /// Those of some samples.
    pub fn of(&self, samples: Range<usize>) -> Targets<'_> {
        let labels = &self.labels[samples.clone()];
        match &self.mixed {
            Some((others, shares)) => {
                Targets::Mixed { labels, others: &others[samples.clone()], shares: &shares[samples] }
            }
            None => Targets::Classes(labels),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_of_the_greater_share_comes_first_and_of_equal_shares_an_images_own() {
        let partners = [1, 0, 3, 2, 4];
        let mixed = Mixed { partners: &partners, shares: &[0.25, 0.25, 0.5, 0.5, 1.0] };
        let targets = BatchTargets::of_samples(&[10, 11, 12, 13, 14], Some(mixed));
        let Targets::Mixed { labels, others, shares } = targets.of(1..5) else { panic!("they are mixed") };
        assert_eq!((labels, others), (&[10, 12, 13, 14][..], &[11, 13, 12, 14][..]));
        assert_eq!(shares, [0.75, 0.5, 0.5, 1.0]);
        let plain = BatchTargets::of_samples(&[10, 11], None);
        assert!(matches!(plain.of(1..2), Targets::Classes([11])));
    }
}
