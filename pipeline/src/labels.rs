//! What the labels of a data set are: a class, any number of classes, or numbers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the label of each image is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabelKind {
    /// One class.
    #[default]
    Class,
    /// Any number of classes, `u8 [K]` of 0 and 1.
    MultiHot,
    /// Numbers, `f32 [K]`, which the list of classes names.
    Values,
}

impl LabelKind {
    /// The name in files and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Class => "class",
            Self::MultiHot => "multi-hot",
            Self::Values => "values",
        }
    }

    /// Version of the format of shards with such labels and square images.
    pub(crate) fn format_version(self) -> u32 {
        match self {
            Self::Class => 1,
            Self::MultiHot | Self::Values => 2,
        }
    }

    /// Whether it is [`LabelKind::Class`], which files leave out.
    #[must_use]
    pub fn is_class(&self) -> bool {
        *self == Self::Class
    }
}

impl fmt::Display for LabelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The label of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Label<'a> {
    /// Position in the class list.
    Class(u32),
    /// `u8 [K]`: 1 for each class of the image, 0 for the others.
    MultiHot(&'a [u8]),
    /// `f32 [K]`.
    Values(&'a [f32]),
}

impl<'a> Label<'a> {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> LabelKind {
        match self {
            Self::Class(_) => LabelKind::Class,
            Self::MultiHot(_) => LabelKind::MultiHot,
            Self::Values(_) => LabelKind::Values,
        }
    }

    /// The class; 0 for labels of another kind.
    #[must_use]
    pub fn class(&self) -> u32 {
        match *self {
            Self::Class(class) => class,
            Self::MultiHot(_) | Self::Values(_) => 0,
        }
    }

    /// Why it is no label of a data set with `outputs` classes or numbers of `kind`, if it is none.
    pub(crate) fn problem(&self, kind: LabelKind, outputs: usize) -> Option<String> {
        let of_length = |found: usize| {
            (found != outputs).then(|| format!("{found} values in its label, expected {outputs}"))
        };
        match *self {
            _ if self.kind() != kind => Some(format!("a label of the kind {}, expected {kind}", self.kind())),
            Self::Class(class) => {
                (class as usize >= outputs).then(|| format!("label {class}, but there are {outputs} classes"))
            }
            Self::MultiHot(marks) => of_length(marks.len()).or_else(|| {
                let place = marks.iter().position(|&mark| mark > 1)?;
                Some(format!("{} for class {place} in its label, expected 0 or 1", marks[place]))
            }),
            Self::Values(values) => of_length(values.len()).or_else(|| {
                let place = values.iter().position(|value| !value.is_finite())?;
                Some(format!("{} as number {place} in its label, expected a finite one", values[place]))
            }),
        }
    }

    /// Its bytes after the class, little-endian: none, `[K]`, or `[4·K]`.
    pub(crate) fn further_bytes(&self) -> impl Iterator<Item = u8> + use<'a> {
        let (marks, values): (&[u8], &[f32]) = match *self {
            Self::Class(_) => (&[], &[]),
            Self::MultiHot(marks) => (marks, &[]),
            Self::Values(values) => (&[], values),
        };
        marks.iter().copied().chain(values.iter().flat_map(|value| value.to_le_bytes()))
    }
}

/// Labels of several images, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labels {
    kind: LabelKind,
    outputs: usize,
    classes: Vec<u32>,
    marks: Vec<u8>,
    values: Vec<f32>,
}

impl Labels {
    /// No labels of `kind` yet, for `outputs` classes or numbers.
    #[must_use]
    pub fn new(kind: LabelKind, outputs: usize) -> Self {
        Self { kind, outputs, ..Self::default() }
    }

    /// What they are.
    #[must_use]
    pub fn kind(&self) -> LabelKind {
        self.kind
    }

    /// Appends one.
    ///
    /// # Panics
    /// When it is of another kind or length.
    pub fn push(&mut self, label: Label<'_>) {
        match (label, self.kind) {
            (Label::Class(class), LabelKind::Class) => self.classes.push(class),
            (Label::MultiHot(marks), LabelKind::MultiHot) if marks.len() == self.outputs => {
                self.marks.extend(marks);
            }
            (Label::Values(values), LabelKind::Values) if values.len() == self.outputs => {
                self.values.extend(values);
            }
            _ => panic!("{label:?} among labels of the kind {} of {}", self.kind, self.outputs),
        }
    }

    /// The label of image `index`.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn get(&self, index: usize) -> Label<'_> {
        let place = index * self.outputs..(index + 1) * self.outputs;
        match self.kind {
            LabelKind::Class => Label::Class(self.classes[index]),
            LabelKind::MultiHot => Label::MultiHot(&self.marks[place]),
            LabelKind::Values => Label::Values(&self.values[place]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_another_kind_length_or_range_are_refused() {
        for (label, kind, expected) in [
            (Label::Class(3), LabelKind::Class, "label 3, but there are 3 classes"),
            (Label::Class(0), LabelKind::Values, "a label of the kind class, expected values"),
            (Label::MultiHot(&[0, 1]), LabelKind::MultiHot, "2 values in its label, expected 3"),
            (Label::MultiHot(&[0, 1, 2]), LabelKind::MultiHot, "2 for class 2 in its label, expected 0 or 1"),
            (Label::Values(&[0.0; 4]), LabelKind::Values, "4 values in its label, expected 3"),
            (Label::Values(&[0.0, f32::NAN, 1.0]), LabelKind::Values, "NaN as number 1 in its label"),
        ] {
            let problem = label.problem(kind, 3).unwrap_or_default();
            assert!(problem.contains(expected), "{label:?}: {problem}");
        }
        let sound = [Label::Class(2), Label::MultiHot(&[0, 1, 1]), Label::Values(&[-1.5, 0.0, 1e30])];
        for label in sound {
            assert_eq!(label.problem(label.kind(), 3), None);
            let mut labels = Labels::new(label.kind(), 3);
            labels.push(label);
            labels.push(label);
            assert_eq!(labels.get(1), label);
        }
    }
}
