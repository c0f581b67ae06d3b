//! Small data sets in every layout. Their images are no images: a source does not look into them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use super::{MatWriter, Synset};
use crate::{OpenOptions, Source, SourceError, open};

/// The classes of the fixtures in the order of their WNIDs.
pub(crate) const WNIDS: [&str; 3] = ["n01440764", "n01443537", "n02119789"];
/// ILSVRC ids of these classes: not in the same order.
const IDS: [u32; 3] = [3, 1, 2];
const NAMES: [&str; 3] = ["tench, Tinca tinca", "goldfish, Carassius auratus", "kit fox, Vulpes macrotis"];
pub(crate) const TRAIN_PER_CLASS: usize = 4;
/// Indices of the classes of the validation images, in the order of the images' names.
pub(crate) const VAL_CLASSES: [usize; 5] = [2, 0, 0, 1, 2];

/// A temporary folder in which a data set is laid out.
pub(crate) struct Fixture {
    pub(crate) dir: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary folder can be made") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file and the folders above it.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("the path lies in the temporary folder")).expect("a folder");
        fs::write(&path, content).expect("the temporary folder is writable");
        path
    }

    pub(crate) fn write_all(&self, files: &[(String, Vec<u8>)]) {
        for (name, content) in files {
            self.write(name, content);
        }
    }

    /// Opens what lies at `train` and `val`, with `devkit`, all of them relative names or empty.
    pub(crate) fn open(&self, train: &str, val: &str, devkit: &str) -> Result<Box<dyn Source>, SourceError> {
        open(&self.options(train, val, devkit))
    }

    pub(crate) fn options(&self, train: &str, val: &str, devkit: &str) -> OpenOptions {
        let path = |name: &str| (!name.is_empty()).then(|| self.path(name));
        OpenOptions {
            train: path(train),
            val: path(val),
            devkit: path(devkit),
            scratch_dir: Some(self.dir.path().to_owned()),
            ..OpenOptions::default()
        }
    }
}

/// The error of a source that must not open.
pub(crate) fn error(result: Result<Box<dyn Source>, SourceError>) -> SourceError {
    match result {
        Ok(source) => panic!("{} was opened although its files are bad", source.name()),
        Err(error) => error,
    }
}

/// Content that differs between any two images and in length.
pub(crate) fn content(name: &str) -> Vec<u8> {
    let sum: usize = name.bytes().map(usize::from).sum();
    name.bytes().cycle().take(300 + sum % 700).collect()
}

/// `<wnid>/<wnid>_<number>.JPEG` and content for every training image.
pub(crate) fn train_files() -> Vec<(String, Vec<u8>)> {
    let name = |wnid: &str, i: usize| format!("{wnid}/{wnid}_{}.JPEG", 7 * i + 1);
    let names = WNIDS.iter().flat_map(|wnid| (0..TRAIN_PER_CLASS).map(move |i| name(wnid, i)));
    names.map(|name| (name.clone(), content(&name))).collect()
}

/// The official names of the validation images and their content.
pub(crate) fn val_files() -> Vec<(String, Vec<u8>)> {
    let names = (1..=VAL_CLASSES.len()).map(|i| format!("ILSVRC2012_val_{i:08}.JPEG"));
    names.map(|name| (name.clone(), content(&name))).collect()
}

/// Puts `prefix` before every name.
pub(crate) fn below(prefix: &str, files: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    files.into_iter().map(|(name, content)| (format!("{prefix}{name}"), content)).collect()
}

/// The validation images in folders of classes.
pub(crate) fn val_tree() -> Vec<(String, Vec<u8>)> {
    let wnids = VAL_CLASSES.iter().map(|&class| WNIDS[class]);
    wnids.zip(val_files()).map(|(wnid, (name, content))| (format!("{wnid}/{name}"), content)).collect()
}

/// A tar file in memory.
pub(crate) fn tar_bytes(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, content.as_slice()).expect("memory can be written");
    }
    builder.into_inner().expect("memory can be written")
}

/// A tar file in memory whose names, of at most 100 bytes, are written as they are.
pub(crate) fn tar_as_named(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_slice()).expect("memory can be written");
    }
    builder.into_inner().expect("memory can be written")
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::default());
    gz.write_all(bytes).expect("memory can be written");
    gz.finish().expect("memory can be written")
}

/// The official training archive in small: one inner tar a class.
pub(crate) fn train_tar() -> Vec<u8> {
    let inner: Vec<(String, Vec<u8>)> = WNIDS
        .iter()
        .map(|wnid| {
            let files = train_files().into_iter();
            let files: Vec<_> = files
                .filter_map(|(name, content)| Some((name.strip_prefix(wnid)?[1..].to_owned(), content)))
                .collect();
            (format!("{wnid}.tar"), tar_bytes(&files))
        })
        .collect();
    tar_bytes(&inner)
}

/// The nodes of the class tree: the leaves in the order of their ids and one inner node.
pub(crate) fn synsets() -> Vec<Synset> {
    let mut synsets: Vec<Synset> = (0..3).map(|i| Synset::leaf(IDS[i], WNIDS[i], NAMES[i])).collect();
    synsets.sort_by_key(|synset| synset.id);
    synsets.push(Synset { children: vec![1, 2, 3], ..Synset::leaf(4, "n00015388", "animal") });
    synsets
}

pub(crate) fn ground_truth() -> String {
    VAL_CLASSES.iter().map(|&class| format!("{}\n", IDS[class])).collect()
}

/// The files of a development kit.
pub(crate) fn devkit_files(year: u32, ground_truth: &str) -> Vec<(String, Vec<u8>)> {
    let meta = MatWriter { year, ..MatWriter::USUAL }.file(&synsets());
    let truth = format!("kit/data/ILSVRC{year}_validation_ground_truth.txt");
    vec![
        ("kit/readme.txt".to_owned(), b"read me".to_vec()),
        ("kit/data/meta.mat".to_owned(), meta),
        (truth, ground_truth.as_bytes().to_vec()),
    ]
}

/// `train.tar`, `val.tar` and `devkit.tar.gz`.
pub(crate) fn ilsvrc_tars() -> Fixture {
    let fixture = Fixture::new();
    fixture.write("train.tar", train_tar());
    fixture.write("val.tar", tar_bytes(&val_files()));
    fixture.write("devkit.tar.gz", gzip(&tar_bytes(&devkit_files(2012, &ground_truth()))));
    fixture
}

/// `set/train/<class>/*` and `set/val/<class>/*`.
pub(crate) fn folders() -> Fixture {
    let fixture = Fixture::new();
    fixture.write_all(&below("set/train/", train_files()));
    fixture.write_all(&below("set/val/", val_tree()));
    fixture
}

/// Kaggle's layout in `kaggle`; the rows of its solution are not in the order of the images.
pub(crate) fn kaggle() -> Fixture {
    let fixture = Fixture::new();
    fixture.write_all(&below("kaggle/ILSVRC/Data/CLS-LOC/train/", train_files()));
    fixture.write_all(&below("kaggle/ILSVRC/Data/CLS-LOC/val/", val_files()));
    let rows = VAL_CLASSES.iter().zip(val_files()).rev().map(|(&class, (name, _))| {
        format!(
            "{},{wnid} 85 1 499 272 {wnid} 1 2 3 4 \r\n",
            name.trim_end_matches(".JPEG"),
            wnid = WNIDS[class]
        )
    });
    fixture.write(
        "kaggle/LOC_val_solution.csv",
        "ImageId,PredictionString\r\n".to_owned() + &rows.collect::<String>(),
    );
    let mapping: String = WNIDS.iter().zip(NAMES).map(|(wnid, name)| format!("{wnid} {name}\n")).collect();
    fixture.write("kaggle/LOC_synset_mapping.txt", mapping);
    fixture
}

/// Tiny-ImageNet's layout in `tiny-imagenet-200`.
pub(crate) fn tiny_imagenet() -> Fixture {
    let fixture = Fixture::new();
    let root = "tiny-imagenet-200";
    for (name, content) in train_files() {
        let (wnid, file) = name.split_once('/').expect("a training image lies in a folder");
        fixture.write(&format!("{root}/train/{wnid}/images/{file}"), content);
        fixture.write(&format!("{root}/train/{wnid}/{wnid}_boxes.txt"), "boxes");
    }
    fixture.write_all(&below(&format!("{root}/val/images/"), val_files()));
    let rows = VAL_CLASSES.iter().zip(val_files());
    let annotations: String =
        rows.map(|(&class, (name, _))| format!("{name}\t{}\t0\t32\t44\t62\n", WNIDS[class])).collect();
    fixture.write(&format!("{root}/val/val_annotations.txt"), annotations);
    fixture.write(&format!("{root}/wnids.txt"), format!("{}\n{}\n{}\n", WNIDS[2], WNIDS[0], WNIDS[1]));
    let words: String = WNIDS.iter().zip(NAMES).map(|(wnid, name)| format!("{wnid}\t{name}\n")).collect();
    fixture.write(&format!("{root}/words.txt"), "n00001740\tentity\n".to_owned() + &words);
    fixture.write_all(&below(&format!("{root}/test/images/"), val_files()));
    fixture
}

/// The files of CIFAR-10, with `records` images in each batch.
pub(crate) fn cifar_files(records: usize) -> Vec<(String, Vec<u8>)> {
    let batch = |number: usize| {
        let record = |i: usize| {
            let label = ((i + number) % 10) as u8;
            let planes = (0..3u8).flat_map(move |plane| {
                (0..1024usize).map(move |p| (p % 50) as u8 + 80 * plane + (i as u8) + number as u8)
            });
            std::iter::once(label).chain(planes)
        };
        (0..records).flat_map(record).collect::<Vec<u8>>()
    };
    let mut files: Vec<_> = (1..=5).map(|n| (format!("data_batch_{n}.bin"), batch(n))).collect();
    files.push(("test_batch.bin".to_owned(), batch(6)));
    let names = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";
    files.push(("batches.meta.txt".to_owned(), names.as_bytes().to_vec()));
    files
}

/// The names in a folder, sorted.
pub(crate) fn entries_of(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root).expect("the folder exists");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("the folder can be listed").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
