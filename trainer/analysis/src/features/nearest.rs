//! Nearest neighbours by Euclidean distance.

/// An image near the query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// Index of the image.
    pub index: usize,
    /// Euclidean distance to the query.
    pub distance: f32,
}

/// Keeps the images nearest to a query.
#[derive(Clone, Debug)]
pub struct Nearest {
    query: Vec<f32>,
    count: usize,
    /// In ascending order of distance; distances are squared.
    found: Vec<Neighbour>,
}

impl Nearest {
    /// Will keep the `count` images nearest to `query`, `f32 [D]`.
    #[must_use]
    pub fn new(query: Vec<f32>, count: usize) -> Self {
        Self { query, count, found: Vec::new() }
    }

    /// Considers N images with features `f32 [N,D]`, whose indices start at `first`.
    pub fn offer(&mut self, first: usize, features: &[f32]) {
        for (index, features) in (first..).zip(features.chunks_exact(self.query.len())) {
            let squares = self.query.iter().zip(features).map(|(a, b)| (a - b) * (a - b));
            let candidate = Neighbour { index, distance: squares.sum() };
            // Among equal distances the earlier image comes first; NaN is farthest.
            let place =
                self.found.partition_point(|known| known.distance.total_cmp(&candidate.distance).is_le());
            if place < self.count {
                self.found.insert(place, candidate);
                self.found.truncate(self.count);
            }
        }
    }

    /// The nearest images in ascending order of distance.
    #[must_use]
    pub fn found(&self) -> Vec<Neighbour> {
        self.found.iter().map(|found| Neighbour { distance: found.distance.sqrt(), ..*found }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_sorted_by_distance_whatever_their_order() {
        let mut nearest = Nearest::new(vec![0.0, 0.0], 3);
        nearest.offer(0, &[9.0, 0.0, 3.0, 4.0, 0.0, 1.0]);
        nearest.offer(3, &[f32::NAN, 0.0, 0.0, 0.0, 1.0, 0.0]);
        let found: Vec<(usize, f32)> =
            nearest.found().iter().map(|found| (found.index, found.distance)).collect();
        assert_eq!(found, [(4, 0.0), (2, 1.0), (5, 1.0)]);
    }

    #[test]
    fn all_images_are_found_if_there_are_fewer_than_asked_for() {
        let mut nearest = Nearest::new(vec![1.0], 5);
        nearest.offer(7, &[4.0, 1.0]);
        assert_eq!(
            nearest.found(),
            [Neighbour { index: 8, distance: 0.0 }, Neighbour { index: 7, distance: 3.0 }]
        );
    }
}
