//! Nearest neighbours by Euclidean distance.

/// An image near a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Number of the image.
    pub index: usize,
    /// Euclidean distance from the query.
    pub distance: f32,
}

/// The images nearest to a query among those that were offered.
#[derive(Clone, Debug)]
pub struct Nearest {
    query: Vec<f32>,
    count: usize,
    /// The nearest first; distances are squared.
    found: Vec<Found>,
}

impl Nearest {
    /// Looks for the `count` images nearest to `query`, `f32 [D]`.
    #[must_use]
    pub fn new(query: Vec<f32>, count: usize) -> Self {
        Self { query, count, found: Vec::with_capacity(count + 1) }
    }

    /// Offers N images, `f32 [N,D]`, numbered from `first`.
    pub fn offer(&mut self, first: usize, features: &[f32]) {
        for (index, features) in (first..).zip(features.chunks_exact(self.query.len())) {
            let squares = self.query.iter().zip(features).map(|(a, b)| (a - b) * (a - b));
            let candidate = Found { index, distance: squares.sum() };
            // Of equal distances the one offered first stays before; what is not a number is farthest.
            let place =
                self.found.partition_point(|known| known.distance.total_cmp(&candidate.distance).is_le());
            if place < self.count {
                self.found.insert(place, candidate);
                self.found.truncate(self.count);
            }
        }
    }

    /// The nearest images, the nearest first.
    #[must_use]
    pub fn found(&self) -> Vec<Found> {
        self.found.iter().map(|found| Found { distance: found.distance.sqrt(), ..*found }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_come_first_wherever_they_were_offered() {
        let mut nearest = Nearest::new(vec![0.0, 0.0], 3);
        nearest.offer(0, &[9.0, 0.0, 3.0, 4.0, 0.0, 1.0]);
        nearest.offer(3, &[f32::NAN, 0.0, 0.0, 0.0, 1.0, 0.0]);
        let found: Vec<(usize, f32)> =
            nearest.found().iter().map(|found| (found.index, found.distance)).collect();
        assert_eq!(found, [(4, 0.0), (2, 1.0), (5, 1.0)]);
    }

    #[test]
    fn fewer_images_than_wanted_are_all_found() {
        let mut nearest = Nearest::new(vec![1.0], 5);
        nearest.offer(7, &[4.0, 1.0]);
        assert_eq!(nearest.found(), [Found { index: 8, distance: 0.0 }, Found { index: 7, distance: 3.0 }]);
    }
}
