//! How processes share the values of a flat buffer: each owns a range of them.

use std::ops::Range;

/// Neighbouring ranges of a flat buffer, one for each process, in the order of their ranks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// Where the range of each process ends.
    ends: Vec<usize>,
}

impl Shares {
    /// Shares of `world` processes, as equal as they can be made of whole units: neighbouring values, of
    /// these lengths.
    #[must_use]
    pub fn new(units: impl IntoIterator<Item = usize>, world: usize) -> Self {
        let mut ends = vec![0];
        ends.extend(units.into_iter().scan(0, |end, unit| {
            *end += unit;
            Some(*end)
        }));
        let len = ends[ends.len() - 1];
        let nearest = |wanted: usize| ends.iter().copied().min_by_key(|end| end.abs_diff(wanted));
        let wanted = (1..=world).map(|rank| (len as u128 * rank as u128 / world as u128) as usize);
        Self { ends: wanted.map(|wanted| nearest(wanted).unwrap_or(0)).collect() }
    }

    /// The range of process `rank`.
    #[must_use]
    pub fn of(&self, rank: usize) -> Range<usize> {
        let start = rank.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[rank]
    }

    /// The shares of the first `len` values alone.
    #[must_use]
    pub fn of_first(&self, len: usize) -> Self {
        Self { ends: self.ends.iter().map(|&end| end.min(len)).collect() }
    }

    /// Number of processes.
    #[must_use]
    pub fn world(&self) -> usize {
        self.ends.len()
    }

    /// Number of values in all shares.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Whether there are no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ranges of all processes in turns: in each turn at most `most` values of each, and as many of the
    /// longest share.
    pub(super) fn turns(&self, most: usize) -> impl Iterator<Item = Vec<Range<usize>>> + use<> {
        let all: Vec<Range<usize>> = (0..self.world()).map(|rank| self.of(rank)).collect();
        let longest = all.iter().map(Range::len).max().unwrap_or(0);
        (0..longest).step_by(most).map(move |done| {
            let turn = |own: &Range<usize>| {
                let start = own.end.min(own.start + done);
                start..own.end.min(start + most)
            };
            all.iter().map(turn).collect()
        })
    }
}

/// The values that are in both ranges.
pub(crate) fn common(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    let start = a.start.max(b.start);
    start..a.end.min(b.end).max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(shares: &Shares) -> Vec<Range<usize>> {
        (0..shares.world()).map(|rank| shares.of(rank)).collect()
    }

    #[test]
    fn shares_are_nearly_equal_and_divide_no_unit() {
        assert_eq!(all(&Shares::new([4; 8], 4)), [0..8, 8..16, 16..24, 24..32]);
        assert_eq!(all(&Shares::new([4, 4, 4], 2)), [0..4, 4..12]);
        // A large unit leaves others without a share.
        assert_eq!(all(&Shares::new([1, 20, 1], 4)), [0..1, 1..1, 1..21, 21..22]);
        assert_eq!(all(&Shares::new([5], 2)), [0..0, 0..5]);
        assert_eq!(Shares::new([3, 5], 1).of(0), 0..8);
        assert_eq!((all(&Shares::new([], 2)), Shares::new([], 2).is_empty()), (vec![0..0, 0..0], true));
    }

    #[test]
    fn turns_cover_every_share_once() {
        let shares = Shares::new([4, 4, 4], 2);
        assert_eq!(shares.turns(3).collect::<Vec<_>>(), [[0..3, 4..7], [3..4, 7..10], [4..4, 10..12]]);
        assert_eq!(shares.of_first(6), Shares { ends: vec![4, 6] });
        assert_eq!(Shares::default().turns(3).count(), 0);
    }

    #[test]
    fn ranges_have_common_values_or_none() {
        assert_eq!((common(&(0..4), &(2..9)), common(&(0..2), &(5..9)).len()), (2..4, 0));
    }
}
