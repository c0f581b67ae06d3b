//! Detects the layout of the given paths and opens them.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use fovea_pipeline::UnknownName;
use fovea_pipeline::summary::count;

use crate::collection::{ClassList, Collection, Found};
use crate::devkit::Devkit;
use crate::ilsvrc::{self, Tars};
use crate::labelled::LabelledFolder;
use crate::positioned::io_error;
use crate::splits::Reading;
use crate::tar_folder::Archive;
use crate::tree::{Listing, Tree, TreeImages};
use crate::{Note, Source, SourceError, cifar10, folder, kaggle, official, splits, tiny_imagenet};

/// A way in which labelled images are stored on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// The official archives: a tar of one tar per class, and a tar of validation images; or a folder with
    /// both.
    IlsvrcTars,
    /// Folders of classes, below folders of splits or not; validation images may lie side by side.
    Folders,
    /// A tar or tar.gz of such folders.
    TarOfFolders,
    /// `ILSVRC/Data/CLS-LOC` and the tables next to it, a folder or a tar.
    Kaggle,
    /// Tiny-ImageNet-200, a folder or a tar.
    TinyImagenet,
    /// CIFAR-10 in its binary form, a folder or a tar.gz.
    Cifar10,
}

impl Layout {
    /// All layouts, in the order in which they are tried.
    pub const ALL: [Self; 6] = [
        Self::Kaggle,
        Self::Cifar10,
        Self::TinyImagenet,
        Self::IlsvrcTars,
        Self::TarOfFolders,
        Self::Folders,
    ];

    /// The name on command lines, e.g. `ilsvrc-tars`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::IlsvrcTars => "ilsvrc-tars",
            Self::Folders => "folders",
            Self::TarOfFolders => "tar-of-folders",
            Self::Kaggle => "kaggle",
            Self::TinyImagenet => "tiny-imagenet",
            Self::Cifar10 => "cifar10",
        }
    }

    /// The files that the layout needs.
    fn requires(self) -> &'static str {
        match self {
            Self::IlsvrcTars => {
                "a tar of tars, a tar of validation images or a folder with ILSVRC2012_img_*.tar"
            }
            Self::Folders => "a folder with one folder of images for each class, or train/ and val/",
            Self::TarOfFolders => "a tar or tar.gz of such folders",
            Self::Kaggle => "a folder or tar with ILSVRC/Data/CLS-LOC and Kaggle's tables",
            Self::TinyImagenet => "a folder or tar with wnids.txt and train/",
            Self::Cifar10 => "a folder or tar.gz with data_batch_1.bin",
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Layout {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        UnknownName::find("layout", name, &Self::ALL, Self::name)
    }
}

/// What to open.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Training images, or a data set with both splits.
    pub train: Option<PathBuf>,
    /// Validation images; without it those of the data set at `train`, if it has any.
    pub val: Option<PathBuf>,
    /// The ILSVRC development kit, a tar.gz or a folder.
    pub devkit: Option<PathBuf>,
    /// The layout of `train`, or of `val` if there is no `train`; detected if `None`.
    pub layout: Option<Layout>,
    /// How folders, also those in archives, are read.
    pub reading: Reading,
    /// A table of labels, a CSV file, for the photos in the folder `train`.
    pub labels: Option<PathBuf>,
    /// The folder in which a tar.gz is inflated; the system's temporary folder if `None`.
    pub scratch_dir: Option<PathBuf>,
}

/// Opens the images that `options` name.
///
/// Labels index one list of classes for both splits: that of the development kit or of the data set's own
/// table, or else the training images' folders, or else the validation images'.
///
/// With a table of labels it is a folder of photos in any folders, each with a line in the table.
///
/// # Errors
/// When a path has no known layout, is damaged, or the splits do not belong together.
pub fn open(options: &OpenOptions) -> Result<Box<dyn Source>, SourceError> {
    if options.train.is_none() && options.val.is_none() {
        return Err(SourceError::NothingGiven);
    }
    if let Some(table) = &options.labels {
        let others = options.val.is_some() || options.devkit.is_some() || options.layout.is_some();
        return match &options.train {
            Some(folder) if !others && options.reading == Reading::Detect => {
                Ok(Box::new(LabelledFolder::open(folder, table)?))
            }
            _ => Err(SourceError::Layout {
                path: table.clone(),
                found: "a table of labels beside validation images, a development kit or a layout".to_owned(),
                expected: "one beside a folder of photos alone; splits are in its column `split`".to_owned(),
            }),
        };
    }
    let scratch_dir = options.scratch_dir.clone().unwrap_or_else(std::env::temp_dir);
    let val_path = options.val.as_deref();
    let is_same_path = options.train.as_deref() == val_path;
    // Validation images may lie in a folder among the classes.
    let val_below = val_path.filter(|val| options.train.as_deref().is_some_and(|train| is_below(val, train)));
    let look = |path, layout, left_out| {
        let reading = options.reading;
        look(Look { path, layout, reading, left_out, scratch_dir: &scratch_dir })
    };
    let mut parts = match &options.train {
        Some(path) => match look(path, options.layout, val_below)? {
            Opened::Whole(source) if val_path.is_none() || is_same_path => return Ok(source),
            Opened::Whole(source) => return Err(holds_both(path, source.name())),
            Opened::Parts(parts) => parts.for_training(),
        },
        None => Parts::default(),
    };
    if let Some(path) = val_path {
        let layout = if options.train.is_none() || is_same_path { options.layout } else { None };
        match look(path, layout, None)? {
            Opened::Whole(source) => return Err(holds_both(path, source.name())),
            Opened::Parts(val) => parts.take_validation(val),
        }
    }
    let devkit = match options.devkit.as_ref().or(parts.devkit.as_ref()) {
        Some(path) => Some(Devkit::open(path, &scratch_dir)?),
        None => None,
    };
    let name = match (parts.layout, &devkit) {
        (Some(Layout::IlsvrcTars), Some(Devkit { year: 2010, .. })) => "ilsvrc2010-tars",
        (Some(Layout::IlsvrcTars), _) => "ilsvrc2012-tars",
        (layout, _) => layout.map_or("images", Layout::name),
    };
    for (path, images, expected) in [
        (options.train.as_deref(), &parts.train, "training images: folders of classes, or train/ with them"),
        (val_path, &parts.val, "validation images: folders of classes, or val/ with them or with images"),
    ] {
        if let (Some(path), None) = (path, images) {
            return Err(SourceError::Empty { path: path.to_owned(), expected });
        }
    }
    let mut train = parts.train.map(TreeImages::in_classes).transpose()?;
    let mut notes = parts.notes;
    let val = match (&mut train, parts.val) {
        (Some(train), Some(mut val)) => {
            match refused_validation(train, &mut val, parts.val_is_test && devkit.is_none()) {
                Some(note) => {
                    notes.append(&mut val.found().notes);
                    notes.push(note);
                    None
                }
                None => Some(val),
            }
        }
        (_, val) => val,
    };
    let val = val.map(|val| label(val, devkit.as_ref())).transpose()?;
    if let (Some(devkit), Some(train)) = (&devkit, &train) {
        notes.extend(devkit.compare(train));
    }
    let classes = devkit.map(|devkit| devkit.classes).or(parts.classes);
    Ok(Box::new(Collection::build(name, classes, train, val, notes)?))
}

/// What is said when `val` cannot be validation images beside `train`: they are the same images, or test
/// images without labels.
fn refused_validation(train: &mut Found, val: &mut TreeImages, may_lack_labels: bool) -> Option<Note> {
    let has_labels = match val {
        TreeImages::Flat(_) => false,
        TreeImages::Classes(found) => {
            let names = found.class_names();
            names.len() != 1 || train.class_names().contains(&names[0])
        }
    };
    let found = val.found();
    let (kind, message) = if found.is_same_as(train) {
        (
            "val-is-train",
            format!(
                "validation would be on the {} of the training, so there is none",
                count(found.len() as u64, "image")
            ),
        )
    } else if may_lack_labels && !has_labels && found.len() > 0 {
        ("unlabelled-test", format!("{} without labels passed over", count(found.len() as u64, "test image")))
    } else {
        return None;
    };
    Some(Note::about(kind, found.origin(), found.keys(), message))
}

fn holds_both(path: &Path, name: &str) -> SourceError {
    SourceError::Layout {
        path: path.to_owned(),
        found: format!("{name}, a data set with both splits"),
        expected: "one split; give the data set once, as training images".to_owned(),
    }
}

/// Gives validation images that lie side by side the labels of the development kit.
fn label(val: TreeImages, devkit: Option<&Devkit>) -> Result<Found, SourceError> {
    let mut found = match val {
        TreeImages::Classes(found) => return Ok(found),
        TreeImages::Flat(found) if found.len() == 0 => return Ok(found),
        TreeImages::Flat(found) => found,
    };
    let missing = |missing: &str| SourceError::Missing {
        path: found.origin().to_owned(),
        missing: missing.to_owned(),
        remedy:
            "give ILSVRC2012_devkit_t12.tar.gz as development kit, or sort the images into folders of classes"
                .to_owned(),
    };
    let Some(devkit) = devkit else {
        return Err(missing("the development kit with the labels of these images"));
    };
    let Some(truth) = &devkit.ground_truth else {
        return Err(missing("the ground truth in the development kit"));
    };
    found.label_in_order(&truth.wnids, &truth.path)?;
    Ok(found)
}

/// What was found at one path.
#[expect(clippy::large_enum_variant, reason = "there are two at a time, train and val")]
enum Opened {
    /// A data set of its own kind.
    Whole(Box<dyn Source>),
    Parts(Parts),
}

/// Classes, training and validation images.
type Table = (ClassList, Option<Found>, Option<Found>);

/// Image files found at one path.
#[derive(Default)]
struct Parts {
    layout: Option<Layout>,
    classes: Option<ClassList>,
    devkit: Option<PathBuf>,
    train: Option<TreeImages>,
    val: Option<TreeImages>,
    /// Whether `val` may be test images without labels, by its name.
    val_is_test: bool,
    /// Images that belong to the split that the path was given for.
    unsplit: Option<TreeImages>,
    /// What is said about images that were found and not taken.
    notes: Vec<Note>,
}

impl Parts {
    /// Takes images of no split for training.
    fn for_training(mut self) -> Self {
        self.train = self.train.or(self.unsplit.take());
        self
    }

    /// Takes the validation images, or images of no split, from `other`.
    fn take_validation(&mut self, other: Self) {
        let own = self.val.take();
        self.val_is_test = other.val_is_test;
        self.val = other.val.or(other.unsplit);
        let left =
            [(own, &mut self.val, "validation image"), (other.train, &mut self.train, "training image")];
        for (left, taken, what) in left {
            let Some(mut left) = left else { continue };
            let found = left.found();
            if !taken.as_mut().is_some_and(|taken| taken.found().is_same_as(found)) {
                let message = format!(
                    "{} beside those that were asked for passed over",
                    count(found.len() as u64, what)
                );
                self.notes.append(&mut found.notes);
                self.notes.push(Note::about("other-split", found.origin(), found.keys(), message));
            }
        }
        self.layout = self.layout.or(other.layout);
        self.classes = self.classes.take().or(other.classes);
        self.devkit = self.devkit.take().or(other.devkit);
        self.notes.extend(other.notes);
    }

    /// Of a layout with a table of classes.
    fn from_table(layout: Layout, (classes, train, val): Table) -> Self {
        let (train, val) = (train.map(TreeImages::Classes), val.map(TreeImages::Classes));
        Self { layout: Some(layout), classes: Some(classes), train, val, ..Self::default() }
    }

    fn from_tree(layout: Layout, tree: Tree) -> Self {
        let layout = Some(layout);
        match tree {
            Tree::Unsplit(images) => Self { layout, unsplit: Some(images), ..Self::default() },
            Tree::Splits { train, val, val_is_test } => {
                Self { layout, train, val, val_is_test, ..Self::default() }
            }
        }
    }
}

/// Whether the folder `val` lies in the folder `train` and is not that of its training images.
fn is_below(val: &Path, train: &Path) -> bool {
    let (Ok(val), Ok(train)) = (val.canonicalize(), train.canonicalize()) else { return false };
    let is_train = val.file_name().and_then(|name| name.to_str()).is_some_and(splits::is_train);
    val != train && val.starts_with(train) && val.is_dir() && !is_train
}

/// What to look at, and how.
#[derive(Clone, Copy)]
struct Look<'a> {
    path: &'a Path,
    /// The first layout that fits if `None`.
    layout: Option<Layout>,
    reading: Reading,
    /// A folder in it that is not part of it.
    left_out: Option<&'a Path>,
    scratch_dir: &'a Path,
}

fn look(look: Look<'_>) -> Result<Opened, SourceError> {
    let Look { path, layout, reading, scratch_dir, .. } = look;
    let is_folder = fs::metadata(path).map_err(io_error(path, "open"))?.is_dir();
    let may_be = |candidate| match layout {
        Some(layout) => layout == candidate,
        // Who says what the folders are does not mean a layout with tables.
        None => reading == Reading::Detect || matches!(candidate, Layout::Folders | Layout::TarOfFolders),
    };
    let opened = if is_folder {
        look_in_folder(look, may_be)?
    } else {
        look_in_file(path, reading, may_be, scratch_dir)?
    };
    opened.map_or_else(|| Err(unknown(path, is_folder, layout)), Ok)
}

fn look_in_folder(look: Look<'_>, may_be: impl Fn(Layout) -> bool) -> Result<Option<Opened>, SourceError> {
    let Look { path, reading, left_out, scratch_dir, .. } = look;
    if may_be(Layout::Kaggle)
        && let Some(files) = kaggle::find(path)
    {
        return Ok(Some(Opened::Parts(Parts::from_table(Layout::Kaggle, kaggle::open(&files)?))));
    }
    if may_be(Layout::Cifar10)
        && let Some(folder) = cifar10::find(path)
    {
        return Ok(Some(Opened::Whole(Box::new(cifar10::Cifar10::in_folder(&folder)?))));
    }
    if may_be(Layout::TinyImagenet)
        && let Some(files) = tiny_imagenet::find(path)
    {
        let table = tiny_imagenet::open(&files)?;
        return Ok(Some(Opened::Parts(Parts::from_table(Layout::TinyImagenet, table))));
    }
    if may_be(Layout::TinyImagenet)
        && let Some(found) = tiny_imagenet::open_val(path)?
    {
        let (layout, unsplit) = (Some(Layout::TinyImagenet), Some(TreeImages::Classes(found)));
        return Ok(Some(Opened::Parts(Parts { layout, unsplit, ..Parts::default() })));
    }
    if may_be(Layout::IlsvrcTars)
        && let Some(tars) = Tars::find(path)?
    {
        return Ok(Some(Opened::Parts(open_tars(tars, scratch_dir)?)));
    }
    if may_be(Layout::Folders) {
        let listing = folder::list_without(path, left_out)?;
        if !listing.is_empty() {
            return Ok(Some(Opened::Parts(Parts::from_tree(Layout::Folders, listing.tree(reading)?))));
        }
    }
    Ok(None)
}

/// The official files of one folder.
fn open_tars(tars: Tars, scratch_dir: &Path) -> Result<Parts, SourceError> {
    let mut notes = Vec::new();
    let mut open = |path: Option<PathBuf>| {
        let Some(path) = path else { return Ok(None) };
        let is_tars = |layout| layout == Layout::IlsvrcTars;
        match look_in_file(&path, Reading::Detect, is_tars, scratch_dir)? {
            Some(Opened::Parts(parts)) => {
                notes.extend(parts.notes);
                Ok(parts.unsplit)
            }
            _ => Err(unknown(&path, false, Some(Layout::IlsvrcTars))),
        }
    };
    let (train, val) = (open(tars.train)?, open(tars.val)?);
    Ok(Parts { layout: Some(Layout::IlsvrcTars), train, val, devkit: tars.devkit, notes, ..Parts::default() })
}

fn look_in_file(
    path: &Path,
    reading: Reading,
    may_be: impl Fn(Layout) -> bool,
    scratch_dir: &Path,
) -> Result<Option<Opened>, SourceError> {
    let Some(archive) = Archive::open(path, scratch_dir)? else { return Ok(None) };
    if may_be(Layout::Cifar10) && cifar10::is_in(&archive) {
        return Ok(Some(Opened::Whole(Box::new(cifar10::Cifar10::in_archive(&archive)?))));
    }
    if may_be(Layout::Kaggle)
        && let Some(files) = kaggle::find_in(&archive)?
    {
        let parts = Parts::from_table(Layout::Kaggle, kaggle::open(&files)?);
        return Ok(Some(Opened::Parts(Parts { notes: archive.notes, ..parts })));
    }
    if may_be(Layout::TinyImagenet)
        && let Some(files) = tiny_imagenet::find_in(&archive)
    {
        let parts = Parts::from_table(Layout::TinyImagenet, tiny_imagenet::open(&files)?);
        return Ok(Some(Opened::Parts(Parts { notes: archive.notes, ..parts })));
    }
    let Archive { file, members, others, mut notes } = archive;
    if may_be(Layout::IlsvrcTars) && ilsvrc::is_tar_of_tars(&members) {
        let (found, more) = ilsvrc::index_train(&file, members, others)?;
        notes.extend(more);
        notes.extend(official::compare(path, file.len(), &found)?);
        let unsplit = Some(TreeImages::Classes(found));
        let layout = Some(Layout::IlsvrcTars);
        return Ok(Some(Opened::Parts(Parts { layout, unsplit, notes, ..Parts::default() })));
    }
    let tree = Listing::in_tar(&file, members, others).tree(reading)?;
    let layout = match &tree {
        Tree::Unsplit(TreeImages::Flat(found)) => {
            notes.extend(official::compare(path, file.len(), found)?);
            Layout::IlsvrcTars
        }
        _ => Layout::TarOfFolders,
    };
    Ok(may_be(layout).then(|| Opened::Parts(Parts { notes, ..Parts::from_tree(layout, tree) })))
}

/// The error for a path that does not have the `wanted` layout, or any known one.
fn unknown(path: &Path, is_folder: bool, wanted: Option<Layout>) -> SourceError {
    let expected = match wanted {
        Some(layout) => format!("the layout {layout}: {}", layout.requires()),
        None => {
            let layouts = Layout::ALL.map(|layout| format!("{layout} ({})", layout.requires()));
            format!("one of the known layouts: {}", layouts.join("; "))
        }
    };
    let found = if is_folder { describe_folder(path) } else { describe_file(path) };
    SourceError::Layout { path: path.to_owned(), found, expected }
}

fn describe_folder(path: &Path) -> String {
    const SHOWN: usize = 5;
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let more = if names.len() > SHOWN { ", …" } else { "" };
    let has_pickles = |folder: &str| path.join(folder).join("data_batch_1").is_file();
    match names.len() {
        0 => "an empty folder".to_owned(),
        _ if ["", "cifar-10-batches-py"].into_iter().any(has_pickles) => {
            "CIFAR-10 for Python (give its binary version, cifar-10-binary.tar.gz)".to_owned()
        }
        n => format!("a folder of {} ({}{more})", count(n as u64, "name"), names[..n.min(SHOWN)].join(", ")),
    }
}

fn describe_file(path: &Path) -> String {
    let mut start = Vec::new();
    if let Ok(file) = File::open(path) {
        // A file that cannot be read has been reported before.
        let _ = file.take(512).read_to_end(&mut start);
    }
    let starts = |magic: &[u8]| start.starts_with(magic);
    let what = match () {
        _ if start.is_empty() => "an empty file",
        _ if start.len() == 512 && start.iter().all(|&b| b == 0) => "zeros (a broken download?)",
        _ if starts(b"\x1f\x8b") => "a gzip file of something else than this",
        _ if starts(b"PAR1") => "a Parquet file",
        _ if starts(b"\xff\xd8\xff") => "a single JPEG image",
        _ if starts(b"\x89PNG") => "a single PNG image",
        _ if start.trim_ascii_start().starts_with(b"<") => "an HTML or XML page (a failed download?)",
        _ => "a file of an unknown kind",
    };
    what.to_owned()
}
