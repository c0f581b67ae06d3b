//! Trees of folders: which folders are splits, which are classes.
//!
//! A tree is a list of images with their paths; it may come from a disk or from an archive.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::SourceError;
use crate::collection::{Found, is_image_name};
use crate::positioned::PositionedFile;
use crate::tar_members::Member;

const TRAIN_NAMES: [&str; 2] = ["train", "training"];
/// In the order of preference: where there are both, `test` seldom has labels.
const VAL_NAMES: [&str; 5] = ["val", "valid", "validation", "test", "testing"];

/// The images of a tree or of a part of it.
pub(crate) enum TreeImages {
    /// In one folder per class.
    Classes(Found),
    /// Side by side; their labels are in another file.
    Flat(Found),
}

impl TreeImages {
    /// The images with their classes.
    ///
    /// # Errors
    /// When they lie side by side.
    pub(crate) fn in_classes(self) -> Result<Found, SourceError> {
        match self {
            Self::Classes(found) => Ok(found),
            // The collection reports that there are none.
            Self::Flat(found) if found.len() == 0 => Ok(found),
            Self::Flat(found) => Err(SourceError::Layout {
                path: found.origin().to_owned(),
                found: format!("{} images side by side", found.len()),
                expected: "one folder for each class".to_owned(),
            }),
        }
    }
}

/// What a tree holds.
pub(crate) enum Tree {
    /// Images of no particular split.
    Unsplit(TreeImages),
    /// One folder per split.
    Splits {
        /// Images of `train/`.
        train: Option<TreeImages>,
        /// Images of `val/` or a folder of similar name.
        val: Option<TreeImages>,
    },
}

/// A list of images, from which trees are made.
pub(crate) struct Listing<'a> {
    origin: Origin<'a>,
    /// Paths with `/`, relative to the origin, and places in the archive.
    images: Vec<(String, Range<u64>)>,
}

enum Origin<'a> {
    Folder(&'a Path),
    Tar(&'a Arc<PositionedFile>),
}

impl<'a> Listing<'a> {
    /// The images among the files `names` below the folder `root`.
    pub(crate) fn in_folder(root: &'a Path, names: Vec<String>) -> Self {
        let images = names.into_iter().filter(|name| is_image_name(name)).map(|name| (name, 0..0)).collect();
        Listing { origin: Origin::Folder(root), images }
    }

    /// The images among the members of a tar file.
    pub(crate) fn in_tar(file: &'a Arc<PositionedFile>, members: Vec<Member>) -> Self {
        let images = members
            .into_iter()
            .filter(|member| is_image_name(&member.name))
            .map(|member| {
                let range = member.range();
                (member.name, range)
            })
            .collect();
        Listing { origin: Origin::Tar(file), images }
    }

    /// The folder or archive.
    fn path(&self) -> &Path {
        match self.origin {
            Origin::Folder(root) => root,
            Origin::Tar(file) => file.path(),
        }
    }

    /// Whether there are no images.
    pub(crate) fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Finds out what the folders are. A folder around all of the images is skipped. Below it are folders
    /// named after splits (others next to them are ignored), or folders of classes, or images side by side.
    pub(crate) fn tree(&self) -> Result<Tree, SourceError> {
        let mut prefix = String::new();
        loop {
            let level = Level::at(&prefix, &self.images);
            let (train, val) = (level.folder_among(&TRAIN_NAMES), level.folder_among(&VAL_NAMES));
            for name in [train, val].into_iter().flatten() {
                if let Some(twin) = level.twin_of(name) {
                    return Err(SourceError::Layout {
                        path: self.path().to_owned(),
                        found: format!("both {prefix}{name}/ and {prefix}{twin}/"),
                        expected: "one folder for each split; put their content together".to_owned(),
                    });
                }
            }
            if train.is_some() || val.is_some() {
                let split = |name: Option<&str>| {
                    name.map(|name| self.images_below(&format!("{prefix}{name}/"))).transpose()
                };
                return Ok(Tree::Splits { train: split(train)?, val: split(val)? });
            }
            match level.only_folder() {
                Some(folder) if self.is_wrapper(&prefix, folder) => prefix = format!("{prefix}{folder}/"),
                _ => return Ok(Tree::Unsplit(self.images_below(&prefix)?)),
            }
        }
    }

    /// Whether the only folder at `prefix` is just a wrapper: it holds folders, or the official validation
    /// images side by side.
    fn is_wrapper(&self, prefix: &str, folder: &str) -> bool {
        let inside = Level::at(&format!("{prefix}{folder}/"), &self.images);
        inside.files == 0
            || (inside.folders.is_empty()
                && !is_wnid(folder)
                && self.images.iter().all(|(name, _)| is_official_val_name(name)))
    }

    /// The images of a split or of classes, where it is known that the topmost folders are those of classes.
    pub(crate) fn images(&self) -> Result<TreeImages, SourceError> {
        self.images_below("")
    }

    fn images_below(&self, prefix: &str) -> Result<TreeImages, SourceError> {
        let below = || {
            let rows = self.images.iter();
            rows.filter_map(|(name, range)| Some((name.strip_prefix(prefix)?, range.clone())))
        };
        let mut found = match self.origin {
            Origin::Folder(root) if prefix.is_empty() => Found::in_folder(root),
            Origin::Folder(root) => Found::in_folder(&root.join(prefix.trim_end_matches('/'))),
            Origin::Tar(file) => Found::in_tar(file),
        };
        if below().all(|(name, _)| !name.contains('/')) {
            let none = found.class("");
            below().for_each(|(name, range)| found.push(name.to_owned(), none, range));
            return Ok(TreeImages::Flat(found));
        }
        let mut classes = HashMap::new();
        for (name, range) in below() {
            let Some((class, _)) = name.split_once('/') else {
                return Err(SourceError::Layout {
                    path: found.origin().to_owned(),
                    found: format!("image {name:?} next to folders of images"),
                    expected: "one folder for each class and nothing else; move the image into one"
                        .to_owned(),
                });
            };
            let number = *classes.entry(class.to_owned()).or_insert_with(|| found.class(class));
            found.push(name.to_owned(), number, range);
        }
        Ok(TreeImages::Classes(found))
    }
}

/// Whether the file has the form of `ILSVRC2012_val_00000001.JPEG`.
fn is_official_val_name(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with("ILSVRC20") && name.contains("_val_")
}

/// Whether a folder has the form of `n01440764`.
fn is_wnid(folder: &str) -> bool {
    folder
        .strip_prefix('n')
        .is_some_and(|digits| digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// The folders and the number of images directly below a prefix.
struct Level<'n> {
    folders: BTreeSet<&'n str>,
    files: usize,
}

impl<'n> Level<'n> {
    fn at(prefix: &str, images: &'n [(String, Range<u64>)]) -> Self {
        let mut level = Level { folders: BTreeSet::new(), files: 0 };
        for name in images.iter().filter_map(|(name, _)| name.strip_prefix(prefix)) {
            match name.split_once('/') {
                Some((folder, _)) => {
                    level.folders.insert(folder);
                }
                None => level.files += 1,
            }
        }
        level
    }

    fn folder_among(&self, names: &[&str]) -> Option<&'n str> {
        let find =
            |name: &&str| self.folders.iter().find(|folder| folder.eq_ignore_ascii_case(name)).copied();
        names.iter().find_map(find)
    }

    /// A folder whose name differs from `name` in upper and lower case only.
    fn twin_of(&self, name: &str) -> Option<&'n str> {
        self.folders.iter().find(|folder| **folder != name && folder.eq_ignore_ascii_case(name)).copied()
    }

    fn only_folder(&self) -> Option<&'n str> {
        if self.files == 0 && self.folders.len() == 1 { self.folders.first().copied() } else { None }
    }
}
