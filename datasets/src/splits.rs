//! Folders side by side: are they classes, or splits of a data set?
//!
//! A class may be called `train` or `valid`, and the folder of the training images `training_set`. Names
//! alone do not tell; what lies in the folders and beside them does, or else the user must.

use std::collections::{BTreeMap, BTreeSet};

use fovea_pipeline::summary::count;

use crate::note::listed;

/// How folders are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reading {
    /// As their names and content suggest; an error where that is not clear.
    #[default]
    Detect,
    /// As classes, whatever their names.
    Classes,
    /// As splits where they are named after splits: `train`, `training_set`, `val2017`, `seg_test`.
    Splits,
}

/// Words for the folder of the training images, and for that of the validation images in the order of
/// preference: where there are both, `test` seldom has labels.
const TRAIN_WORDS: [&str; 3] = ["train", "training", "trainval"];
const VAL_WORDS: [&str; 5] = ["val", "valid", "validation", "test", "testing"];
/// Words for parts of a data set that are neither.
const OTHER_WORDS: [&str; 12] = [
    "dev",
    "eval",
    "evaluation",
    "holdout",
    "heldout",
    "pred",
    "prediction",
    "submission",
    "query",
    "gallery",
    "unlabeled",
    "unlabelled",
];
/// Words that follow one of these without a space, as in `trainset`.
const SUFFIXES: [&str; 3] = ["set", "data", "images"];
/// Folders that only hold others.
const WRAPPERS: [&str; 6] = ["images", "imgs", "img", "data", "photos", "jpegimages"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Train,
    /// With its place in the order of preference.
    Val(usize),
    Other,
}

/// What a folder called `name` may be, and whether this is its whole name.
fn role_of(name: &str) -> Option<(Role, bool)> {
    let of_word = |word: &str| {
        let at = |words: &[&str]| words.iter().position(|known| *known == word);
        at(&TRAIN_WORDS)
            .map(|_| Role::Train)
            .or_else(|| at(&VAL_WORDS).map(Role::Val))
            .or_else(|| at(&OTHER_WORDS).map(|_| Role::Other))
    };
    let name = name.to_lowercase();
    if let Some(role) = of_word(&name) {
        return Some((role, true));
    }
    let words = name.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
    let role = |word: &str| {
        let stem = SUFFIXES.iter().find_map(|suffix| word.strip_suffix(suffix));
        of_word(word).or_else(|| stem.and_then(of_word))
    };
    words.filter_map(role).min().map(|role| (role, false))
}

/// A folder with images in it or below.
#[derive(Debug, Default)]
pub(crate) struct Folder<'n> {
    /// Images directly in it.
    pub(crate) files: usize,
    /// Folders in it that hold images.
    pub(crate) folders: BTreeSet<&'n str>,
    /// Whether all of its images are called like the official validation images.
    pub(crate) is_official_val: bool,
}

impl Folder<'_> {
    /// Whether all of its images lie side by side.
    fn is_flat(&self) -> bool {
        self.folders.is_empty()
    }

    fn shares_a_name_with(&self, other: &Self) -> bool {
        !self.folders.is_disjoint(&other.folders)
    }
}

/// The folders of one level.
pub(crate) type Siblings<'n> = BTreeMap<&'n str, Folder<'n>>;

/// What the folders of a level are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict<'n> {
    /// Classes, or a folder around them; those among them that are called like splits.
    Classes(Vec<&'n str>),
    /// Splits.
    Splits { train: Option<&'n str>, val: Option<&'n str> },
    /// Two readings, in words.
    Unclear { as_classes: String, as_splits: String },
}

/// Decides what the folders of a level are.
pub(crate) fn decide<'n>(siblings: &Siblings<'n>, reading: Reading) -> Verdict<'n> {
    let roles: Vec<(&'n str, Role, bool)> =
        siblings.keys().filter_map(|name| role_of(name).map(|(role, exact)| (*name, role, exact))).collect();
    // The whole name counts more than a part of it.
    let best = |wanted: fn(&Role) -> bool| {
        roles.iter().filter(|(_, role, _)| wanted(role)).min_by_key(|(_, role, exact)| (!exact, *role))
    };
    let train = best(|role| *role == Role::Train);
    let val = best(|role| matches!(role, Role::Val(_)));
    let names = (train.map(|found| found.0), val.map(|found| found.0));
    let splits = Verdict::Splits { train: names.0, val: names.1 };
    if reading == Reading::Classes {
        return Verdict::Classes(Vec::new());
    }
    if train.is_none() && val.is_none() {
        return if reading == Reading::Detect && splits_lie_below(siblings) {
            Verdict::Unclear {
                as_classes: in_words(siblings.keys()),
                as_splits: "each of them has splits of its own; give one of them with --train".to_owned(),
            }
        } else {
            Verdict::Classes(Vec::new())
        };
    }
    if reading == Reading::Splits {
        return splits;
    }
    let likely = likely(siblings, &roles, names, [train, val].into_iter().flatten().all(|found| found.2));
    match likely {
        Some(Likely::Splits) => splits,
        Some(Likely::Classes) => Verdict::Classes(roles.iter().map(|(name, ..)| *name).collect()),
        None => Verdict::Unclear {
            as_classes: in_words(siblings.keys()),
            as_splits: splits_in_words(siblings, names),
        },
    }
}

enum Likely {
    Classes,
    Splits,
}

/// What folders are of which some are called like splits; `None` if it is not clear. `exact` says that the
/// names are nothing but `train`, `val` and the like.
fn likely(
    siblings: &Siblings<'_>,
    roles: &[(&str, Role, bool)],
    (train, val): (Option<&str>, Option<&str>),
    exact: bool,
) -> Option<Likely> {
    let plain: Vec<&Folder<'_>> = siblings
        .iter()
        .filter(|(name, _)| !roles.iter().any(|(other, ..)| other == *name))
        .map(|(_, folder)| folder)
        .collect();
    let (train, val) = (train.map(|name| &siblings[name]), val.map(|name| &siblings[name]));
    let only_one = siblings.len() == 1;
    // Images side by side have no labels, so a folder with them is no split; between two folders that are
    // both called like splits, it may be unlabelled, though.
    let unlabelled = match (plain.is_empty(), only_one) {
        (true, false) => None,
        (true, true) if exact => Some(Likely::Splits),
        _ => Some(Likely::Classes),
    };
    if train.is_some_and(Folder::is_flat) {
        return unlabelled;
    }
    let split = train.or(val)?;
    if val.is_some_and(|val| val.is_flat() && val.is_official_val) {
        return Some(Likely::Splits);
    }
    if train.is_none() && split.is_flat() {
        return unlabelled;
    }
    if plain.is_empty() {
        return match (exact, only_one) {
            (true, _) if roles.iter().all(|(_, role, _)| *role != Role::Other) || val.is_some() => {
                Some(Likely::Splits)
            }
            // A folder around classes.
            (false, true) => Some(Likely::Classes),
            _ => None,
        };
    }
    let alike = plain.iter().filter(|folder| folder.shares_a_name_with(split)).count();
    match (train, val) {
        (Some(train), Some(val)) if exact && train.shares_a_name_with(val) => {
            (alike == 0).then_some(Likely::Splits)
        }
        // `bus/front`, `car/front`, `train/front`.
        _ if plain.len() > 1 && alike == plain.len() => Some(Likely::Classes),
        // One of many classes is called `freight_train`.
        _ if !exact && plain.len() > roles.len() => Some(Likely::Classes),
        _ => None,
    }
}

/// Whether each of several folders has splits in it, as data sets of several domains do.
fn splits_lie_below(siblings: &Siblings<'_>) -> bool {
    let has_splits = |folder: &Folder<'_>| {
        let has = |wanted: fn(Role) -> bool| {
            folder.folders.iter().any(|name| matches!(role_of(name), Some((role, true)) if wanted(role)))
        };
        folder.files == 0 && has(|role| role == Role::Train) && has(|role| matches!(role, Role::Val(_)))
    };
    siblings.len() > 1 && siblings.values().all(has_splits)
}

/// Whether the only folder `inside` a split called `split` merely holds the folders of classes, as in
/// `seg_train/seg_train/street`.
pub(crate) fn is_wrapper_of_split(split: &str, inside: &str, content: &Folder<'_>) -> bool {
    merely_wraps(split, inside) && content.files == 0 && !content.folders.is_empty()
}

/// Whether the names are those of a split and a folder around its classes.
fn merely_wraps(split: &str, inside: &str) -> bool {
    inside.eq_ignore_ascii_case(split)
        || role_of(inside).is_some()
        || WRAPPERS.iter().any(|wrapper| wrapper.eq_ignore_ascii_case(inside))
}

/// Whether a folder is one of test images by its name.
pub(crate) fn is_test(name: &str) -> bool {
    matches!(role_of(name), Some((Role::Val(rank), _)) if VAL_WORDS[rank].starts_with("test"))
}

/// A folder among those of the classes of a split that is itself a split by its name and has the folders of
/// the same classes in it, as in `train/cat`, `train/val/cat`.
pub(crate) fn split_among_classes<'n>(siblings: &Siblings<'n>) -> Option<&'n str> {
    siblings.iter().find_map(|(name, folder)| {
        let is_class = |inner: &&str| inner != name && siblings.contains_key(*inner);
        (matches!(role_of(name), Some((_, true))) && folder.folders.iter().any(is_class)).then_some(*name)
    })
}

/// The folders that each of several folders has in it, if it has no images beside them.
pub(crate) fn same_folders<'n, 's>(siblings: &'s Siblings<'n>) -> Option<&'s BTreeSet<&'n str>> {
    let first = &siblings.values().next()?.folders;
    let is_alike = |folder: &Folder<'_>| folder.files == 0 && folder.folders == *first;
    (siblings.len() > 1 && first.len() > 1 && siblings.values().all(is_alike)).then_some(first)
}

/// Whether a folder is one of training images by its name.
pub(crate) fn is_train(name: &str) -> bool {
    matches!(role_of(name), Some((Role::Train, _)))
}

/// Whether a folder is called like one of a split.
pub(crate) fn is_called_like_split(name: &str) -> bool {
    role_of(name).is_some()
}

fn in_words<'n>(classes: impl ExactSizeIterator<Item = &'n &'n str>) -> String {
    match classes.len() {
        1 => format!("1 class: {}", listed(classes, 1)),
        n => format!("{n} classes: {}", listed(classes, n)),
    }
}

fn splits_in_words(siblings: &Siblings<'_>, (train, val): (Option<&str>, Option<&str>)) -> String {
    let describe = |images: &str, name: Option<&str>| {
        let name = name?;
        let folder = &siblings[name];
        let path = listed([name], 1);
        let mut inside = folder.folders.iter();
        Some(match (inside.next(), inside.next()) {
            (None, _) => {
                let side_by_side = count(folder.files as u64, "image");
                format!("{images} images in {path}/ ({side_by_side} side by side)")
            }
            (Some(only), None) if merely_wraps(name, only) => {
                format!("{images} images in {path}/{}/", listed([only], 1))
            }
            _ => format!("{images} images in {path}/ ({})", in_words(folder.folders.iter())),
        })
    };
    let parts = [describe("training", train), describe("validation", val)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" and ")
}
