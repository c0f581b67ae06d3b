//! The development kits of ILSVRC-2010 and ILSVRC-2012: classes and the labels of the validation images.
//!
//! `data/meta.mat` lists the 1000 classes and the inner nodes above them with their ILSVRC ids, which are not
//! in the order of the WNIDs; `data/ILSVRC2012_validation_ground_truth.txt` holds one id per validation
//! image, in the order of the file names.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use fovea_pipeline::Class;

use crate::SourceError;
use crate::collection::ClassList;
use crate::matlab::{self, Array};
use crate::positioned::io_error;

const META: &str = "meta.mat";
const GROUND_TRUTH: &str = "validation_ground_truth.txt";
/// Far more than any file of a kit has that is read here.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// The content of a development kit.
#[derive(Debug)]
pub(crate) struct Devkit {
    /// The leaf classes.
    pub(crate) classes: ClassList,
    /// 2010 or 2012; its ids are named after it.
    pub(crate) year: u32,
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
    /// Reads a kit: its `tar.gz`, a tar, or the folder that it was unpacked to.
    pub(crate) fn open(path: &Path) -> Result<Self, SourceError> {
        let files = if path.is_dir() { Files::in_folder(path)? } else { Files::in_archive(path)? };
        let Some((meta_path, meta)) = files.meta else {
            return Err(SourceError::Missing {
                path: path.to_owned(),
                missing: format!("data/{META}"),
                remedy: "give ILSVRC2012_devkit_t12.tar.gz or the folder that it was unpacked to".to_owned(),
            });
        };
        let (year, classes) = read_classes(&meta_path, &meta)?;
        let ground_truth = match files.ground_truth {
            Some((path, text)) => Some(read_ground_truth(path, &text, &classes)?),
            None => None,
        };
        Ok(Self { classes, year, ground_truth })
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
                files.offer(path.clone(), || fs::read(&path).map_err(io_error(&path, "read")))?;
            }
            if files.meta.is_some() {
                return Ok(files);
            }
        }
        Ok(Self::default())
    }

    fn in_archive(archive: &Path) -> Result<Self, SourceError> {
        let mut file = fs::File::open(archive).map_err(io_error(archive, "open"))?;
        let mut magic = Vec::new();
        file.by_ref().take(2).read_to_end(&mut magic).map_err(io_error(archive, "read"))?;
        let start = std::io::Cursor::new(magic.clone());
        let reader: Box<dyn Read> = if magic == [0x1f, 0x8b] {
            Box::new(MultiGzDecoder::new(start.chain(file)))
        } else {
            Box::new(start.chain(file))
        };
        let damaged = |e: std::io::Error| SourceError::Damaged {
            path: archive.to_owned(),
            offset: 0,
            expected: "a complete tar or tar.gz file".to_owned(),
            found: e.to_string(),
            remedy: "give ILSVRC2012_devkit_t12.tar.gz, or download it again",
        };
        let mut files = Self::default();
        for entry in tar::Archive::new(reader).entries().map_err(damaged)? {
            let entry = entry.map_err(damaged)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            files.offer(archive.join(name.trim_start_matches(['.', '/'])), || {
                let mut bytes = Vec::new();
                entry.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(damaged)?;
                Ok(bytes)
            })?;
        }
        Ok(files)
    }
}

/// The year of the kit and its leaf classes.
fn read_classes(path: &Path, meta: &[u8]) -> Result<(u32, ClassList), SourceError> {
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

    let mut classes = Vec::new();
    let mut ids = HashMap::new();
    for (i, synset) in elements.iter().enumerate() {
        let number = |field: usize| match &synset[field] {
            Array::Numeric(values) if values.len() == 1 && values[0] >= 0.0 => Ok(values[0] as u32),
            other => Err(wrong(format!("synset {i}: {} is {other:?}, expected a number", fields[field]))),
        };
        let text = |field: usize| match &synset[field] {
            Array::Text(text) => Ok(text.clone()),
            other => Err(wrong(format!("synset {i}: {} is {other:?}, expected text", fields[field]))),
        };
        if number(children)? > 0 {
            continue;
        }
        let class = Class { wnid: text(wnid)?, ilsvrc_id: Some(number(id)?), name: text(words)? };
        if let Some(other) = ids.insert(class.ilsvrc_id, class.wnid.clone()) {
            let (a, b) = (&class.wnid, class.ilsvrc_id.unwrap_or_default());
            return Err(wrong(format!("synsets {other} and {a} have the same id {b}")));
        }
        classes.push(class);
    }
    Ok((year, ClassList::new(classes, path)?))
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
