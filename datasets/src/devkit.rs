//! The development kits of ILSVRC-2010 and ILSVRC-2012: classes and the labels of the validation images.
//!
//! `data/meta.mat` lists the 1000 classes and the inner nodes above them with their ILSVRC ids, which are not
//! in the order of the WNIDs; `data/ILSVRC2012_validation_ground_truth.txt` holds one id per validation
//! image, in the order of the file names.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use fovea_pipeline::Class;

use crate::collection::{ClassList, Found};
use crate::matlab::{self, Array};
use crate::positioned::{io_error, read_file};
use crate::tar_folder::Archive;
use crate::{Note, SourceError};

const META: &str = "meta.mat";
const GROUND_TRUTH: &str = "validation_ground_truth.txt";
/// Far more than any file of a kit has that is read here.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The content of a development kit.
#[derive(Debug)]
pub(crate) struct Devkit {
    /// The leaf classes.
    pub(crate) classes: ClassList,
    /// 2010 or 2012; its ids are named after it.
    pub(crate) year: u32,
    /// WNIDs and numbers of training images of the classes for which the kit has one.
    train_images: Vec<(String, u64)>,
    /// Labels of the validation images, where the kit has them.
    pub(crate) ground_truth: Option<GroundTruth>,
}

/// The labels of the validation images.
#[derive(Debug)]
pub(crate) struct GroundTruth {
    /// The file, for errors.
    pub(crate) path: PathBuf,
    /// WNIDs, in the order of the images' names.
    pub(crate) wnids: Vec<String>,
}

impl Devkit {
    /// Reads a kit: its `tar.gz`, which is inflated in `scratch_dir`, a tar, or the folder that it was
    /// unpacked to.
    pub(crate) fn open(path: &Path, scratch_dir: &Path) -> Result<Self, SourceError> {
        let files =
            if path.is_dir() { Files::in_folder(path)? } else { Files::in_archive(path, scratch_dir)? };
        let Some((meta_path, meta)) = files.meta else {
            return Err(SourceError::Missing {
                path: path.to_owned(),
                missing: format!("data/{META}"),
                remedy: "give ILSVRC2012_devkit_t12.tar.gz or the folder that it was unpacked to".to_owned(),
            });
        };
        let (year, classes, train_images) = read_classes(&meta_path, &meta)?;
        let ground_truth = match files.ground_truth {
            Some((path, text)) => Some(read_ground_truth(path, &text, &classes)?),
            None => None,
        };
        Ok(Self { classes, year, train_images, ground_truth })
    }

    /// What is to be said if there are not as many training images as the kit says.
    pub(crate) fn compare(&self, train: &Found) -> Option<Note> {
        let images = train.images_by_class();
        let found = |wnid: &str| images.get(wnid).copied().unwrap_or_default();
        let other = || self.train_images.iter().filter(|(wnid, expected)| found(wnid) != *expected);
        let (wnid, expected) = other().next()?;
        let count = other().count() as u64;
        let message = format!(
            "{} training images, {} according to {}; {count} of {} classes differ (the first is {wnid}: {} of \
             {expected})",
            train.len(),
            self.train_images.iter().map(|(_, images)| images).sum::<u64>(),
            self.classes.from.display(),
            self.classes.classes.len(),
            found(wnid),
        );
        Some(Note {
            kind: "image-counts",
            path: train.origin().to_owned(),
            count,
            message,
            names: Vec::new(),
        })
    }
}

/// The two files that matter, with their paths for errors.
#[derive(Default)]
struct Files {
    meta: Option<(PathBuf, Vec<u8>)>,
    ground_truth: Option<(PathBuf, Vec<u8>)>,
}

impl Files {
    /// Keeps the content of a file that matters.
    fn offer(
        &mut self,
        path: PathBuf,
        read: impl FnOnce() -> Result<Vec<u8>, SourceError>,
    ) -> Result<(), SourceError> {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(()) };
        if name == META {
            self.meta = Some((path, read()?));
        } else if name.starts_with("ILSVRC") && name.ends_with(GROUND_TRUTH) {
            self.ground_truth = Some((path, read()?));
        }
        Ok(())
    }

    /// Looks in the folder, in its `data`, and in `data` of its subfolders.
    fn in_folder(root: &Path) -> Result<Self, SourceError> {
        let mut folders = vec![root.to_owned(), root.join("data")];
        for entry in fs::read_dir(root).map_err(io_error(root, "list"))? {
            folders.push(entry.map_err(io_error(root, "list"))?.path().join("data"));
        }
        for folder in folders.iter().filter(|folder| folder.is_dir()) {
            let mut files = Self::default();
            for entry in fs::read_dir(folder).map_err(io_error(folder, "list"))? {
                let path = entry.map_err(io_error(folder, "list"))?.path();
                files.offer(path.clone(), || read_file(&path, MAX_FILE_BYTES))?;
            }
            if files.meta.is_some() {
                return Ok(files);
            }
        }
        Ok(Self::default())
    }

    fn in_archive(path: &Path, scratch_dir: &Path) -> Result<Self, SourceError> {
        let Some(archive) = Archive::open(path, scratch_dir)? else {
            return Err(SourceError::Damaged {
                path: path.to_owned(),
                offset: 0,
                expected: "a tar or tar.gz file".to_owned(),
                found: "a file of another kind".to_owned(),
                remedy: "give ILSVRC2012_devkit_t12.tar.gz, or download it again",
            });
        };
        let mut files = Self::default();
        for member in &archive.members {
            files.offer(path.join(&member.name), || archive.read(member, MAX_FILE_BYTES))?;
        }
        Ok(files)
    }
}

/// The year of the kit, its leaf classes, and those with a known number of training images.
type Classes = (u32, ClassList, Vec<(String, u64)>);

fn read_classes(path: &Path, meta: &[u8]) -> Result<Classes, SourceError> {
    let wrong = |problem: String| SourceError::Classes { path: path.to_owned(), problem };
    let variables = matlab::parse(meta).map_err(|e| SourceError::Damaged {
        path: path.to_owned(),
        offset: e.offset as u64,
        expected: e.expected,
        found: e.found,
        remedy: "download the development kit again",
    })?;
    let (fields, elements) = variables
        .into_iter()
        .find_map(|(name, array)| match array {
            Array::Struct { fields, elements } if name == "synsets" => Some((fields, elements)),
            _ => None,
        })
        .ok_or_else(|| wrong("has no struct array \"synsets\"".to_owned()))?;
    let field = |wanted: &str| {
        fields
            .iter()
            .position(|field| field == wanted)
            .ok_or_else(|| wrong(format!("struct \"synsets\" has no field {wanted:?}, but {fields:?}")))
    };
    let year = if fields.iter().any(|field| field == "ILSVRC2010_ID") { 2010 } else { 2012 };
    let (id, wnid) = (field(&format!("ILSVRC{year}_ID"))?, field("WNID")?);
    let (words, children) = (field("words")?, field("num_children")?);
    let images = fields.iter().position(|field| field == "num_train_images");

    let mut classes = Vec::new();
    let (mut ids, mut train_images) = (HashMap::new(), Vec::new());
    for (i, synset) in elements.iter().enumerate() {
        let number = |field: usize| match &synset[field] {
            Array::Numeric(values) if values.len() == 1 && is_u32(values[0]) => Ok(values[0] as u32),
            other => Err(wrong(format!("synset {i}: {} is {other}, expected a whole number", fields[field]))),
        };
        let text = |field: usize| match &synset[field] {
            Array::Text(text) => Ok(text.clone()),
            other => Err(wrong(format!("synset {i}: {} is {other}, expected text", fields[field]))),
        };
        if number(children)? > 0 {
            continue;
        }
        let class = Class { wnid: text(wnid)?, ilsvrc_id: Some(number(id)?), name: text(words)? };
        if let Some(other) = ids.insert(class.ilsvrc_id, class.wnid.clone()) {
            let (a, b) = (&class.wnid, class.ilsvrc_id.unwrap_or_default());
            return Err(wrong(format!("synsets {other} and {a} have the same id {b}")));
        }
        if let Some(field) = images {
            train_images.push((class.wnid.clone(), u64::from(number(field)?)));
        }
        classes.push(class);
    }
    Ok((year, ClassList::new(classes, path)?, train_images))
}

fn is_u32(value: f64) -> bool {
    (0.0..=f64::from(u32::MAX)).contains(&value) && value.fract() == 0.0
}

fn read_ground_truth(path: PathBuf, text: &[u8], classes: &ClassList) -> Result<GroundTruth, SourceError> {
    let by_id: HashMap<Option<u32>, &str> =
        classes.classes.iter().map(|class| (class.ilsvrc_id, class.wnid.as_str())).collect();
    let text = String::from_utf8_lossy(text);
    let mut wnids = Vec::new();
    for (i, line) in text.trim_end().lines().enumerate() {
        let wnid = line.trim().parse().ok().and_then(|id| by_id.get(&Some(id)));
        let Some(wnid) = wnid else {
            return Err(SourceError::Line {
                path,
                line: i + 1,
                expected: format!("the id of one of the {} classes", by_id.len()),
                found: line.to_owned(),
            });
        };
        wnids.push((*wnid).to_owned());
    }
    Ok(GroundTruth { path, wnids })
}
