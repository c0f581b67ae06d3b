//! Which classes are taken for which.

use std::collections::BTreeMap;

use super::Figure;
use crate::figure::HeatMap;

/// Classes that a table shows at most.
const MOST: usize = 12;
/// Where there are more, the classes that are confused most.
const WORST: usize = 10;

/// Counts of answers by class.
#[derive(Clone, Debug, Default)]
pub(super) struct Confusion {
    counts: BTreeMap<(usize, usize), u64>,
    images: u64,
}

impl Confusion {
    /// Counts an image of the class `label` for which the best answer was `answer`.
    pub fn count(&mut self, label: usize, answer: usize) {
        *self.counts.entry((label, answer)).or_default() += 1;
        self.images += 1;
    }

    fn of(&self, label: usize, answer: usize) -> u64 {
        self.counts.get(&(label, answer)).copied().unwrap_or(0)
    }

    /// The classes that stand in the most frequent confusions, in their order; all where there are few.
    fn shown(&self, classes: usize) -> Vec<usize> {
        if classes <= MOST {
            return (0..classes).collect();
        }
        let mut pairs: Vec<((usize, usize), u64)> =
            self.counts.iter().map(|(&pair, &count)| (pair, count)).filter(|((a, b), _)| a != b).collect();
        pairs.sort_by_key(|&(pair, count)| (std::cmp::Reverse(count), pair));
        let mut shown: Vec<usize> = Vec::new();
        for ((label, answer), _) in pairs {
            let new: Vec<usize> =
                [label, answer].into_iter().filter(|class| !shown.contains(class)).collect();
            if shown.len() + new.len() > WORST {
                break;
            }
            shown.extend(new);
        }
        shown.sort_unstable();
        shown
    }

    /// The table; `None` when nothing was confused.
    pub fn figure(&self, names: &[String]) -> Option<Figure> {
        let shown = self.shown(names.len());
        if shown.is_empty() {
            return None;
        }
        let all = shown.len() == names.len();
        let mut columns: Vec<String> = shown.iter().map(|&class| names[class].clone()).collect();
        let rows = columns.clone();
        if !all {
            columns.push("others".into());
        }
        let values = shown.iter().map(|&label| {
            let mut row: Vec<f64> = shown.iter().map(|&answer| self.of(label, answer) as f64).collect();
            if !all {
                let total: u64 = self
                    .counts
                    .iter()
                    .filter(|((class, _), _)| *class == label)
                    .map(|(_, count)| count)
                    .sum();
                row.push(total as f64 - row.iter().sum::<f64>());
            }
            row
        });
        let map = HeatMap {
            title: if all { "Confusion".into() } else { "Classes that are confused most".into() },
            rows_title: "what it is".into(),
            columns_title: "what the network says".into(),
            rows,
            columns,
            values: values.collect(),
            right: (0..shown.len()).map(|index| (index, index)).collect(),
        };
        let caption = format!("Best answers to {} images: right ones on the diagonal.", self.images);
        Some(Figure { name: "confusion", svg: map.svg(), caption })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|class| format!("class {class}")).collect()
    }

    #[test]
    fn answers_are_counted_by_class_and_answer() {
        let mut confusion = Confusion::default();
        for (label, answer) in [(0, 0), (0, 2), (0, 2), (1, 1)] {
            confusion.count(label, answer);
        }
        assert_eq!((confusion.of(0, 2), confusion.of(2, 0), confusion.images), (2, 0, 4));
        assert_eq!(confusion.shown(3), [0, 1, 2]);
    }

    #[test]
    fn of_many_classes_those_that_are_confused_most_are_shown_with_all_their_images() {
        let mut confusion = Confusion::default();
        for class in 0..100 {
            confusion.count(class, class);
            confusion.count(class, (class + 1) % 100);
        }
        for _ in 0..5 {
            confusion.count(70, 20);
        }
        let shown = confusion.shown(100);
        assert!(shown.len() <= WORST && shown.contains(&70) && shown.contains(&20), "{shown:?}");
        let svg = confusion.figure(&names(100)).unwrap().svg;
        assert!(svg.contains(">others<") && svg.contains(">class 70<"), "{svg}");
    }

    #[test]
    fn without_a_confusion_among_many_classes_there_is_no_table() {
        let mut confusion = Confusion::default();
        confusion.count(3, 3);
        assert!(confusion.figure(&names(100)).is_none());
    }
}
