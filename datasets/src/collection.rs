//! Image files in folders and tar archives with their labels: the common form of most layouts.
//!
//! A layout finds [`Found`] images, labelled by class name, one split at a time, and perhaps a [`ClassList`].
//! [`Collection::build`] gives the classes their indices, checks and sorts everything, and reads the images.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fovea_pipeline::summary::count;
use fovea_pipeline::{Class, Split};

use crate::image_labels::ImageLabels;
use crate::names::{IMAGE_FILES, is_attribute_file, is_image_name};
use crate::note::listed;
use crate::photo::{BEGINNING_BYTES, is_image};
use crate::positioned::{PositionedFile, io_error, open_file, stamp};
use crate::tar_header::{BLOCK, Block, time_of_change};
use crate::{Entry, Note, Payload, Source, SourceError, Stamp};

/// Larger sizes are refused: no photo has them, but a damaged size field may.
const MAX_IMAGE_BYTES: u64 = 1 << 30;

/// Raw pictures of cameras: TIFF files by their content, of which no more than a preview could be read.
const RAW_EXTENSIONS: [&str; 18] = [
    "3fr", "arw", "cr2", "dcr", "dng", "erf", "fff", "iiq", "k25", "kdc", "mef", "mos", "nef", "nrw", "pef",
    "sr2", "srf", "srw",
];

/// Whether a file without the name of an image is one by its content, of which `beginning` gives the first
/// [`BEGINNING_BYTES`]; it is called only if the name allows that.
pub(crate) fn is_unnamed_image(path: &str, beginning: impl FnOnce() -> Option<Vec<u8>>) -> bool {
    let extension = path.rsplit('/').next().and_then(|file| Some(file.rsplit_once('.')?.1));
    let is_raw = extension.is_some_and(|it| RAW_EXTENSIONS.iter().any(|raw| raw.eq_ignore_ascii_case(it)));
    !is_raw && !is_attribute_file(path) && beginning().is_some_and(|bytes| is_image(&bytes))
}

/// Whether a file on disk is an image for every source, by its name or its content.
#[must_use]
pub fn is_image_file(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| is_image_name(name) || is_unnamed_image(name, || beginning_of(path)))
}

/// The first bytes of a file; `None` if it cannot be read.
pub(crate) fn beginning_of(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(BEGINNING_BYTES);
    open_file(path).ok()?.take(BEGINNING_BYTES as u64).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The classes that labels refer to, sorted by WNID, and the file or folder that lists them.
#[derive(Clone, Debug)]
pub(crate) struct ClassList {
    pub(crate) classes: Vec<Class>,
    pub(crate) from: PathBuf,
}

impl ClassList {
    /// Sorts `classes` by WNID.
    ///
    /// # Errors
    /// When a WNID occurs twice or there are no classes.
    pub(crate) fn new(mut classes: Vec<Class>, from: &Path) -> Result<Self, SourceError> {
        let wrong = |problem| SourceError::Classes { path: from.to_owned(), problem };
        classes.sort_by(|a, b| a.wnid.cmp(&b.wnid));
        if let Some(pair) = classes.windows(2).find(|pair| pair[0].wnid == pair[1].wnid) {
            return Err(wrong(format!("class {:?} is listed twice", pair[0].wnid)));
        }
        if classes.is_empty() {
            return Err(wrong("no classes are listed".to_owned()));
        }
        Ok(Self { classes, from: from.to_owned() })
    }

    /// Classes without other names than those of their folders.
    pub(crate) fn from_names(mut names: Vec<String>, from: &Path) -> Result<Self, SourceError> {
        names.sort();
        names.dedup();
        let class = |name: String| Class { wnid: name.clone(), ilsvrc_id: None, name };
        Self::new(names.into_iter().map(class).collect(), from)
    }

    /// The index of a WNID.
    pub(crate) fn index(&self, wnid: &str) -> Option<usize> {
        self.classes.binary_search_by(|class| class.wnid.as_str().cmp(wnid)).ok()
    }
}

/// Images of one split, labelled by the name of their class.
#[derive(Debug)]
pub(crate) struct Found {
    /// The folder or archive, for errors.
    origin: PathBuf,
    store: Store,
    /// Names of classes; labels of `rows` are positions in this list, in no particular order.
    names: Vec<String>,
    rows: Vec<(Entry, Range<u64>)>,
    /// What the user should know about them.
    pub(crate) notes: Vec<Note>,
}

/// Where the bytes of images are.
#[derive(Debug)]
enum Store {
    /// In files below this folder, named by their keys.
    Folder(PathBuf),
    /// In ranges of this file.
    Tar(Arc<PositionedFile>),
}

impl Found {
    /// Starts a list of files below `root`.
    pub(crate) fn in_folder(root: &Path) -> Self {
        Self::new(root, Store::Folder(root.to_owned()))
    }

    /// Starts a list of members of a tar file.
    pub(crate) fn in_tar(file: &Arc<PositionedFile>) -> Self {
        Self::new(file.path(), Store::Tar(Arc::clone(file)))
    }

    fn new(origin: &Path, store: Store) -> Self {
        Self { origin: origin.to_owned(), store, names: vec![], rows: vec![], notes: vec![] }
    }

    /// Whether `other` has the same images of the same folder or archive.
    pub(crate) fn is_same_as(&mut self, other: &mut Self) -> bool {
        let is_same_place = match (self.origin.canonicalize(), other.origin.canonicalize()) {
            (Ok(here), Ok(there)) => here == there,
            _ => false,
        };
        if !is_same_place || self.rows.len() != other.rows.len() {
            return false;
        }
        for found in [&mut *self, &mut *other] {
            found.rows.sort_by(|a, b| a.0.key.cmp(&b.0.key));
        }
        let key_and_place = |(entry, place): &(Entry, Range<u64>)| (entry.key.clone(), place.clone());
        self.rows.iter().map(key_and_place).eq(other.rows.iter().map(key_and_place))
    }

    /// The keys of the images.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.rows.iter().map(|(entry, _)| entry.key.clone()).collect()
    }

    /// Adds a class, with or without images, and returns its number for [`Found::push`].
    pub(crate) fn class(&mut self, name: &str) -> u32 {
        self.names.push(name.to_owned());
        (self.names.len() - 1) as u32
    }

    /// Adds an image: a file with the path `key` below the folder, or the bytes `range` of the archive.
    pub(crate) fn push(&mut self, key: String, class: u32, range: Range<u64>) {
        self.rows.push((Entry { key, label: class }, range));
    }

    /// The folder or archive.
    pub(crate) fn origin(&self) -> &Path {
        &self.origin
    }

    /// Names of all classes, perhaps with repetitions.
    pub(crate) fn class_names(&self) -> &[String] {
        &self.names
    }

    /// Number of images.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Number of images of each class that has any.
    pub(crate) fn images_by_class(&self) -> HashMap<&str, u64> {
        let mut images = HashMap::new();
        for (entry, _) in &self.rows {
            *images.entry(self.names[entry.label as usize].as_str()).or_default() += 1;
        }
        images
    }

    /// Labels the images, in the order of their keys, with `labels`, one for each.
    ///
    /// # Errors
    /// When the numbers differ; the error names the file `labels_from`.
    pub(crate) fn label_in_order(
        &mut self,
        labels: &[String],
        labels_from: &Path,
    ) -> Result<(), SourceError> {
        if labels.len() != self.rows.len() {
            return Err(SourceError::LabelCount {
                path: labels_from.to_owned(),
                labels: labels.len(),
                images_in: self.origin.clone(),
                images: self.rows.len(),
            });
        }
        self.rows.sort_by(|a, b| a.0.key.cmp(&b.0.key));
        self.names.clear();
        let mut numbers: HashMap<&str, u32> = HashMap::new();
        for ((entry, _), label) in self.rows.iter_mut().zip(labels) {
            entry.label = *numbers.entry(label).or_insert_with(|| {
                self.names.push(label.clone());
                (self.names.len() - 1) as u32
            });
        }
        Ok(())
    }

    /// Labels each image as `labels` has it under the part of its key that `name_of` gives, and notes what
    /// `labels` has beside.
    ///
    /// # Errors
    /// When it lacks an image; the error names its table.
    pub(crate) fn label_by_name(
        &mut self,
        labels: &ImageLabels,
        name_of: impl Fn(&str) -> &str,
    ) -> Result<(), SourceError> {
        self.rows.sort_by(|a, b| a.0.key.cmp(&b.0.key));
        let found: Result<Vec<String>, SourceError> = self
            .rows
            .iter()
            .map(|(entry, _)| {
                let class = labels.class(name_of(&entry.key)).map(str::to_owned);
                class.ok_or_else(|| SourceError::Unlabelled {
                    path: labels.table().to_owned(),
                    images: self.origin.clone(),
                    key: entry.key.clone(),
                })
            })
            .collect();
        self.note_missing(labels.table(), labels.images(), name_of);
        self.label_in_order(&found?, labels.table())
    }

    /// Notes which of the images that the file or the files at `lists` list are not here.
    pub(crate) fn note_missing<'n>(
        &mut self,
        lists: &Path,
        listed_images: impl Iterator<Item = &'n str>,
        name_of: impl Fn(&str) -> &str,
    ) {
        let here: HashSet<&str> = self.rows.iter().map(|(entry, _)| name_of(&entry.key)).collect();
        let (mut missing, mut all) = (Vec::new(), 0);
        for image in listed_images {
            all += 1;
            if !here.contains(image) {
                missing.push(image.to_owned());
            }
        }
        missing.sort();
        let message = format!(
            "{} of the {} listed there {} missing: {}",
            missing.len(),
            count(all, "image"),
            if missing.len() == 1 { "is" } else { "are" },
            listed(&missing, missing.len())
        );
        if !missing.is_empty() {
            self.notes.push(Note::about("missing-images", lists, missing, message));
        }
    }
}

/// Labelled image files; the [`Source`] behind every layout except those that hold bare pixels.
#[derive(Debug)]
pub(crate) struct Collection {
    name: &'static str,
    classes: Vec<Class>,
    train: SplitImages,
    val: SplitImages,
    notes: Vec<Note>,
}

/// The images of one split, sorted by key.
#[derive(Debug, Default)]
struct SplitImages {
    entries: Vec<Entry>,
    places: Option<Places>,
}

#[derive(Debug)]
enum Places {
    Folder(PathBuf),
    Tar { file: Arc<PositionedFile>, ranges: Vec<Range<u64>> },
}

impl Collection {
    /// Joins splits under one list of classes: `classes`, or else the classes of the training images, or
    /// else those of the validation images. `notes` are those that the layout has about them.
    ///
    /// # Errors
    /// When there are no images, names repeat, or an image is of no listed class.
    pub(crate) fn build(
        name: &'static str,
        classes: Option<ClassList>,
        train: Option<Found>,
        val: Option<Found>,
        mut notes: Vec<Note>,
    ) -> Result<Self, SourceError> {
        for found in [&train, &val].into_iter().flatten() {
            if found.len() == 0 {
                return Err(SourceError::Empty { path: found.origin.clone(), expected: IMAGE_FILES });
            }
        }
        let classes = match (classes, train.as_ref().or(val.as_ref())) {
            (Some(classes), _) => classes,
            (None, Some(found)) => ClassList::from_names(found.class_names().to_vec(), found.origin())?,
            (None, None) => ClassList { classes: Vec::new(), from: PathBuf::new() },
        };
        for found in [&train, &val].into_iter().flatten() {
            notes.extend(found.notes.iter().cloned());
        }
        let images = |found: Option<Found>, split| match found {
            Some(found) => SplitImages::build(found, split, &classes),
            None => Ok(SplitImages::default()),
        };
        let (train, val) = (images(train, Split::Train)?, images(val, Split::Val)?);
        for (images, split) in [(&train, "training"), (&val, "validation")] {
            notes.extend(images.empty_classes(&classes, split));
        }
        if let [class] = classes.classes.as_slice() {
            let message = format!("all images are of 1 class, {}", listed([&class.wnid], 1));
            notes.push(Note::about("one-class", &classes.from, vec![class.wnid.clone()], message));
        }
        Ok(Self { name, classes: classes.classes, train, val, notes })
    }

    fn images(&self, split: Split) -> &SplitImages {
        match split {
            Split::Train => &self.train,
            Split::Val => &self.val,
        }
    }
}

/// What is said of the classes that have no images in a split; `from` lists the classes.
pub(crate) fn note_on_empty(from: &Path, classes: &[Class], is_empty: &[bool], split: &str) -> Option<Note> {
    let empty = classes.iter().zip(is_empty).filter(|(_, is_empty)| **is_empty);
    let names: Vec<String> = empty.map(|(class, _)| class.wnid.clone()).collect();
    let message = format!(
        "{} of {} classes {} no {split} images: {}",
        names.len(),
        is_empty.len(),
        if names.len() == 1 { "has" } else { "have" },
        listed(&names, names.len())
    );
    (!names.is_empty()).then(|| Note::about("empty-classes", from, names, message))
}

impl SplitImages {
    /// The classes without images, if this split has any.
    fn empty_classes(&self, classes: &ClassList, split: &str) -> Option<Note> {
        let mut is_empty = vec![!self.entries.is_empty(); classes.classes.len()];
        self.entries.iter().for_each(|entry| is_empty[entry.label as usize] = false);
        note_on_empty(&classes.from, &classes.classes, &is_empty, split)
    }

    fn build(found: Found, split: Split, classes: &ClassList) -> Result<Self, SourceError> {
        let Found { origin, store, names, mut rows, .. } = found;
        let indices: Vec<Option<usize>> = names.iter().map(|name| classes.index(name)).collect();
        rows.sort_by(|a, b| a.0.key.cmp(&b.0.key));
        if let Some(pair) = rows.windows(2).find(|pair| pair[0].0.key == pair[1].0.key) {
            return Err(SourceError::DuplicateKey { path: origin, split, key: pair[0].0.key.clone() });
        }
        let mut entries = Vec::with_capacity(rows.len());
        let mut ranges = Vec::with_capacity(rows.len());
        for (mut entry, range) in rows {
            let number = entry.label as usize;
            let Some(label) = indices[number] else {
                return Err(SourceError::UnknownClass {
                    path: origin,
                    key: entry.key,
                    class: names[number].clone(),
                    known: classes.classes.len(),
                    classes_from: classes.from.clone(),
                });
            };
            entry.label = label as u32;
            entries.push(entry);
            ranges.push(range);
        }
        let places = match store {
            Store::Folder(root) => Places::Folder(root),
            Store::Tar(file) => Places::Tar { file, ranges },
        };
        Ok(Self { entries, places: Some(places) })
    }
}

impl Source for Collection {
    fn name(&self) -> &'static str {
        self.name
    }

    fn classes(&self) -> &[Class] {
        &self.classes
    }

    fn entries(&self, split: Split) -> &[Entry] {
        &self.images(split).entries
    }

    fn notes(&self) -> &[Note] {
        &self.notes
    }

    fn stamp(&self, split: Split, index: usize) -> Result<Option<Stamp>, SourceError> {
        let images = self.images(split);
        match images.places.as_ref().expect("a split with entries has places") {
            Places::Folder(root) => stamp(&root.join(&images.entries[index].key)).map(Some),
            Places::Tar { file, ranges } => {
                let Range { start, end } = ranges[index];
                // A member's data follow its header.
                let mut header: Block = [0; BLOCK as usize];
                file.read_at(start - BLOCK, &mut header)?;
                Ok(Some(Stamp { bytes: end - start, changed: (time_of_change(&header), 0) }))
            }
        }
    }

    fn read<'b>(
        &self,
        split: Split,
        index: usize,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Payload<'b>, SourceError> {
        let images = self.images(split);
        let key = &images.entries[index].key;
        let check_size = |path: &Path, size_bytes: u64| {
            if size_bytes <= MAX_IMAGE_BYTES {
                return Ok(());
            }
            let (path, key) = (path.to_owned(), key.clone());
            Err(SourceError::TooLarge { path, key, size_bytes, limit_bytes: MAX_IMAGE_BYTES })
        };
        buffer.clear();
        match images.places.as_ref().expect("a split with entries has places") {
            Places::Folder(root) => {
                let path = root.join(key);
                let mut file = open_file(&path)?;
                let size = file.metadata().map_err(io_error(&path, "read its size"))?.len();
                check_size(root, size)?;
                file.read_to_end(buffer).map_err(io_error(&path, "read"))?;
            }
            Places::Tar { file, ranges } => {
                let Range { start, end } = ranges[index];
                check_size(file.path(), end - start)?;
                buffer.resize((end - start) as usize, 0);
                file.read_at(start, buffer)?;
            }
        }
        Ok(Payload::File(buffer))
    }
}
