//! Tests of preparations that keep the proportions of photos.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use fovea_pipeline::geometry::Size;
use fovea_pipeline::shard::ShardError;
use fovea_pipeline::{Class, Dataset, Encoding, ImageShape, cores};

use super::*;
use crate::photo::{Fit, Shaper};
use crate::verify::verify;
use crate::{Entry, Payload, SourceError};

const SIDE: u32 = 8;

/// Photos of these sizes, of one class.
struct Photos {
    classes: Vec<Class>,
    entries: [Vec<Entry>; 2],
    sizes: Vec<(u32, u32)>,
}

impl Photos {
    fn new(sizes: &[(u32, u32)]) -> Self {
        let classes = vec![Class { wnid: "a".into(), ilsvrc_id: None, name: "a".into() }];
        let entries = (0..sizes.len()).map(|i| Entry { key: format!("{i:04}"), label: 0 }).collect();
        Self { classes, entries: [entries, Vec::new()], sizes: sizes.into() }
    }
}

fn pixels(index: usize, (width, height): (u32, u32)) -> Vec<u8> {
    (0..3 * width * height).map(|i| (i as usize * 7 + index * 31) as u8).collect()
}

impl Source for Photos {
    fn name(&self) -> &'static str {
        "photos"
    }

    fn classes(&self) -> &[Class] {
        &self.classes
    }

    fn entries(&self, split: Split) -> &[Entry] {
        &self.entries[split as usize]
    }

    fn read<'b>(
        &self,
        _split: Split,
        index: usize,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Payload<'b>, SourceError> {
        let (width, height) = self.sizes[index];
        *buffer = pixels(index, (width, height));
        Ok(Payload::Pixels { width, height, rgb: buffer })
    }
}

/// Squares, landscapes, portraits, a panorama of 10 to 1, sides of one pixel, smaller and larger than stored.
const SIZES: [(u32, u32); 9] =
    [(8, 8), (20, 10), (10, 25), (80, 8), (1, 1), (1, 9), (300, 2), (4, 3), (31, 30)];

/// What they are stored as: the shorter side 8, the longer one in proportion and at most 16 times as long.
const STORED: [(u32, u32); 9] =
    [(8, 8), (16, 8), (8, 20), (80, 8), (8, 8), (8, 72), (128, 8), (10, 8), (8, 8)];

fn options(encoding: Encoding, workers: usize) -> PrepareOptions {
    PrepareOptions {
        size: SIDE,
        fit: Fit::Keep,
        encoding,
        shard_bytes: 900,
        workers: NonZeroUsize::new(workers).unwrap(),
        ..PrepareOptions::default()
    }
}

fn prepare(source: &Photos, options: PrepareOptions, directory: &Path) -> Summary {
    Preparer::new(source, options, directory).unwrap().run(&Progress::default()).unwrap()
}

#[test]
fn every_photo_is_stored_whole_with_its_shorter_side_resized() {
    for encoding in Encoding::ALL {
        let directory = tempfile::tempdir().unwrap();
        let source = Photos::new(&SIZES);
        let summary = prepare(&source, options(encoding, 3), directory.path());
        assert_eq!((summary.info.image_shape, summary.info.format_version), (ImageShape::Keep, 3));
        assert_eq!((summary.info.cut_images, summary.rejected), (1, 0));
        assert!(summary.info.train.len() > 1);
        assert!(!directory.path().join(DatasetInfo::MEAN_IMAGE_FILE_NAME).exists());
        let dataset = Dataset::open(directory.path()).unwrap();
        assert_eq!(verify(&dataset, cores(), &|_| {}).problems, []);
        let records = dataset.records(Split::Train).unwrap();
        let mut shaper = Shaper::new(SIDE, Fit::Keep, PrepareOptions::default().filter);
        let (mut seen, mut sums) = (0, [0_u64; 3]);
        for index in 0..records.len() {
            let record = records.record(index).unwrap();
            let photo: usize = record.key().parse().unwrap();
            let (width, height) = STORED[photo];
            assert_eq!(record.get().size, Size { width, height }, "{photo}");
            let (from, photo_size) = (pixels(photo, SIZES[photo]), SIZES[photo]);
            let shaped = shaper.shape(photo_size.0, photo_size.1, &from);
            let planes: Vec<u8> =
                (0..3).flat_map(|c| shaped.rgb.iter().skip(c).step_by(3).copied()).collect();
            assert!(encoding == Encoding::Jpeg || record.get().image == planes, "{photo}");
            for (sum, plane) in sums.iter_mut().zip(planes.chunks(planes.len() / 3)) {
                *sum += plane.iter().map(|&value| u64::from(value)).sum::<u64>();
            }
            seen += shaped.size.area();
        }
        // Every pixel counts once.
        let mean = summary.info.statistics.unwrap().mean;
        assert_eq!(mean, sums.map(|sum| sum as f64 / seen as f64));
    }
}

#[test]
fn the_same_photos_give_the_same_bytes_for_any_workers_and_after_an_interruption() {
    let source = Photos::new(&SIZES.repeat(4));
    let content = |workers, stop_after: Option<usize>| {
        let directory = tempfile::tempdir().unwrap();
        if let Some(images) = stop_after {
            let fewer = Progress::default();
            let preparer = Preparer::new(&source, options(Encoding::Raw, 1), directory.path()).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while fewer.images() < images as u64 {
                        std::thread::yield_now();
                    }
                    fewer.cancel();
                });
                // It may have ended before.
                let _ = preparer.run(&fewer);
            });
        }
        prepare(&source, options(Encoding::Raw, workers), directory.path());
        let names = file_names(directory.path()).unwrap();
        names.into_iter().map(|name| fs::read(directory.path().join(name)).unwrap()).collect::<Vec<_>>()
    };
    let one = content(1, None);
    assert!(one == content(4, None));
    assert!(one == content(2, Some(6)));
}

#[test]
fn the_shape_is_a_part_of_the_preparation() {
    let directory = tempfile::tempdir().unwrap();
    let source = Photos::new(&SIZES);
    prepare(&source, options(Encoding::Raw, 1), directory.path());
    let squares = PrepareOptions { fit: Fit::ShortSide, ..options(Encoding::Raw, 1) };
    let error = Preparer::new(&source, squares, directory.path()).err().unwrap().to_string();
    assert!(error.contains("format-version 3, but now format-version is 1"), "{error}");
}

#[test]
fn verification_finds_a_changed_size() {
    let directory = tempfile::tempdir().unwrap();
    prepare(&Photos::new(&[(91, 8), (77, 8)]), options(Encoding::Raw, 1), directory.path());
    let path = directory.path().join("train-00000.arrow");
    let mut bytes = fs::read(&path).unwrap();
    // The widths, in either order.
    let columns = [[91_u32, 77], [77, 91]].map(|widths| widths.map(u32::to_le_bytes).concat());
    let place = bytes.windows(8).position(|window| columns.iter().any(|column| window == column)).unwrap();
    bytes[place] += 1;
    fs::write(&path, bytes).unwrap();
    assert!(matches!(Shard::open(&path), Err(ShardError::Damaged { .. })));
    let report = verify(&Dataset::open(directory.path()).unwrap(), cores(), &|_| {});
    let problems: Vec<&str> = report.problems.iter().map(|problem| &*problem.what).collect();
    assert!(
        problems.iter().any(|what| what.contains("row 0: ") && what.contains("bytes, expected")),
        "{problems:?}"
    );
}
