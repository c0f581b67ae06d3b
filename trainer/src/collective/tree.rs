//! Sums in a fixed binary tree.
//!
//! The parts of a batch are added as the leaves of a binary tree: neighbours first, then neighbouring pairs,
//! and so on. A process that holds 1, 2, 4 … neighbouring parts computes a whole branch, so the sum of all is
//! the same, to the bit, for any number of processes.

/// Adds `items` in the tree; `None` if there are none. `add(a, b)` adds `b`, the later one, to `a`.
pub fn sum_in_tree<T>(items: impl IntoIterator<Item = T>, mut add: impl FnMut(&mut T, T)) -> Option<T> {
    let mut branches = Branches::default();
    let mut sums: Vec<T> = Vec::new();
    for item in items {
        sums.push(item);
        for _ in 0..branches.push() {
            join_last(&mut sums, &mut add);
        }
    }
    for _ in 0..branches.finish() {
        join_last(&mut sums, &mut add);
    }
    sums.pop()
}

fn join_last<T>(sums: &mut Vec<T>, add: &mut impl FnMut(&mut T, T)) {
    let last = sums.pop().expect("branches are joined in pairs");
    add(sums.last_mut().expect("branches are joined in pairs"), last);
}

/// The branches of a tree that grows leaf by leaf: which sums are complete, and when the last two of them are
/// to be joined.
#[derive(Clone, Debug, Default)]
pub(crate) struct Branches {
    /// Depths of the branches, from the first.
    depths: Vec<u32>,
}

impl Branches {
    /// Number of branches: where the next leaf goes.
    pub fn len(&self) -> usize {
        self.depths.len()
    }

    /// Adds a leaf as a branch; returns how often the last two branches are to be joined then.
    pub fn push(&mut self) -> usize {
        self.depths.push(0);
        let mut joins = 0;
        while let [.., before, last] = self.depths[..]
            && before == last
        {
            self.depths.pop();
            *self.depths.last_mut().expect("one of two remains") += 1;
            joins += 1;
        }
        joins
    }

    /// Leaves one branch; returns how often the last two are to be joined for it.
    pub fn finish(&mut self) -> usize {
        let joins = self.depths.len().saturating_sub(1);
        self.depths.truncate(1);
        joins
    }

    /// Cuts the tree down.
    pub fn clear(&mut self) {
        self.depths.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(leaves: std::ops::Range<usize>) -> String {
        let leaves = leaves.map(|leaf| leaf.to_string());
        sum_in_tree(leaves, |sum, item| *sum = format!("({sum}+{item})")).unwrap_or_default()
    }

    #[test]
    fn neighbours_are_added_first() {
        assert_eq!(shown(0..0), "");
        assert_eq!(shown(0..1), "0");
        assert_eq!(shown(0..2), "(0+1)");
        assert_eq!(shown(0..3), "((0+1)+2)");
        assert_eq!(shown(0..4), "((0+1)+(2+3))");
        assert_eq!(shown(0..6), "(((0+1)+(2+3))+(4+5))");
        assert_eq!(shown(0..7), "(((0+1)+(2+3))+((4+5)+6))");
    }

    #[test]
    fn equal_runs_of_1_2_4_leaves_are_whole_branches() {
        for run in [1, 2, 4, 8] {
            for world in 1..9 {
                let branches = (0..world).map(|rank| shown(rank * run..(rank + 1) * run));
                let together = sum_in_tree(branches, |sum, item| *sum = format!("({sum}+{item})"));
                assert_eq!(together.unwrap(), shown(0..world * run), "{world} runs of {run}");
            }
        }
        let odd = [shown(0..3), shown(3..6)];
        let together = sum_in_tree(odd, |sum, item| *sum = format!("({sum}+{item})"));
        assert_ne!(together.unwrap(), shown(0..6), "runs of three are not");
    }
}
