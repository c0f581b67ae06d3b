//! The one trait that every source of labelled images implements.

use fovea_pipeline::{Class, Label, LabelKind, Split};

use crate::{Note, SourceError};

/// One image of a source: its name and its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name of the image within its split, unique there: a file name or a path with `/`.
    pub key: String,
    /// Index into [`Source::classes`]; 0 where labels are no classes.
    pub label: u32,
}

/// The content of one image, as the source has it.
#[derive(Debug, PartialEq, Eq)]
pub enum Payload<'b> {
    /// An image file: JPEG, PNG, or a file with such a name.
    File(&'b [u8]),
    /// Decoded pixels, `u8 [H,W,3]` RGB.
    Pixels {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// `height * width * 3` bytes.
        rgb: &'b [u8],
    },
}

/// By which a changed image is noticed without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Size of the image as the source has it.
    pub bytes: u64,
    /// Seconds and nanoseconds from the Unix epoch to the last change of the file, as its folder or archive
    /// has it.
    pub changed: (i64, u32),
}

/// A collection of labelled images that can be read in any order by many threads at once.
pub trait Source: Send + Sync {
    /// Short name of the layout, e.g. `ilsvrc2012-tars`.
    fn name(&self) -> &'static str;

    /// The classes, sorted by WNID; or the names of the numbers that labels consist of.
    fn classes(&self) -> &[Class];

    /// What the labels are.
    fn label_kind(&self) -> LabelKind {
        LabelKind::Class
    }

    /// The images of a split, sorted by key; empty where the source lacks the split.
    fn entries(&self, split: Split) -> &[Entry];

    /// The label of image `index` of `entries(split)`, of the kind [`label_kind`](Self::label_kind) for
    /// [`classes`](Self::classes).
    ///
    /// # Panics
    /// When `index` is out of range.
    fn label(&self, split: Split, index: usize) -> Label<'_> {
        Label::Class(self.entries(split)[index].label)
    }

    /// What the user should know about the source: files that were passed over, numbers that differ from what
    /// is known.
    fn notes(&self) -> &[Note] {
        &[]
    }

    /// Size and time of image `index` of `entries(split)`; `None` where the source has none.
    ///
    /// # Errors
    /// When they cannot be read.
    ///
    /// # Panics
    /// When `index` is out of range.
    fn stamp(&self, _split: Split, _index: usize) -> Result<Option<Stamp>, SourceError> {
        Ok(None)
    }

    /// Reads image `index` of `entries(split)`, using `buffer` for its bytes.
    ///
    /// # Errors
    /// When the bytes cannot be read. Whether they are an image is the decoder's question.
    ///
    /// # Panics
    /// When `index` is out of range.
    fn read<'b>(
        &self,
        split: Split,
        index: usize,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Payload<'b>, SourceError>;
}
