//! What can go wrong when reading a source of images.

use std::path::PathBuf;

use fovea_pipeline::Split;

/// A source of images is missing, damaged or not what it was taken for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried, as a verb: `open`, `read 512 bytes at byte 1024`.
        action: String,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },

    /// A binary file does not hold what its format demands.
    #[error("{}: at byte {offset}: expected {expected}, found {found}; {remedy}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in the file, or in what it inflates to if it is compressed.
        offset: u64,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
        /// What the user can do.
        remedy: &'static str,
    },

    /// A line of a text file is not of the form that it should have.
    #[error("{}:{line}: expected {expected}, found {found:?}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },

    /// Something that cannot be read like a file, as a FIFO or a device.
    #[error("{}: is {found}, expected a regular file; copy the data to a file and give its path", path.display())]
    NotAFile {
        /// The path as given.
        path: PathBuf,
        /// What is there: `a FIFO`.
        found: &'static str,
    },

    /// A file that is read into memory is far larger than any of its kind.
    #[error("{}: has more than {limit_bytes} bytes, expected a far smaller file; give the right one", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// The largest size that is read.
        limit_bytes: u64,
    },

    /// A file is compressed in a way that is not read.
    #[error("{}: found {found}, which is not read; decompress it first: {command}", path.display())]
    Compressed {
        /// The file.
        path: PathBuf,
        /// The format: `xz data`.
        found: &'static str,
        /// The command that undoes it.
        command: String,
    },

    /// The name of an archive's member or of a file would lead out of its folder.
    #[error("{}: at byte {offset}: member name {name:?} {problem}; do not trust this archive", path.display())]
    UnsafeName {
        /// The archive.
        path: PathBuf,
        /// Offset of the member's header.
        offset: u64,
        /// The name as it stands there.
        name: String,
        /// What is wrong with it: `contains a zero byte`.
        problem: &'static str,
    },

    /// A file's name cannot become a key.
    #[error("{}: the file name is not valid UTF-8; rename the file", path.display())]
    NameNotUtf8 {
        /// The file.
        path: PathBuf,
    },

    /// A link leads to a folder that it lies in.
    #[error("{}: a link to {}, in which it lies itself; remove the link", path.display(), target.display())]
    EndlessLink {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },

    /// So many links lead to a folder that they multiply.
    #[error(
        "{}: one of more than {limit} paths through links to {}; remove links so that each folder is reached once",
        path.display(), target.display()
    )]
    TooManyLinks {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
        /// How many are followed.
        limit: u32,
    },

    /// Folders may be classes or splits.
    #[error(
        "{}: its folders can be read in two ways: --layout classes takes them for {as_classes}; --layout splits \
         for splits: {as_splits}",
        path.display()
    )]
    UnclearFolders {
        /// The folder around them, or the archive.
        path: PathBuf,
        /// What they would be as classes.
        as_classes: String,
        /// What they would be as splits.
        as_splits: String,
    },

    /// Two images of a split have the same name.
    #[error("{}: two images of the {split} split are called {key:?}; remove or rename one", path.display())]
    DuplicateKey {
        /// The archive or folder.
        path: PathBuf,
        /// The split.
        split: Split,
        /// The name.
        key: String,
    },

    /// The list of classes contradicts itself.
    #[error("{}: {problem}", path.display())]
    Classes {
        /// The file with the list.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// An image belongs to a class that the list of classes lacks.
    #[error(
        "{}: image {key:?} is of class {class:?}, which is not among the {known} classes of {}; \
         give the training images or development kit that belong to these images",
        path.display(),
        classes_from.display()
    )]
    UnknownClass {
        /// The archive or folder with the image.
        path: PathBuf,
        /// The image.
        key: String,
        /// Its class.
        class: String,
        /// Number of known classes.
        known: usize,
        /// The file or folder that the classes come from.
        classes_from: PathBuf,
    },

    /// A table of labels names photos that are not there.
    #[error(
        "{}:{line}: no photo {file:?} in {}; {lost} of its lines name photos that are not there: paths are \
         relative to that folder", path.display(), folder.display()
    )]
    NoPhoto {
        /// The table.
        path: PathBuf,
        /// The first such line, counted from 1.
        line: usize,
        /// What it names.
        file: String,
        /// The folder with the photos.
        folder: PathBuf,
        /// Number of such lines.
        lost: usize,
    },

    /// Photos have no line in the table of labels.
    #[error(
        "{}: no line for {unlisted} of the photos in {}, such as {first:?}; add lines for them, or move them out of \
         the folder", path.display(), folder.display()
    )]
    NoLine {
        /// The table.
        path: PathBuf,
        /// The folder with the photos.
        folder: PathBuf,
        /// Number of such photos.
        unlisted: usize,
        /// The first of them.
        first: String,
    },

    /// An image has no label at all.
    #[error("{}: has no line for image {key:?} of {}", path.display(), images.display())]
    Unlabelled {
        /// The file with the labels.
        path: PathBuf,
        /// The folder or archive with the images.
        images: PathBuf,
        /// The image.
        key: String,
    },

    /// The labels of the validation images do not match them in number.
    #[error(
        "{}: has {labels} labels, but {} has {images} images; they must belong together and be complete",
        path.display(),
        images_in.display()
    )]
    LabelCount {
        /// The file with the labels.
        path: PathBuf,
        /// Labels in it.
        labels: usize,
        /// The folder or archive with the images.
        images_in: PathBuf,
        /// Images in it.
        images: usize,
    },

    /// Something that the layout needs is not there.
    #[error("{}: {missing} is missing; {remedy}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// What was looked for.
        missing: String,
        /// What the user can do.
        remedy: String,
    },

    /// No path was given.
    #[error("no images given; give training images, validation images or both")]
    NothingGiven,

    /// There is not a single image.
    #[error("{}: no images found; expected {expected}", path.display())]
    Empty {
        /// The archive or folder.
        path: PathBuf,
        /// What would have counted as images.
        expected: &'static str,
    },

    /// An image file is too large to be one.
    #[error("{}: image {key:?} has {size_bytes} bytes, more than the limit of {limit_bytes}", path.display())]
    TooLarge {
        /// The archive or folder.
        path: PathBuf,
        /// The image.
        key: String,
        /// Its size.
        size_bytes: u64,
        /// The largest size that is read.
        limit_bytes: u64,
    },

    /// What lies at a path fits no known layout, or not the one asked for.
    #[error("{}: found {found}, which is not {expected}", path.display())]
    Layout {
        /// The path as given.
        path: PathBuf,
        /// What is there.
        found: String,
        /// The layouts that would fit.
        expected: String,
    },

    /// A file differs in size from the official one.
    #[error(
        "{}: has {found_bytes} bytes, but the official {official} has {expected_bytes}; download it again",
        path.display()
    )]
    OfficialSize {
        /// The file.
        path: PathBuf,
        /// Name of the official file.
        official: &'static str,
        /// Size of the official file.
        expected_bytes: u64,
        /// Size of the file.
        found_bytes: u64,
    },

    /// An archive has the size of the official one, but other images.
    #[error(
        "{}: has {found} images, but the official {official} has {expected}; it is damaged: download it again",
        path.display()
    )]
    OfficialImages {
        /// The file.
        path: PathBuf,
        /// Name of the official file.
        official: &'static str,
        /// Images in the official file.
        expected: usize,
        /// Images in the file.
        found: usize,
    },

    /// A file differs in content from the official one.
    #[error("{}: has MD5 {found}, but the official {official} has {expected}; download it again", path.display())]
    OfficialDigest {
        /// The file.
        path: PathBuf,
        /// Name of the official file.
        official: &'static str,
        /// MD5 of the official file in hexadecimal.
        expected: &'static str,
        /// MD5 of the file in hexadecimal.
        found: String,
    },
}
