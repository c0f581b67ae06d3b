//! Trees of folders: which folders are splits, which are classes.
//!
//! A tree is a list of images with their paths; it may come from a disk or from an archive.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fovea_pipeline::summary::count;

use crate::collection::{Found, beginning_of, is_unnamed_image};
use crate::names::{is_attribute_file, is_image_name};
use crate::note::listed;
use crate::others::Others;
use crate::positioned::PositionedFile;
use crate::splits::{self, Folder, Reading, Siblings, Verdict};
use crate::tar_members::Member;
use crate::{Note, SourceError};

/// The images of a tree or of a part of it.
pub(crate) enum TreeImages {
    /// In one folder per class.
    Classes(Found),
    /// Side by side; their labels are in another file.
    Flat(Found),
}

impl TreeImages {
    /// The images, with labels or without.
    pub(crate) fn found(&mut self) -> &mut Found {
        match self {
            Self::Classes(found) | Self::Flat(found) => found,
        }
    }

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
        /// Whether that is one of test images by its name, which may have no labels.
        val_is_test: bool,
    },
}

/// A list of images, from which trees are made.
pub(crate) struct Listing<'a> {
    origin: Origin<'a>,
    /// Paths with `/`, relative to the origin, and places in the archive.
    images: Vec<(String, Range<u64>)>,
    /// Paths of those that have not the name of an image.
    unnamed: Vec<String>,
    /// Paths of what is not taken.
    others: Others,
}

enum Origin<'a> {
    Folder(&'a Path),
    Tar(&'a Arc<PositionedFile>),
}

impl<'a> Listing<'a> {
    /// The images among the files `names` below the folder `root`.
    pub(crate) fn in_folder(root: &'a Path, names: Vec<String>, mut others: Others) -> Self {
        let (images, files): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| is_image_name(name));
        let is_unnamed = |name: &String| is_unnamed_image(name, || beginning_of(&root.join(name)));
        let (unnamed, files): (Vec<_>, Vec<_>) = files.into_iter().partition(is_unnamed);
        others.files.extend(files);
        let images = images.into_iter().chain(unnamed.iter().cloned()).map(|name| (name, 0..0)).collect();
        Listing { origin: Origin::Folder(root), images, unnamed, others }
    }

    /// The images among the members of a tar file.
    pub(crate) fn in_tar(file: &'a Arc<PositionedFile>, members: Vec<Member>, mut others: Others) -> Self {
        let (images, files): (Vec<_>, Vec<_>) =
            members.into_iter().partition(|member| is_image_name(&member.name));
        let (unnamed, files): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|member| member.is_unnamed_image(file));
        let names_of_unnamed = unnamed.iter().map(|member| member.name.clone()).collect();
        let images = images
            .into_iter()
            .chain(unnamed)
            .map(|member| {
                let range = member.range();
                (member.name, range)
            })
            .collect();
        others.files.extend(files.into_iter().map(|member| member.name));
        Listing { origin: Origin::Tar(file), images, unnamed: names_of_unnamed, others }
    }

    /// The folder or archive.
    fn path(&self) -> &Path {
        match self.origin {
            Origin::Folder(root) => root,
            Origin::Tar(file) => file.path(),
        }
    }

    /// Paths of the images, relative to the origin.
    pub(crate) fn into_image_names(self) -> Vec<String> {
        self.images.into_iter().map(|(name, _)| name).collect()
    }

    /// Leaves out the file `path`, if it is among those that are no images.
    pub(crate) fn leave_out(&mut self, path: &Path) {
        let (root, Ok(path)) = (self.path().to_owned(), path.canonicalize()) else { return };
        self.others.files.retain(|name| root.join(name).canonicalize().is_ok_and(|other| other != path));
    }

    /// What is said of files that are no images, and of images without the name of one.
    pub(crate) fn notes(&self) -> Vec<Note> {
        self.left_out(&[""])
    }

    /// Whether there are no images.
    pub(crate) fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Finds out what the folders are. A folder around all of the images is skipped. Below it are folders of
    /// splits (what lies beside them is passed over), or folders of classes, or images side by side.
    ///
    /// # Errors
    /// When that is not clear and `reading` does not say it.
    pub(crate) fn tree(&self, reading: Reading) -> Result<Tree, SourceError> {
        let mut prefix = String::new();
        loop {
            let level = Level::at(&prefix, &self.images);
            match splits::decide(&level.folders, reading) {
                Verdict::Splits { train, val } => return self.splits(&prefix, &level, (train, val), reading),
                Verdict::Unclear { as_classes, as_splits } => {
                    let path = self.path_of(&prefix);
                    return Err(SourceError::UnclearFolders { path, as_classes, as_splits });
                }
                Verdict::Classes(like_splits) => match level.only_folder() {
                    Some(folder) if self.is_wrapper(&prefix, folder) => prefix = format!("{prefix}{folder}/"),
                    _ => {
                        let mut images = self.images_below(&prefix)?;
                        let notes = &mut images.found().notes;
                        notes.extend(self.left_out(&[prefix.as_str()]));
                        if let Some(inner) = splits::same_folders(&level.folders) {
                            let names: Vec<String> = inner.iter().map(|name| (*name).to_owned()).collect();
                            let message = format!(
                                "each of the {} has the same folders in it, which were not taken for classes: {}",
                                count(level.folders.len() as u64, "class"),
                                listed(&names, names.len())
                            );
                            notes.push(Note::about("same-folders", &self.path_of(&prefix), names, message));
                        }
                        if !like_splits.is_empty() {
                            let names: Vec<String> =
                                like_splits.iter().map(|name| (*name).to_owned()).collect();
                            let message = format!(
                                "{} read as classes, like the folders beside; --layout splits reads them as splits",
                                listed(&names, names.len())
                            );
                            notes.push(Note::about("layout", &self.path_of(&prefix), names, message));
                        }
                        return Ok(Tree::Unsplit(images));
                    }
                },
            }
        }
    }

    fn splits(
        &self,
        prefix: &str,
        level: &Level<'_>,
        (train, val): (Option<&str>, Option<&str>),
        reading: Reading,
    ) -> Result<Tree, SourceError> {
        for name in [train, val].into_iter().flatten() {
            if let Some(twin) = level.twin_of(name) {
                return Err(SourceError::Layout {
                    path: self.path().to_owned(),
                    found: format!("both {prefix}{name}/ and {prefix}{twin}/"),
                    expected: "one folder for each split; put their content together".to_owned(),
                });
            }
        }
        let prefixes = [train, val].map(|name| name.map(|name| self.inside_split(prefix, name)));
        for prefix in prefixes.iter().flatten().filter(|_| reading == Reading::Detect) {
            let level = Level::at(prefix, &self.images);
            if let Some(name) = splits::split_among_classes(&level.folders) {
                return Err(SourceError::Layout {
                    path: self.path_of(prefix),
                    found: format!("{name:?} among the folders of classes, with such folders in it"),
                    expected:
                        "one split; give --train and --val the folders of both, or take it for a class \
                               with --layout splits"
                            .to_owned(),
                });
            }
        }
        let images = |prefix: &Option<String>| prefix.as_ref().map(|prefix| self.images_below(prefix));
        let (mut train, mut val_images) =
            (images(&prefixes[0]).transpose()?, images(&prefixes[1]).transpose()?);
        let prefixes: Vec<&str> = prefixes.iter().flatten().map(String::as_str).collect();
        if let Some(images) = train.as_mut().or(val_images.as_mut()) {
            images.found().notes.extend(self.left_out(&prefixes));
        }
        Ok(Tree::Splits { train, val: val_images, val_is_test: val.is_some_and(splits::is_test) })
    }

    /// The prefix of the images of a split, without folders that only lie around those of its classes.
    fn inside_split(&self, prefix: &str, split: &str) -> String {
        let mut inside = format!("{prefix}{split}/");
        loop {
            let level = Level::at(&inside, &self.images);
            match level.only_folder() {
                Some(folder) if splits::is_wrapper_of_split(split, folder, &level.folders[folder]) => {
                    inside = format!("{inside}{folder}/");
                }
                _ => return inside,
            }
        }
    }

    /// What is said of everything that is not below one of `prefixes`, and of files that are no images.
    fn left_out(&self, prefixes: &[&str]) -> Vec<Note> {
        let path = self.path();
        let is_below = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix));
        let unnamed = self.unnamed.iter().filter(|name| is_below(name)).cloned().collect();
        let mut notes: Vec<Note> = Note::taken_by_content(path, unnamed).into_iter().collect();
        notes.extend(self.others.notes(path));
        let beside: Vec<&String> =
            self.images.iter().map(|(name, _)| name).filter(|name| !is_below(name)).collect();
        if !beside.is_empty() {
            let folders: BTreeSet<&str> = beside
                .iter()
                .map(|name| name.rsplit_once('/').map_or("./", |(folder, _)| top(folder)))
                .collect();
            let message = format!(
                "{} beside the splits passed over, in {}",
                count(beside.len() as u64, "image"),
                listed(&folders, folders.len())
            );
            notes.push(Note::about("beside-splits", path, beside.into_iter().cloned().collect(), message));
        }
        notes
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
        let mut images = self.images_below("")?;
        images.found().notes.extend(self.notes());
        Ok(images)
    }

    /// The path of what lies below `prefix`, or of the archive.
    fn path_of(&self, prefix: &str) -> PathBuf {
        match self.origin {
            Origin::Folder(root) if prefix.is_empty() => root.to_owned(),
            Origin::Folder(root) => root.join(prefix.trim_end_matches('/')),
            Origin::Tar(file) => file.path().to_owned(),
        }
    }

    fn images_below(&self, prefix: &str) -> Result<TreeImages, SourceError> {
        let below = || {
            let rows = self.images.iter();
            rows.filter_map(|(name, range)| Some((name.strip_prefix(prefix)?, range.clone())))
        };
        let path = self.path_of(prefix);
        let mut found = match self.origin {
            Origin::Folder(_) => Found::in_folder(&path),
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
        let empty = self.folders_below(prefix).filter(|folder| !classes.contains_key(*folder));
        let empty: BTreeSet<String> = empty.map(str::to_owned).collect();
        if !empty.is_empty() {
            let names: Vec<String> = empty.into_iter().collect();
            let message = format!(
                "{} without an image left out of the classes: {}",
                count(names.len() as u64, "folder"),
                listed(&names, names.len())
            );
            found.notes.push(Note::about("empty-folders", &path, names, message));
        }
        Ok(TreeImages::Classes(found))
    }

    /// Names of the folders directly below `prefix`, with repetitions; those that systems leave are left out.
    fn folders_below(&self, prefix: &str) -> impl Iterator<Item = &str> {
        let of_files = self.others.files.iter().filter_map(|file| Some(file.rsplit_once('/')?.0));
        let all = self.others.folders.iter().map(String::as_str).chain(of_files);
        let below = all.filter_map(move |folder| folder.strip_prefix(prefix)).map(top);
        below.filter(|name| !name.is_empty() && !is_attribute_file(name))
    }
}

/// The first part of a path.
fn top(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
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
    folders: Siblings<'n>,
    files: usize,
}

impl<'n> Level<'n> {
    fn at(prefix: &str, images: &'n [(String, Range<u64>)]) -> Self {
        let mut level = Level { folders: Siblings::new(), files: 0 };
        for name in images.iter().filter_map(|(name, _)| name.strip_prefix(prefix)) {
            let Some((folder, inside)) = name.split_once('/') else {
                level.files += 1;
                continue;
            };
            let new = || Folder { is_official_val: true, ..Folder::default() };
            let folder = level.folders.entry(folder).or_insert_with(new);
            folder.is_official_val &= is_official_val_name(inside);
            match inside.split_once('/') {
                Some((inner, _)) => {
                    folder.folders.insert(inner);
                }
                None => folder.files += 1,
            }
        }
        level
    }

    /// A folder whose name differs from `name` in upper and lower case only.
    fn twin_of(&self, name: &str) -> Option<&'n str> {
        self.folders.keys().find(|folder| **folder != name && folder.eq_ignore_ascii_case(name)).copied()
    }

    fn only_folder(&self) -> Option<&'n str> {
        if self.files == 0 && self.folders.len() == 1 { self.folders.keys().next().copied() } else { None }
    }
}
