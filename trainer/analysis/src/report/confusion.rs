//! The confusion matrix.

use std::collections::BTreeMap;

use super::section::Figure;
use crate::figure::{HeatMap, grouped};

/// Most classes that are all shown.
const MOST: usize = 12;
/// Of more classes, the most that are shown.
const WORST: usize = 10;

/// Counts of predictions by class.
#[derive(Clone, Debug, Default)]
pub(super) struct Confusion {
    counts: BTreeMap<(usize, usize), u64>,
    images: u64,
}

impl Confusion {
    /// Counts an image of the class `label` that was predicted as `prediction`.
    pub fn count(&mut self, label: usize, prediction: usize) {
        *self.counts.entry((label, prediction)).or_default() += 1;
        self.images += 1;
    }

    fn get(&self, label: usize, prediction: usize) -> u64 {
        self.counts.get(&(label, prediction)).copied().unwrap_or(0)
    }

    /// Pairs of a class and a wrong prediction with their count, the most frequent first.
    fn confused(&self) -> Vec<((usize, usize), u64)> {
        let mut pairs: Vec<((usize, usize), u64)> =
            self.counts.iter().map(|(&pair, &count)| (pair, count)).filter(|((a, b), _)| a != b).collect();
        pairs.sort_by_key(|&(pair, count)| (std::cmp::Reverse(count), pair));
        pairs
    }

    /// The classes of the most frequent confusions, in ascending order; all if there are few. Among many
    /// classes, a pair that occurs once is not significant.
    fn shown(&self, classes: usize) -> Vec<usize> {
        if classes <= MOST {
            return (0..classes).collect();
        }
        let mut shown: Vec<usize> = Vec::new();
        for ((label, prediction), _) in self.confused().into_iter().take_while(|&(_, count)| count > 1) {
            let new: Vec<usize> =
                [label, prediction].into_iter().filter(|class| !shown.contains(class)).collect();
            if shown.len() + new.len() > WORST {
                break;
            }
            shown.extend(new);
        }
        shown.sort_unstable();
        shown
    }

    /// The confusion matrix over some of the `of` images of the split `split`.
    ///
    /// # Errors
    /// The reason why there is nothing to show.
    pub fn figure(&self, names: &[String], of: usize, split: &str) -> Result<Figure, String> {
        let shown = self.shown(names.len());
        let images = some_of(self.images as usize, of);
        if shown.is_empty() {
            let classes = names.len();
            return Err(if self.confused().is_empty() {
                format!("all predictions of {images} {split} images are correct")
            } else {
                format!(
                    "none of {classes} classes was confused with the same other one more than once in {images} {split} images; \
                     --images takes more"
                )
            });
        }
        let all = shown.len() == names.len();
        let mut columns: Vec<String> = shown.iter().map(|&class| names[class].clone()).collect();
        let rows = columns.clone();
        if !all {
            columns.push("others".into());
        }
        let values = shown.iter().map(|&label| {
            let mut row: Vec<f64> =
                shown.iter().map(|&prediction| self.get(label, prediction) as f64).collect();
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
            rows_title: "class".into(),
            columns_title: "prediction".into(),
            rows,
            columns,
            values: values.collect(),
            right: (0..shown.len()).map(|index| (index, index)).collect(),
        };
        let selection = if all {
            String::new()
        } else {
            format!(
                "Of {} classes, the {} with the most frequent confusions. ",
                names.len(),
                number_word(shown.len())
            )
        };
        let caption = format!(
            "{selection}Predictions of the centre crop of {images} {split} images; correct ones are on the diagonal."
        );
        Ok(Figure { name: "confusion", svg: map.svg(), caption })
    }
}

/// `2,000 of 50,000`, or `all 1,000`.
pub(super) fn some_of(count: usize, of: usize) -> String {
    let [count, of] = [count, of].map(|count| grouped(&count.to_string()));
    if count == of { format!("all {of}") } else { format!("{count} of {of}") }
}

/// A number of classes in words.
fn number_word(number: usize) -> String {
    const WORDS: [&str; 11] =
        ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    WORDS.get(number).map_or_else(|| number.to_string(), |word| (*word).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|class| format!("class {class}")).collect()
    }

    #[test]
    fn predictions_are_counted_by_class() {
        let mut confusion = Confusion::default();
        for (label, prediction) in [(0, 0), (0, 2), (0, 2), (1, 1)] {
            confusion.count(label, prediction);
        }
        assert_eq!((confusion.get(0, 2), confusion.get(2, 0), confusion.images), (2, 0, 4));
        assert_eq!(confusion.shown(3), [0, 1, 2]);
    }

    #[test]
    fn of_many_classes_those_confused_most_are_shown_with_all_their_images() {
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
        let Figure { svg, caption, .. } = confusion.figure(&names(100), 50_000, "validation").unwrap();
        assert!(svg.body.contains(">others<") && svg.body.contains(">class 70<"), "{svg}");
        assert_eq!(
            caption,
            "Of 100 classes, the two with the most frequent confusions. Predictions of the centre crop of 205 of 50,000 \
             validation images; correct ones are on the diagonal."
        );
    }

    #[test]
    fn confusions_that_occur_once_are_shown_only_for_few_classes() {
        let mut confusion = Confusion::default();
        for class in 0..10 {
            confusion.count(class, (class + 1) % 10);
        }
        let reason = confusion.figure(&names(1000), 10, "validation").unwrap_err();
        assert!(reason.contains("1000 classes") && reason.contains("more than once in all 10"), "{reason}");
        assert!(confusion.figure(&names(10), 10, "validation").is_ok());
    }

    #[test]
    fn without_a_confusion_among_many_classes_there_is_no_figure() {
        let mut confusion = Confusion::default();
        confusion.count(3, 3);
        let reason = confusion.figure(&names(100), 1, "training").unwrap_err();
        assert_eq!(reason, "all predictions of all 1 training images are correct");
    }
}
