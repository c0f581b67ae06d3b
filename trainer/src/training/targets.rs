//! What a network should give for the images of a batch.

use std::ops::Range;

use fovea_pipeline::Batch;
use fovea_pipeline::batch::{Mixed, Targets as BatchLabels};

use crate::backend::Targets;

/// The targets of a batch.
pub(crate) enum BatchTargets {
    /// The class of each sample.
    Classes(Vec<i64>),
    /// Both classes of each sample, and the share of the first.
    Mixed(Vec<i64>, Vec<i64>, Vec<f32>),
    /// So many marks or numbers of each sample.
    Values(Vec<f32>, usize),
}

impl BatchTargets {
    /// The labels of the batch. For mixed images both, the one of the greater share first (of equal shares an
    /// image's own); marks and numbers are mixed like the images.
    pub fn new(batch: &Batch) -> Self {
        let samples = batch.shape().samples;
        let values = match batch.targets() {
            BatchLabels::Classes(labels) => return Self::of_classes(&labels[..batch.len()], batch.mixed()),
            BatchLabels::MultiHot(marks) => marks.iter().map(|&mark| f32::from(mark)).collect(),
            BatchLabels::Values(values) => values.to_vec(),
        };
        let outputs = values.len() / samples;
        Self::of_values(&values[..batch.len() * outputs], outputs, batch.mixed())
    }

    /// Those of every row of the batch: of each sample once for each of its views.
    pub fn of_rows(batch: &Batch) -> Self {
        match batch.shape().views {
            1 => Self::new(batch),
            views => Self::new(batch).of_views(views),
        }
    }

    fn of_classes(own: &[i64], mixed: Option<Mixed<'_>>) -> Self {
        let Some(mixed) = mixed else { return Self::Classes(own.to_vec()) };
        let mut labels = own.to_vec();
        let mut others: Vec<i64> = mixed.partners.iter().map(|&at| own[at as usize]).collect();
        let mut shares = mixed.shares.to_vec();
        for ((label, other), share) in labels.iter_mut().zip(&mut others).zip(&mut shares) {
            if *share < 0.5 {
                std::mem::swap(label, other);
                *share = 1.0 - *share;
            }
        }
        Self::Mixed(labels, others, shares)
    }

    fn of_values(own: &[f32], outputs: usize, mixed: Option<Mixed<'_>>) -> Self {
        let Some(mixed) = mixed else { return Self::Values(own.to_vec(), outputs) };
        let of = |sample: usize| &own[sample * outputs..][..outputs];
        let pairs = mixed.partners.iter().zip(mixed.shares).enumerate();
        let values = pairs.flat_map(|(sample, (&partner, &share))| {
            let both = of(sample).iter().zip(of(partner as usize));
            both.map(move |(own, other)| share * own + (1.0 - share) * other)
        });
        Self::Values(values.collect(), outputs)
    }

    /// Those of `views` rows of each sample, which follow each other.
    pub fn of_views(&self, views: usize) -> Self {
        fn repeated<T: Copy>(all: &[T], each: usize, views: usize) -> Vec<T> {
            all.chunks(each.max(1)).flat_map(|of_sample| of_sample.repeat(views)).collect()
        }
        match self {
            Self::Classes(labels) => Self::Classes(repeated(labels, 1, views)),
            Self::Mixed(labels, others, shares) => Self::Mixed(
                repeated(labels, 1, views),
                repeated(others, 1, views),
                repeated(shares, 1, views),
            ),
            Self::Values(values, outputs) => Self::Values(repeated(values, *outputs, views), *outputs),
        }
    }

    /// All of them.
    pub fn all(&self) -> Targets<'_> {
        match self {
            Self::Classes(labels) => Targets::Classes(labels),
            Self::Mixed(labels, others, shares) => Targets::Mixed { labels, others, shares },
            Self::Values(values, outputs) => Targets::Values { values, outputs: *outputs },
        }
    }

    /// Those of some samples.
    pub fn of(&self, samples: Range<usize>) -> Targets<'_> {
        self.all().rows(samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_of_the_greater_share_comes_first_and_of_equal_shares_an_images_own() {
        let partners = [1, 0, 3, 2, 4];
        let mixed = Mixed { partners: &partners, shares: &[0.25, 0.25, 0.5, 0.5, 1.0] };
        let targets = BatchTargets::of_classes(&[10, 11, 12, 13, 14], Some(mixed));
        let Targets::Mixed { labels, others, shares } = targets.of(1..5) else { panic!("they are mixed") };
        assert_eq!((labels, others), (&[10, 12, 13, 14][..], &[11, 13, 12, 14][..]));
        assert_eq!(shares, [0.75, 0.5, 0.5, 1.0]);
        let plain = BatchTargets::of_classes(&[10, 11], None);
        assert!(matches!(plain.of(1..2), Targets::Classes([11])));
    }

    #[test]
    fn marks_and_numbers_are_mixed_like_the_images_and_repeated_for_views() {
        let own = [1.0, 0.0, 0.0, 1.0, 4.0, 8.0];
        let mixed = Mixed { partners: &[1, 0, 2], shares: &[0.75, 0.75, 1.0] };
        let targets = BatchTargets::of_values(&own, 2, Some(mixed));
        let Targets::Values { values, outputs: 2 } = targets.all() else { panic!("they are values") };
        assert_eq!(values, [0.75, 0.25, 0.25, 0.75, 4.0, 8.0]);
        let views = targets.of_views(2);
        let Targets::Values { values, .. } = views.of(1..3) else { panic!("they are values") };
        assert_eq!((values, views.all().len()), (&[0.75, 0.25, 0.25, 0.75][..], 6));
    }
}
