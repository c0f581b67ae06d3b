use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use fovea_files::PartialFile;
use fovea_pipeline::{Class, Encoding};

use super::*;
use crate::{Entry, Payload, SourceError};

/// Pixels that depend on the position alone, and a failure at a chosen read.
struct Memory {
    classes: Vec<Class>,
    entries: [Vec<Entry>; 2],
    /// The read, counted over all threads, at which `failure` happens.
    failure_at: Option<usize>,
    failure: Failure,
    reads: AtomicUsize,
    progress: Progress,
    /// Whether image 3 of each split can be decoded.
    is_mended: bool,
    /// Every third image is this file.
    file: Option<Vec<u8>>,
}

enum Failure {
    Cancel,
    Panic,
    Error,
}

impl Memory {
    fn new(train: usize, val: usize) -> Self {
        let classes = ["a", "b"].map(|name| Class { wnid: name.into(), ilsvrc_id: None, name: name.into() });
        let entries = [train, val].map(|count| {
            (0..count).map(|i| Entry { key: format!("{i:04}"), label: (i % 2) as u32 }).collect()
        });
        Self {
            classes: classes.into(),
            entries,
            failure_at: None,
            failure: Failure::Cancel,
            reads: AtomicUsize::new(0),
            progress: Progress::default(),
            is_mended: false,
            file: None,
        }
    }

    fn with_failure(mut self, failure: Failure, read: usize) -> Self {
        self.failure = failure;
        self.failure_at = Some(read);
        self
    }
}

impl Source for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn classes(&self) -> &[Class] {
        &self.classes
    }

    fn entries(&self, split: Split) -> &[Entry] {
        &self.entries[split as usize]
    }

    fn read<'b>(
        &self,
        split: Split,
        index: usize,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Payload<'b>, SourceError> {
        if Some(self.reads.fetch_add(1, Relaxed)) == self.failure_at {
            match self.failure {
                Failure::Cancel => self.progress.cancel(),
                Failure::Panic => panic!("a mistake in a source"),
                Failure::Error => {
                    let source = io::Error::other("the disk is broken");
                    return Err(SourceError::Io { path: "photos.tar".into(), action: "read".into(), source });
                }
            }
        }
        buffer.clear();
        if index == 3 && !self.is_mended {
            return Ok(Payload::File(b"no image"));
        }
        if let (Some(file), 0) = (&self.file, index % 3) {
            buffer.extend(file);
            return Ok(Payload::File(buffer));
        }
        buffer.extend((0..48).map(|i| (i * 7 + index * 31 + split as usize * 5) as u8));
        Ok(Payload::Pixels { width: 4, height: 4, rgb: buffer })
    }
}

/// Small shards: ten images each.
fn options(workers: usize) -> PrepareOptions {
    PrepareOptions {
        size: 8,
        shard_bytes: 2400,
        seed: 5,
        workers: NonZeroUsize::new(workers).unwrap(),
        ..PrepareOptions::default()
    }
}

fn prepare(source: &Memory, options: PrepareOptions, directory: &Path) -> Result<Summary, PrepareError> {
    Preparer::new(source, options, directory)?.run(&source.progress)
}

fn content(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = file_names(directory).unwrap();
    names.into_iter().map(|name| (name.clone(), fs::read(directory.join(name)).unwrap())).collect()
}

#[test]
fn cancelled_at_any_read_and_run_again_the_folder_ends_the_same() {
    let expected = tempfile::tempdir().unwrap();
    let summary = prepare(&Memory::new(95, 21), options(3), expected.path()).unwrap();
    assert_eq!((summary.rejected, summary.info.train.len(), summary.info.val.len()), (2, 10, 3));
    let expected = content(expected.path());
    let mut kept_most = 0;
    for read in (0..115).step_by(5) {
        let directory = tempfile::tempdir().unwrap();
        let stopped = Memory::new(95, 21).with_failure(Failure::Cancel, read);
        let result = prepare(&stopped, options(2), directory.path());
        assert!(matches!(result, Err(PrepareError::Interrupted { .. })), "read {read}: {result:?}");
        assert!(
            !content(directory.path()).keys().any(|name| name.ends_with(PartialFile::SUFFIX)),
            "read {read}"
        );
        let summary = prepare(&Memory::new(95, 21), options(1), directory.path()).unwrap();
        kept_most = kept_most.max(summary.shards_kept);
        assert_eq!(content(directory.path()), expected, "read {read}");
    }
    assert!(kept_most > 0, "no run kept a shard of the one before");
}

/// A folder in which a preparation of 95 and 21 images was stopped after a few shards.
fn stopped() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let source = Memory::new(95, 21).with_failure(Failure::Cancel, 105);
    let result = prepare(&source, options(2), directory.path());
    assert!(matches!(result, Err(PrepareError::Interrupted { finished: 2.., .. })), "{result:?}");
    directory
}

/// The folder of the same preparation without a stop.
fn whole() -> BTreeMap<String, Vec<u8>> {
    let directory = tempfile::tempdir().unwrap();
    prepare(&Memory::new(95, 21), options(2), directory.path()).unwrap();
    content(directory.path())
}

#[test]
fn a_damaged_progress_is_an_error_or_the_folder_ends_the_same() {
    let (directory, expected) = (stopped(), whole());
    let before = content(directory.path());
    let progress = &before[PROGRESS_FILE];
    let (mut refused, mut total) = (0, 0);
    for place in (0..progress.len()).step_by(3) {
        let mut changed = progress.clone();
        match place % 4 {
            0 => changed[place] = b'9',
            1 => changed[place] ^= 1 << (place % 8),
            2 => changed.truncate(place),
            _ => changed.splice(place..place, *b"99999999999").for_each(drop),
        }
        for name in file_names(directory.path()).unwrap() {
            fs::remove_file(directory.path().join(name)).unwrap();
        }
        for (name, bytes) in &before {
            fs::write(directory.path().join(name), bytes).unwrap();
        }
        fs::write(directory.path().join(PROGRESS_FILE), &changed).unwrap();
        total += 1;
        match prepare(&Memory::new(95, 21), options(1), directory.path()) {
            Ok(_) => assert!(content(directory.path()) == expected, "byte {place}: another data set"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > total / 2, "{refused} of {total} refused");
}

#[test]
fn what_an_earlier_version_stopped_at_ends_the_same() {
    let (directory, expected) = (stopped(), whole());
    let path = directory.path().join(PROGRESS_FILE);
    let mut state: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    state.as_object_mut().unwrap().remove("sha256");
    for shard in state["shards"].as_array_mut().unwrap() {
        shard[1].as_object_mut().unwrap().remove("records_blake3").unwrap();
    }
    fs::write(&path, state.to_string()).unwrap();
    prepare(&Memory::new(95, 21), options(1), directory.path()).unwrap();
    assert!(content(directory.path()) == expected);
}

#[test]
fn impossible_numbers_of_an_earlier_version_are_refused() {
    for (pointer, value) in [
        ("/statistics/images", u64::MAX),
        ("/statistics/pixels/5", u64::MAX),
        ("/statistics/color/sums/1", u64::MAX),
        ("/statistics/color/products/5", u64::MAX),
        ("/statistics/color/pixels", u64::MAX),
        ("/shards/0/1/images", u64::MAX),
        ("/shards/1/1/bytes", u64::MAX),
        ("/rejected/0/label", 2),
    ] {
        let directory = stopped();
        let path = directory.path().join(PROGRESS_FILE);
        let mut state: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        state.as_object_mut().unwrap().remove("sha256");
        *state.pointer_mut(pointer).unwrap() = value.into();
        fs::write(&path, state.to_string()).unwrap();
        let error = Preparer::new(&Memory::new(95, 21), options(1), directory.path()).err().expect(pointer);
        assert!(error.to_string().contains("progress.json"), "{pointer}: {error}");
    }
}

#[test]
fn a_finished_shard_with_other_labels_is_refused() {
    let directory = stopped();
    let path = directory.path().join("train-00001.arrow");
    let mut bytes = fs::read(&path).unwrap();
    // A label of 1 between others of 0 and 1.
    let place = bytes.windows(16).rposition(|part| part == [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes[place.unwrap()] = 0;
    fs::write(&path, bytes).unwrap();
    let error = Preparer::new(&Memory::new(95, 21), options(1), directory.path()).err().unwrap();
    assert!(matches!(&error, PrepareError::Changed { .. }), "{error}");
    assert!(error.to_string().contains("of labels and keys"), "{error}");
}

#[test]
fn mended_images_are_taken_in_by_the_same_preparation() {
    let [expected, directory] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let mended = || Memory { is_mended: true, ..Memory::new(95, 21) };
    prepare(&mended(), options(2), expected.path()).unwrap();
    prepare(&Memory::new(95, 21), options(2), directory.path()).unwrap();
    let summary = prepare(&Memory::new(95, 21), options(2), directory.path()).unwrap();
    assert_eq!((summary.rejected, summary.shards_kept), (2, 13), "nothing has changed");
    let source = mended();
    let preparer = Preparer::new(&source, options(2), directory.path()).unwrap();
    let note = preparer.taken_in().expect("images are mended");
    assert!(note.message.ends_with("2 images mended (0003, 0003 (val))"), "{}", note.message);
    let summary = preparer.run(&source.progress).unwrap();
    assert_eq!((summary.rejected, summary.shards_kept), (0, 0));
    assert_eq!(content(directory.path()), content(expected.path()));
}

#[test]
fn a_source_that_cannot_be_read_stops_the_run_with_its_error() {
    let directory = tempfile::tempdir().unwrap();
    let source = Memory::new(95, 21).with_failure(Failure::Error, 50);
    let error = prepare(&source, options(4), directory.path()).unwrap_err();
    assert_eq!(error.to_string(), "photos.tar: cannot read: the disk is broken");
    prepare(&Memory::new(95, 21), options(4), directory.path()).unwrap();
}

#[test]
fn a_worker_that_panics_stops_the_run_with_one_error() {
    let directory = tempfile::tempdir().unwrap();
    let source = Memory::new(95, 21).with_failure(Failure::Panic, 50);
    let error = prepare(&source, options(4), directory.path()).unwrap_err();
    assert!(error.to_string().contains("a mistake in a source"), "{error}");
}

#[test]
fn an_unfinished_folder_can_be_taken_by_one_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let source = Memory::new(5, 1);
    let first = Preparer::new(&source, options(1), directory.path()).unwrap();
    let second = Preparer::new(&source, options(1), directory.path());
    assert!(matches!(second.err(), Some(PrepareError::Busy { .. })));
    drop(first);
    Preparer::new(&source, options(1), directory.path()).unwrap();
}

#[test]
fn shards_are_planned_by_number_and_every_image_is_planned_once() {
    let source = Memory::new(95, 21);
    let plan = ShardPlan::new(&source, &options(1)).unwrap();
    let lengths: Vec<usize> = plan.shards.iter().map(|shard| shard.positions.len()).collect();
    assert_eq!(lengths, [[10; 9].as_slice(), &[5, 10, 10, 1]].concat());
    let mut train = plan.order(Split::Train).to_vec();
    assert!(!train.is_sorted());
    train.sort();
    assert!(train.into_iter().eq(0..95));
    assert!(plan.order(Split::Val).iter().copied().eq(0..21));
}

#[test]
fn a_seed_always_means_the_same_order() {
    let order = ShardPlan::new(&Memory::new(12, 0), &options(1)).unwrap().order(Split::Train).to_vec();
    assert_eq!(order, ORDER_OF_SEED_5);
}

#[test]
fn options_out_of_range_are_named() {
    let refused = |change: fn(&mut PrepareOptions)| {
        let mut options = PrepareOptions::default();
        change(&mut options);
        options.validate().unwrap_err().to_string()
    };
    assert_eq!(refused(|options| options.size = 0), "size: 0, expected 1 to 4096 pixels");
    assert_eq!(refused(|options| options.quality = 101), "quality: 101, expected 1 to 100");
    assert_eq!(
        refused(|options| options.workers = NonZeroUsize::new(4_000_000).unwrap()),
        "workers: 4000000, expected 1 to 1024 threads"
    );
    assert_eq!(refused(|options| options.shard_bytes = 0), "shard-size: 0, expected at least 1 byte");
    assert_eq!(
        refused(|options| options.limit_per_class = Some(0)),
        "limit-per-class: 0, expected at least 1 image"
    );
}

#[test]
fn every_image_of_jpeg_shards_has_the_requested_size() {
    let directory = tempfile::tempdir().unwrap();
    let options = PrepareOptions { encoding: Encoding::Jpeg, size: 20, ..options(2) };
    prepare(&Memory::new(30, 0), options, directory.path()).unwrap();
    let dataset = crate::verify::open(directory.path()).unwrap();
    let report = crate::verify::verify(&dataset, NonZeroUsize::MIN, &|_| ());
    assert_eq!((report.images, report.problems), (29, vec![]));
}

#[test]
fn damage_of_the_small_files_is_found_by_verify_and_mended_or_refused_by_the_next_run() {
    type Damage<'a> = &'a dyn Fn(&str) -> String;
    let directory = tempfile::tempdir().unwrap();
    let source = Memory::new(30, 3);
    prepare(&source, options(2), directory.path()).unwrap();
    let read = |file| fs::read_to_string(directory.path().join(file)).unwrap();
    let last_line = |text: &str| text.lines().last().unwrap().to_owned();
    let cases: [(&str, Damage<'_>, &str, Option<&str>); 9] = [
        (
            "preparation.json",
            &|text| text.replace("lanczos3", "bicubic"),
            "changed or damaged",
            Some("changed or damaged"),
        ),
        ("preparation.json", &|text| text[..99].to_owned(), "EOF", Some("EOF")),
        ("files.tsv", &|text| text.replace("class", "glass"), "line 1: found `split\\tglass", None),
        ("files.tsv", &|text| text[..text.len() - 2].to_owned(), "its last line is cut", None),
        ("files.tsv", &|text| text.replacen('\t', " ", 9), "line 1", None),
        (
            "files.tsv",
            &|text| text.replace(&format!("{}\n", last_line(text)), ""),
            "in a shard, but not listed: 1 val image, such as ",
            None,
        ),
        (
            "files.tsv",
            &|text| format!("{text}{}\n", last_line(text).replacen("\t", "\tx\t", 2)),
            "7 columns, expected 5",
            None,
        ),
        (
            "rejected.tsv",
            &|text| text.replace(&format!("{}\n", last_line(text)), ""),
            "listed, but in no shard and not rejected: 1 train image, such as ",
            Some("it lists 0 images, but 1 are in no shard"),
        ),
        ("rejected.tsv", &|text| text.replace("train", "brain"), "expected a split, train or val", None),
    ];
    for (file, damage, problem, error) in cases {
        let (path, whole) = (directory.path().join(file), read(file));
        fs::write(&path, damage(&whole)).unwrap();
        let dataset = crate::verify::open(directory.path()).unwrap();
        let report = crate::verify::verify(&dataset, NonZeroUsize::MIN, &|_| ());
        let problems: Vec<_> = report.problems.iter().map(|problem| problem.what.as_str()).collect();
        assert!(
            problems.iter().any(|what| what.contains(problem)),
            "{file}: {problems:?}, expected {problem}"
        );

        let again = prepare(&source, options(2), directory.path());
        match (again, error) {
            (Ok(_), None) => {}
            (Err(found), Some(expected)) => assert!(found.to_string().contains(expected), "{found}"),
            (again, expected) => panic!("{file}: {again:?}, expected {expected:?}"),
        }
        if file == "files.tsv" {
            assert_eq!(read(file), whole, "the list is mended");
        }
        fs::write(&path, whole).unwrap();
    }
    let dataset = crate::verify::open(directory.path()).unwrap();
    assert_eq!(crate::verify::verify(&dataset, NonZeroUsize::MIN, &|_| ()).problems, []);
}

/// The order of twelve images with seed 5.
const ORDER_OF_SEED_5: [u32; 12] = [0, 1, 4, 6, 9, 5, 11, 3, 10, 8, 7, 2];

/// A TIFF file of 2×1 pixels, black and white, which is to be turned by 90 degrees.
fn turned_file() -> Vec<u8> {
    let mut file = b"II*\0\x0e\0\0\0\0\0\0\xff\xff\xff".to_vec();
    let entries: [(u16, u32); 8] =
        [(256, 2), (257, 1), (258, 8), (262, 2), (273, 8), (274, 6), (277, 3), (279, 6)];
    file.extend((entries.len() as u16).to_le_bytes());
    for (tag, value) in entries {
        file.extend([tag.to_le_bytes(), 3u16.to_le_bytes()].concat());
        file.extend([1, value].map(u32::to_le_bytes).concat());
    }
    file.extend([0; 4]);
    file
}

fn with_turned_files() -> Memory {
    Memory { file: Some(turned_file()), is_mended: true, ..Memory::new(95, 21) }
}

#[test]
fn photos_that_are_not_upright_are_counted_once_also_after_a_stop() {
    // One file in three: 32 of 95 and 7 of 21.
    let directory = tempfile::tempdir().unwrap();
    let first = with_turned_files().with_failure(Failure::Cancel, 60);
    let stopped = prepare(&first, options(2), directory.path());
    assert!(matches!(stopped, Err(PrepareError::Interrupted { finished: 1.., .. })), "{stopped:?}");
    for _ in 0..2 {
        let summary = prepare(&with_turned_files(), options(2), directory.path()).unwrap();
        assert_eq!((summary.info.turned_images, summary.rejected), (39, 0));
        assert_eq!(summary.orientation, Orientation::Ignore);
    }
    let sound = tempfile::tempdir().unwrap();
    prepare(&Memory::new(95, 21), options(2), sound.path()).unwrap();
    let text = fs::read_to_string(sound.path().join(DatasetInfo::FILE_NAME)).unwrap();
    assert!(!text.contains("turned"), "{text}");
}

#[test]
fn the_orientation_is_part_of_a_data_set_and_none_means_ignore() {
    let apply = PrepareOptions { orientation: Orientation::Apply, ..options(1) };
    let [ignored, applied] = [options(1), apply.clone()].map(|options| {
        let directory = tempfile::tempdir().unwrap();
        prepare(&with_turned_files(), options, directory.path()).unwrap();
        directory
    });
    let shards = |directory: &tempfile::TempDir| content(directory.path())["train-00000.arrow"].clone();
    assert_ne!(shards(&ignored), shards(&applied));
    for (directory, other, here, there) in
        [(&ignored, apply, "apply", "ignore"), (&applied, options(1), "ignore", "apply")]
    {
        let error = prepare(&with_turned_files(), other, directory.path()).unwrap_err().to_string();
        let expected = format!("orientation \"{there}\", but now orientation is \"{here}\"");
        assert!(error.contains(&expected), "{error}");
    }
    let text = fs::read_to_string(ignored.path().join(DatasetInfo::PREPARATION_FILE_NAME)).unwrap();
    assert!(!text.contains("orientation"), "as written by earlier versions: {text}");
    assert_eq!(Preparation::read(ignored.path()).unwrap().unwrap().orientation, Orientation::Ignore);
    assert_eq!(Preparation::read(applied.path()).unwrap().unwrap().orientation, Orientation::Apply);
}
