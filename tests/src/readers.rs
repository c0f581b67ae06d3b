//! Everything that reads bytes from outside, as functions of these bytes: the targets of `fuzz/`, and what
//! `tests/corpus.rs` replays.
//!
//! A reader takes the bytes or refuses them; it never panics, hangs, or takes memory out of proportion.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;
use std::sync::LazyLock;

use fovea_datasets::photo::{Filter, Fit, Orientation, Photo, PhotoFile, Shaper};
use fovea_datasets::prepare::{PrepareOptions, Preparer, Progress};
use fovea_datasets::{Entry, OpenOptions, Payload, Source, SourceError, open};
use fovea_files::sha256_of;
use fovea_graph::Imported;
use fovea_pipeline::shard::{Record, Shard};
use fovea_pipeline::{Class, Dataset, Encoding, Split};
use fovea_trainer::backend::Setup;
use fovea_trainer::checkpoint;
use fovea_trainer::models::{GraphOptions, TrainingGraphs};
use fovea_trainer::optimizer::{Position, Schedule};
use fovea_trainer::recipe::Recipe;
use tempfile::TempDir;

/// Reads bytes; the error is the message for the user.
pub type Reader = fn(&[u8]) -> Result<(), String>;

/// All readers by name. A folder of `fuzz/corpus` is named after each.
pub const READERS: [(&str, Reader); 12] = [
    ("archive", archive),
    ("checkpoint", checkpoint),
    ("dataset", dataset),
    ("labels", labels),
    ("meta-mat", meta_mat),
    ("network", network),
    ("npy", npy),
    ("photo", photo),
    ("progress", progress),
    ("recipe", recipe),
    ("safetensors", safetensors),
    ("shard", shard),
];

/// The reader called `name`.
#[must_use]
pub fn reader(name: &str) -> Option<Reader> {
    READERS.iter().find(|(known, _)| *known == name).map(|(_, reader)| *reader)
}

fn text(error: impl Display) -> String {
    error.to_string()
}

/// A temporary folder with these files.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("it is in the folder")).expect("a folder can be made");
        fs::write(path, bytes).expect("a file can be written");
    }
    folder
}

/// Opens training images and reads all of a source.
fn read_all(options: &OpenOptions) -> Result<(), String> {
    let source = open(options).map_err(text)?;
    let mut buffer = Vec::new();
    for split in Split::ALL {
        for (index, entry) in source.entries(split).iter().enumerate() {
            assert!((entry.label as usize) < source.classes().len(), "a label without a class");
            assert_eq!(source.label(split, index).kind(), source.label_kind());
            source.read(split, index, &mut buffer).map_err(text)?;
        }
    }
    Ok(())
}

/// The tar with the checksums that its headers should have: a search does not find them by itself.
fn with_checksums(tar: &[u8]) -> Vec<u8> {
    const CHECKSUM: Range<usize> = 148..156;
    let mut tar = tar.to_vec();
    for block in tar.as_chunks_mut::<512>().0 {
        if block[257..262] == *b"ustar" {
            block[CHECKSUM].fill(b' ');
            let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
            block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    tar
}

/// A tar of images, whose checksums are made right, or a tar.gz.
fn archive(bytes: &[u8]) -> Result<(), String> {
    let folder = folder(&[("images.tar", &with_checksums(bytes))]);
    let path = folder.path().join("images.tar");
    let scratch_dir = Some(folder.path().to_owned());
    read_all(&OpenOptions { train: Some(path), scratch_dir, ..OpenOptions::default() })
}

/// A table of labels of three photos.
fn labels(bytes: &[u8]) -> Result<(), String> {
    let folder =
        folder(&[("photos/a.png", b""), ("photos/b.png", b""), ("photos/c.png", b""), ("labels.csv", bytes)]);
    let path = |name| Some(folder.path().join(name));
    let options = OpenOptions { train: path("photos"), labels: path("labels.csv"), ..OpenOptions::default() };
    read_all(&options)
}

/// `meta.mat` of a development kit, beside two images and their labels.
fn meta_mat(bytes: &[u8]) -> Result<(), String> {
    let truth = "kit/data/ILSVRC2012_validation_ground_truth.txt";
    let folder = folder(&[
        ("kit/data/meta.mat", bytes),
        (truth, b"1\n"),
        ("train/n00000001/a.jpg", b""),
        ("val/a.jpg", b""),
    ]);
    let path = |name| Some(folder.path().join(name));
    let options =
        OpenOptions { train: path("train"), val: path("val"), devkit: path("kit"), ..OpenOptions::default() };
    read_all(&options)
}

/// Larger photos are not decoded: to fill their memory takes the time of a thousand small ones.
const MOST_PHOTO_PIXELS: u64 = 1 << 18;

/// An image file.
fn photo(bytes: &[u8]) -> Result<(), String> {
    let file = PhotoFile::parse(bytes).map_err(text)?;
    if file.pixels() > MOST_PHOTO_PIXELS {
        return Err("large".into());
    }
    let (width, height) = file.dimensions();
    let mut photo = Photo::default();
    file.decode(Orientation::Apply, &mut photo).map_err(text)?;
    let (turned_width, turned_height) = (photo.width, photo.height);
    assert!([(width, height), (height, width)].contains(&(turned_width, turned_height)));
    assert_eq!(photo.rgb.len() as u64, 3 * u64::from(width) * u64::from(height));
    Shaper::new(8, Fit::ShortSide, Filter::Lanczos3).shape(turned_width, turned_height, &photo.rgb);
    Ok(())
}

/// A shard.
fn shard(bytes: &[u8]) -> Result<(), String> {
    let folder = folder(&[("train-00000.arrow", bytes)]);
    let shard = Shard::open(&folder.path().join("train-00000.arrow")).map_err(text)?;
    for index in 0..shard.len() {
        shard.will_need(index);
        shard.verify(index).map_err(text)?;
        let Record { image, size, .. } = shard.record(index);
        let is_raw = shard.header().encoding == Encoding::Raw;
        assert!(!is_raw || image.len() == 3 * size.area(), "an image that is not of its size");
    }
    assert_eq!(shard.records_blake3().len(), 64);
    Ok(())
}

/// `dataset.json`, beside no shards.
fn dataset(bytes: &[u8]) -> Result<(), String> {
    let folder = folder(&[("dataset.json", bytes)]);
    let dataset = Dataset::open(folder.path()).map_err(text)?;
    for split in Split::ALL {
        let error = dataset.records(split).map_err(text).expect_err("there are no shards");
        assert!(!error.is_empty());
        assert!(!dataset.info().digest(split).is_empty());
    }
    Ok(())
}

/// `mean_image.npy` of images of two pixels a side.
fn npy(bytes: &[u8]) -> Result<(), String> {
    let json = br#"{"format_version": 1, "writer": "", "source": "", "image_size": 2, "encoding": "raw",
        "train": [], "val": [], "statistics": null, "classes": []}"#;
    let folder = folder(&[("dataset.json", json), ("mean_image.npy", bytes)]);
    let dataset = Dataset::open(folder.path()).expect("it is a data set");
    let mean = dataset.mean_image().map_err(text)?;
    assert_eq!(mean.shape(), [3, 2, 2]);
    Ok(())
}

/// Three images of one colour.
struct Grey {
    classes: [Class; 1],
    entries: [Entry; 3],
}

impl Grey {
    fn new() -> Self {
        let classes = [Class { wnid: "n00000001".into(), ilsvrc_id: None, name: "grey".into() }];
        Self { classes, entries: ["a", "b", "c"].map(|key| Entry { key: key.into(), label: 0 }) }
    }
}

impl Source for Grey {
    fn name(&self) -> &'static str {
        "grey"
    }

    fn classes(&self) -> &[Class] {
        &self.classes
    }

    fn entries(&self, split: Split) -> &[Entry] {
        if split == Split::Train { &self.entries } else { &[] }
    }

    fn read<'b>(
        &self,
        _split: Split,
        index: usize,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Payload<'b>, SourceError> {
        buffer.clear();
        buffer.resize(3 * 2 * 2, 50 + index as u8);
        Ok(Payload::Pixels { width: 2, height: 2, rgb: buffer })
    }
}

/// Prepares three images into as many shards in a folder.
fn prepare(folder: &Path) -> Result<(), String> {
    let options =
        PrepareOptions { size: 2, shard_bytes: 1, workers: NonZeroUsize::MIN, ..PrepareOptions::default() };
    let source = Grey::new();
    let preparer = Preparer::new(&source, options, folder).map_err(text)?;
    preparer.run(&Progress::default()).map_err(text)?;
    Ok(())
}

/// `progress.json` of a preparation that was interrupted.
fn progress(bytes: &[u8]) -> Result<(), String> {
    static PREPARED: LazyLock<BTreeMap<String, Vec<u8>>> = LazyLock::new(|| {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        prepare(folder.path()).expect("the images can be prepared");
        let mut files = BTreeMap::new();
        for entry in folder.path().read_dir().expect("the folder can be listed") {
            let entry = entry.expect("the folder can be listed");
            let name = entry.file_name().into_string().expect("names are text");
            if name == "preparation.json" || name.ends_with(".arrow") {
                files.insert(name, fs::read(entry.path()).expect("the file can be read"));
            }
        }
        files
    });
    let prepared = PREPARED.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    let files: Vec<_> = prepared.chain([("progress.json", bytes)]).collect();
    prepare(folder(&files).path())
}

/// Loads a checkpoint and takes up its schedule.
fn load(folder: &Path) -> Result<(), String> {
    let (meta, mut tensors) = checkpoint::load(folder).map_err(text)?;
    let recipe = Recipe::load("demo", &[]).expect("it is built in");
    meta.check_classes(&meta.classes).expect("they are its own");
    if meta.schedule.reductions as usize <= recipe.schedule.most_reductions() {
        let mut schedule = Schedule::resume(recipe.schedule, None, 0.1, meta.schedule);
        schedule.epoch_done(0.5);
        let start = Position { batch: 0, per_epoch: 1, epochs: 1 };
        assert!(schedule.rate(start).is_finite());
    }
    let names: Vec<String> = tensors.names().map(str::to_owned).collect();
    for name in names {
        let tensor = tensors.get(&name).expect("it is listed").clone();
        assert_eq!(tensor.values.len(), tensor.shape.iter().product::<usize>());
        tensors.take(&name, &tensor.shape).map_err(text)?;
    }
    Ok(())
}

/// Tensors of a checkpoint: `w` of one value.
const TENSORS: &[u8] =
    b"\x38\0\0\0\0\0\0\0{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}  \0\0\x80\x3f";

/// `checkpoint.json`.
fn checkpoint(bytes: &[u8]) -> Result<(), String> {
    load(folder(&[("checkpoint.json", bytes), ("state.safetensors", TENSORS)]).path())
}

/// `state.safetensors`.
fn safetensors(bytes: &[u8]) -> Result<(), String> {
    let folder = folder(&[("state.safetensors", bytes)]);
    let sha256 = sha256_of(&folder.path().join("state.safetensors")).expect("the file can be read");
    let json = format!(
        r#"{{"format": 2, "tensors_bytes": {}, "tensors_sha256": "{sha256}", "written_by": "", "recipe": "",
            "recipe_hash": "", "classes": [], "class_names": [], "data": "", "is_best": false, "seed": 0,
            "step": 0, "epoch": 0, "batch": 0, "sums": {{"rows": 0, "loss": 0, "top1": 0, "top5": 0}},
            "discarded": 0, "schedule": {{"epochs": 0, "divisions": 0, "epochs_without_gain": 0}}}}"#,
        bytes.len()
    );
    fs::write(folder.path().join("checkpoint.json"), json).expect("a file can be written");
    load(folder.path())
}

/// A network in an ONNX file: its summary, and its graphs for training.
fn network(bytes: &[u8]) -> Result<(), String> {
    static RECIPE: LazyLock<Recipe> = LazyLock::new(|| {
        Recipe::load("demo", &["network={onnx='network.onnx'}".into()]).expect("it is built in")
    });
    let folder = folder(&[("network.onnx", bytes)]);
    let path = folder.path().join("network.onnx");
    let mut recipe = RECIPE.clone();
    let imported = Imported::read(&path).map_err(text)?;
    let summary = imported.summary(imported.input_px().unwrap_or([recipe.input.crop_px; 2])).map_err(text)?;
    recipe.network.onnx = Some(path);
    let setup = Setup::new(&recipe, summary.classes, 2, &[], 0).map_err(text)?;
    TrainingGraphs::build(&setup.network, &GraphOptions::new(2)).map_err(text)?;
    if let Some(layer) = setup.network.network.last_hidden() {
        assert!(setup.network.network.taps().contains(&layer), "{layer}");
    }
    Ok(())
}

/// A recipe in a file, with the shapes of its layers.
fn recipe(bytes: &[u8]) -> Result<(), String> {
    let folder = folder(&[("recipe.toml", bytes)]);
    let path = folder.path().join("recipe.toml");
    let recipe = Recipe::load(path.to_str().ok_or("a folder without a name")?, &[]).map_err(text)?;
    let written = recipe.to_toml();
    assert_eq!(Recipe::from_toml(&written, "again").map_err(text)?, recipe, "{written}");
    recipe.shapes(3, 10).map_err(text)?;
    Ok(())
}
