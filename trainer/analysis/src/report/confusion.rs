//! Which classes are taken for which.

use std::collections::BTreeMap;

use super::Figure;
use crate::figure::{HeatMap, grouped};

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

    /// Pairs of a class and another that was taken for it, with how often; the most frequent first.
    fn confused(&self) -> Vec<((usize, usize), u64)> {
        let mut pairs: Vec<((usize, usize), u64)> =
            self.counts.iter().map(|(&pair, &count)| (pair, count)).filter(|((a, b), _)| a != b).collect();
        pairs.sort_by_key(|&(pair, count)| (std::cmp::Reverse(count), pair));
        pairs
    }

    /// The classes that stand in the most frequent confusions, in their order; all where there are few. Of many classes, a pair that
    /// occurs once tells nothing.
    fn shown(&self, classes: usize) -> Vec<usize> {
        if classes <= MOST {
            return (0..classes).collect();
        }
        let mut shown: Vec<usize> = Vec::new();
        for ((label, answer), _) in self.confused().into_iter().take_while(|&(_, count)| count > 1) {
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

    /// The table, of answers to some of the `of` images of the split `split`.
    ///
    /// # Errors
    /// The reason why there is nothing to show.
    pub fn figure(&self, names: &[String], of: usize, split: &str) -> Result<Figure, String> {
        let shown = self.shown(names.len());
        let images = some_of(self.images as usize, of);
        if shown.is_empty() {
            let classes = names.len();
            return Err(if self.confused().is_empty() {
                format!("every answer to {images} {split} images is right")
            } else {
                format!(
                    "none of {classes} classes was taken for the same other one more than once in {images} {split} images; \
                     --images asks about more"
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
        let selection = if all {
            String::new()
        } else {
            format!(
                "Of {} classes, the {} in the most frequent confusions. ",
                names.len(),
                number_word(shown.len())
            )
        };
        let caption = format!(
            "{selection}Best answers to the centre view of {images} {split} images: right ones on the diagonal."
        );
        Ok(Figure { name: "confusion", svg: map.svg(), caption })
    }
}

/// `2,000 of 50,000`, or `all 1,000`.
pub(super) fn some_of(looked_at: usize, of: usize) -> String {
    let [looked_at, of] = [looked_at, of].map(|count| grouped(&count.to_string()));
    if looked_at == of { format!("all {of}") } else { format!("{looked_at} of {of}") }
}

/// A number of classes as it stands in a sentence.
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
        let Figure { svg, caption, .. } = confusion.figure(&names(100), 50_000, "validation").unwrap();
        assert!(svg.contains(">others<") && svg.contains(">class 70<"), "{svg}");
        assert_eq!(
            caption,
            "Of 100 classes, the two in the most frequent confusions. Best answers to the centre view of 205 of 50,000 validation \
             images: right ones on the diagonal."
        );
    }

    #[test]
    fn confusions_that_occur_once_make_a_table_of_few_classes_only() {
        let mut confusion = Confusion::default();
        for class in 0..10 {
            confusion.count(class, (class + 1) % 10);
        }
        let reason = confusion.figure(&names(1000), 10, "validation").unwrap_err();
        assert!(reason.contains("1000 classes") && reason.contains("more than once in all 10"), "{reason}");
        assert!(confusion.figure(&names(10), 10, "validation").is_ok());
    }

    #[test]
    fn without_a_confusion_among_many_classes_there_is_no_table() {
        let mut confusion = Confusion::default();
        confusion.count(3, 3);
        let reason = confusion.figure(&names(100), 1, "training").unwrap_err();
        assert_eq!(reason, "every answer to all 1 training images is right");
    }
}
