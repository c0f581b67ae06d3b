//! A worker: from entries of the source to images ready to write.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use fovea_pipeline::geometry::Size;
use fovea_pipeline::threads::panic_text;
use fovea_pipeline::{Encoding, Split};

use super::{PrepareError, PrepareOptions, Progress, Rejection};
use crate::photo::{Photo, PhotoFile, Shaped, Shaper, encode_jpeg, to_planes};
use crate::statistics::BatchSums;
use crate::{Payload, Source};

/// Larger images are decoded one at a time, whatever the number of workers, to limit peak memory.
const HUGE_PIXELS: u64 = 24 << 20;

/// Bytes of decoded pixels that a worker keeps for the next image.
const KEPT_BYTES: usize = 64 << 20;

/// A part of a shard, and the memory for its images.
pub(super) struct Task {
    /// Position among all parts of the run.
    pub number: usize,
    pub split: Split,
    /// Positions in the order of the split.
    pub positions: Range<usize>,
    pub output: Output,
}

/// The images of a task in their order, without those that were rejected.
pub(super) struct Output {
    /// The bytes of all images, one after the other.
    pub images: Vec<u8>,
    pub records: Vec<OutputRecord>,
    pub rejected: Vec<Rejection>,
    /// Images that are not stored upright.
    pub turned: u64,
    /// Images of which only the middle was kept.
    pub cut: u64,
    /// Of training images only.
    pub sums: BatchSums,
}

/// An image in [`Output::images`].
pub(super) struct OutputRecord {
    /// Position in the source's entries.
    pub entry: usize,
    /// Where its bytes end.
    pub end: usize,
    /// Its width and height.
    pub size: Size,
}

impl Output {
    pub(super) fn new(mean_values: usize) -> Self {
        Self {
            images: Vec::new(),
            records: Vec::new(),
            rejected: Vec::new(),
            turned: 0,
            cut: 0,
            sums: BatchSums::new(mean_values),
        }
    }

    fn clear(&mut self) {
        self.images.clear();
        self.records.clear();
        self.rejected.clear();
        (self.turned, self.cut) = (0, 0);
        self.sums.clear();
    }
}

/// What all workers share.
pub(super) struct Shared<'a> {
    pub source: &'a dyn Source,
    pub order: [&'a [u32]; 2],
    pub options: &'a PrepareOptions,
    pub progress: &'a Progress,
    /// Held while a huge image is decoded.
    pub huge: Mutex<()>,
}

/// One thread's decoder, resizer and memory.
pub(super) struct Worker<'a> {
    shared: &'a Shared<'a>,
    file: Vec<u8>,
    scratch: Scratch,
}

struct Scratch {
    photo: Photo,
    shaper: Shaper,
    planes: Vec<u8>,
    jpeg: Vec<u8>,
}

impl Scratch {
    fn new(options: &PrepareOptions) -> Self {
        Self {
            photo: Photo::default(),
            shaper: Shaper::new(options.size, options.fit, options.filter),
            planes: Vec::new(),
            jpeg: Vec::new(),
        }
    }
}

impl<'a> Worker<'a> {
    pub(super) fn new(shared: &'a Shared<'a>) -> Self {
        Worker { shared, file: Vec::new(), scratch: Scratch::new(shared.options) }
    }

    /// Converts the images of a task; `None` if the run was cancelled meanwhile.
    ///
    /// # Errors
    /// When the source cannot be read. An image that cannot be decoded is a rejection, not an error.
    pub(super) fn run(&mut self, mut task: Task) -> Result<Option<Task>, PrepareError> {
        task.output.clear();
        for position in task.positions.clone() {
            if self.shared.progress.is_cancelled() {
                return Ok(None);
            }
            let entry = self.shared.order[task.split as usize][position] as usize;
            let (source, shared, scratch) = (self.shared.source, self.shared, &mut self.scratch);
            let payload = source.read(task.split, entry, &mut self.file)?;
            // Decoders get arbitrary bytes; a panic must cost an image, not the run.
            let result = catch_unwind(AssertUnwindSafe(|| {
                let before = task.output.images.len();
                scratch
                    .convert(payload, shared, &mut task.output.images)
                    .inspect_err(|_| task.output.images.truncate(before))
            }))
            .unwrap_or_else(|panic| {
                self.scratch = Scratch::new(shared.options);
                Err(format!("the decoder panicked: {}", panic_text(&*panic)))
            });
            match result {
                Ok(Converted { size, is_turned, is_cut }) => {
                    task.output.turned += u64::from(is_turned);
                    task.output.cut += u64::from(is_cut);
                    if task.split == Split::Train {
                        task.output.sums.add_image(&self.scratch.planes);
                    }
                    task.output.records.push(OutputRecord { entry, end: task.output.images.len(), size });
                }
                Err(reason) => {
                    let images = task.output.records.last().map_or(0, |record| record.end);
                    task.output.images.truncate(images);
                    let source_entry = &source.entries(task.split)[entry];
                    task.output.rejected.push(Rejection {
                        split: task.split,
                        key: source_entry.key.clone(),
                        label: source_entry.label,
                        reason,
                    });
                }
            }
        }
        Ok(Some(task))
    }
}

/// What is said about an image that was converted.
struct Converted {
    size: Size,
    /// Whether it is not stored upright.
    is_turned: bool,
    /// Whether only its middle was kept.
    is_cut: bool,
}

impl Scratch {
    /// Appends the record's bytes to `images` and leaves the pixels in `planes`.
    fn convert(
        &mut self,
        payload: Payload<'_>,
        shared: &Shared<'_>,
        images: &mut Vec<u8>,
    ) -> Result<Converted, String> {
        let options = shared.options;
        let mut is_turned = false;
        let Shaped { rgb, size, is_cut } = match payload {
            Payload::File(bytes) => {
                is_turned = self.decode(bytes, shared)?;
                self.shaper.shape(self.photo.width, self.photo.height, &self.photo.rgb)
            }
            Payload::Pixels { width, height, rgb } => {
                let expected = width as usize * height as usize * 3;
                if rgb.len() != expected || expected == 0 {
                    return Err(format!("{} bytes of pixels for {width}x{height} pixels", rgb.len()));
                }
                self.shaper.shape(width, height, rgb)
            }
        };
        self.planes.resize(rgb.len(), 0);
        to_planes(rgb, &mut self.planes);
        match options.encoding {
            Encoding::Raw => images.extend_from_slice(&self.planes),
            Encoding::Jpeg => {
                encode_jpeg(rgb, size, options.quality, &mut self.jpeg);
                images.extend_from_slice(&self.jpeg);
            }
        }
        if self.photo.rgb.capacity() > KEPT_BYTES {
            self.photo.rgb = Vec::new();
        }
        Ok(Converted { size, is_turned, is_cut })
    }

    /// Decodes a file to `photo`; returns whether it is not stored upright.
    fn decode(&mut self, bytes: &[u8], shared: &Shared<'_>) -> Result<bool, String> {
        let file = PhotoFile::parse(bytes).map_err(|error| error.to_string())?;
        // The lock guards no data, so a panic while it is held does no harm.
        let _turn =
            (file.pixels() > HUGE_PIXELS).then(|| shared.huge.lock().unwrap_or_else(PoisonError::into_inner));
        let is_turned = file.is_turned();
        file.decode(shared.options.orientation, &mut self.photo).map_err(|error| error.to_string())?;
        Ok(is_turned)
    }
}
