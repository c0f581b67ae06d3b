//! A batch: what the loader delivers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::Sender;
use half::f16;

use crate::geometry::Size;
use crate::labels::LabelKind;
use crate::memory::{self, BatchMemory, UnfitMemory};

/// The images of a batch, `[N·V,3,H,W]` for N samples with V views each; `[N·V,H,W,3]` where the loader was
/// asked for [`Axes::Hwc`](crate::Axes::Hwc).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Images<'a> {
    /// 0..=255
    U8(&'a [u8]),
    /// Normalised.
    F32(&'a [f32]),
    /// Normalised.
    F16(&'a [f16]),
}

/// The labels of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Targets<'a> {
    /// `i64 [N]`: positions in the class list, [`NO_LABEL`] after the last sample.
    Classes(&'a [i64]),
    /// `u8 [N,K]`: 1 for each class of a sample, 0 for the others; 0 after the last sample.
    MultiHot(&'a [u8]),
    /// `f32 [N,K]`; 0 after the last sample.
    Values(&'a [f32]),
}

/// The label of a place in a batch that holds no sample.
pub const NO_LABEL: i64 = -1;

/// Samples of one training or evaluation step.
///
/// A batch always has the memory of a full one. Where there are fewer samples, the places after
/// [`len`](Self::len) hold zero images with the label [`NO_LABEL`].
///
/// When it is dropped, its memory returns to the loader, so hold as few as possible.
pub struct Batch {
    pub(crate) buffer: Option<Buffer>,
    pub(crate) return_to: Sender<Buffer>,
    /// Batches that the consumer has received and not dropped.
    pub(crate) held: Arc<AtomicUsize>,
    pub(crate) shape: BatchShape,
    pub(crate) kind: ValueKind,
    pub(crate) len: usize,
    pub(crate) epoch: u64,
    pub(crate) index: u64,
    pub(crate) skipped: usize,
    pub(crate) is_mixed: bool,
    pub(crate) label_kind: LabelKind,
}

/// The numbers N, V, H and W of a loader's batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchShape {
    /// N: samples in a full batch.
    pub samples: usize,
    /// V: views of each sample.
    pub views: usize,
    /// H and W: pixels of each view.
    pub size: Size,
}

impl BatchShape {
    /// Values in one view: 3·H·W.
    #[must_use]
    pub fn view_values(&self) -> usize {
        3 * self.size.area()
    }

    /// Values in a full batch: N·V·3·H·W.
    #[must_use]
    pub fn values(&self) -> usize {
        self.samples * self.views * self.view_values()
    }
}

/// The type of a batch's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueKind {
    U8,
    F32,
    F16,
}

impl ValueKind {
    /// Bytes of one value.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

/// The memory of a batch, which travels from the loader to the consumer and back.
#[derive(Debug)]
pub(crate) struct Buffer {
    pub(crate) memory: Box<dyn BatchMemory>,
    /// One for each sample.
    pub(crate) labels: Vec<i64>,
    /// `[N,K]` if labels are marks of classes.
    pub(crate) marks: Vec<u8>,
    /// `[N,K]` if labels are numbers.
    pub(crate) values: Vec<f32>,
    /// One for each view.
    pub(crate) color_offsets: Vec<[f32; 3]>,
    /// One for each sample: its record's number in the split.
    pub(crate) records: Vec<u32>,
    /// One for each sample: its place among the records of the batch, the skipped ones included.
    pub(crate) positions: Vec<u32>,
    /// One for each sample: the sample that it is mixed with, or its own number.
    pub(crate) partners: Vec<u32>,
    /// One for each sample: its share of itself.
    pub(crate) shares: Vec<f32>,
}

/// Which samples of a batch are mixed with which: sample n is `shares[n]` of itself and for the rest
/// its partner; so should its label be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mixed<'a> {
    /// `u32 [N]`: the place of each sample's partner in the batch. A sample without one, since the partner is
    /// damaged or the batch has an odd number of samples, is its own.
    pub partners: &'a [u32],
    /// `f32 [N]`, 0 to 1; 1 without a partner.
    pub shares: &'a [f32],
}

impl Batch {
    /// The images, u8, f32 or f16, as the loader was configured.
    #[must_use]
    pub fn images(&self) -> Images<'_> {
        let values = self.shape.values();
        let bytes = self.buffer().memory.bytes();
        match self.kind {
            ValueKind::U8 => Images::U8(&bytes[..values]),
            ValueKind::F32 => Images::F32(typed(&bytes[..values * size_of::<f32>()])),
            ValueKind::F16 => Images::F16(typed(&bytes[..values * size_of::<f16>()])),
        }
    }

    /// The images as bytes, whatever their type.
    #[must_use]
    pub fn image_bytes(&self) -> &[u8] {
        &self.buffer().memory.bytes()[..self.shape.values() * self.kind.bytes()]
    }

    /// The memory that holds the images, as its [`MemoryProvider`](crate::memory::MemoryProvider) made it.
    #[must_use]
    pub fn memory(&self) -> &dyn BatchMemory {
        &*self.buffer().memory
    }

    /// The memory that holds the images, for good; `replacement` returns to the loader in its place, to be
    /// written over.
    ///
    /// So a consumer keeps images for as long as it likes, without a copy, and the loader goes on.
    ///
    /// # Errors
    /// When a batch cannot be in `replacement`.
    pub fn into_memory(
        mut self,
        replacement: Box<dyn BatchMemory>,
    ) -> Result<Box<dyn BatchMemory>, UnfitMemory> {
        memory::check(&*replacement, self.image_bytes().len())?;
        let buffer = self.buffer.as_mut().expect("a batch has its buffer until it is dropped");
        Ok(std::mem::replace(&mut buffer.memory, replacement))
    }

    /// The labels, of the kind that the data set has.
    #[must_use]
    pub fn targets(&self) -> Targets<'_> {
        let Buffer { labels, marks, values, .. } = self.buffer();
        match self.label_kind {
            LabelKind::Class => Targets::Classes(labels),
            LabelKind::MultiHot => Targets::MultiHot(marks),
            LabelKind::Values => Targets::Values(values),
        }
    }

    /// The labels, `[N]`: positions in the class list, [`NO_LABEL`] after the last sample; 0 for a sample of
    /// a data set whose labels are no classes.
    #[must_use]
    pub fn labels(&self) -> &[i64] {
        &self.buffer().labels
    }

    /// The colour offsets, `[N·V,3]`, in units of 0..=255. In the forms f32 and f16 they are already added.
    #[must_use]
    pub fn color_offsets(&self) -> &[[f32; 3]] {
        &self.buffer().color_offsets
    }

    /// The number of each sample's record in the split.
    #[must_use]
    pub fn records(&self) -> &[u32] {
        &self.buffer().records[..self.len]
    }

    /// The place of each sample among the records that the batch was to have, skipped ones included; `0..N`
    /// if none was skipped.
    #[must_use]
    pub fn positions(&self) -> &[u32] {
        &self.buffer().positions[..self.len]
    }

    /// How the samples are mixed with each other, if the loader was asked for it.
    #[must_use]
    pub fn mixed(&self) -> Option<Mixed<'_>> {
        let Buffer { partners, shares, .. } = self.buffer();
        self.is_mixed.then(|| Mixed { partners: &partners[..self.len], shares: &shares[..self.len] })
    }

    /// The number of samples, at most N.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no samples, as can happen to some ranks in the last batch of an epoch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// N, V, H and W.
    #[must_use]
    pub fn shape(&self) -> BatchShape {
        self.shape
    }

    /// The epoch.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The number of the batch in its epoch.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Records skipped in this batch because they are damaged.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    fn buffer(&self) -> &Buffer {
        self.buffer.as_ref().expect("a batch has its buffer until it is dropped")
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
        if let Some(buffer) = self.buffer.take() {
            // The loader may be gone; then the memory is freed here.
            let _ = self.return_to.send(buffer);
        }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("epoch", &self.epoch)
            .field("index", &self.index)
            .field("len", &self.len)
            .field("shape", &self.shape)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// Reads bytes as numbers of type `T`.
fn typed<T: Pod>(bytes: &[u8]) -> &[T] {
    // SAFETY: any bytes are a value of a `Pod` type.
    let (before, values, after) = unsafe { bytes.align_to::<T>() };
    assert!(before.is_empty() && after.is_empty(), "batch memory is aligned and whole");
    values
}

/// Number types that any bytes are a value of.
trait Pod {}
impl Pod for f32 {}
impl Pod for f16 {}
