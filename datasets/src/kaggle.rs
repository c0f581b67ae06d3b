//! ImageNet as Kaggle distributes it: `ILSVRC/Data/CLS-LOC/{train,val}`, a folder or an archive of it, with
//! the validation labels in `LOC_val_solution.csv` and the names of the classes in `LOC_synset_mapping.txt`.

use std::path::{Path, PathBuf};

use fovea_pipeline::Class;

use crate::SourceError;
use crate::collection::{ClassList, Found};
use crate::files::Files;
use crate::image_labels::ImageLabels;
use crate::tar_folder::Archive;
use crate::tree::TreeImages;

const SOLUTION: &str = "LOC_val_solution.csv";
const MAPPING: &str = "LOC_synset_mapping.txt";

/// The folders that hold `train` and `val`, in the data set or in a folder of it.
const DATA: [&str; 3] = ["ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "CLS-LOC"];
/// The tables lie at the top of the data set, up to so many folders above these.
const LEVELS: usize = 3;

/// The folder that holds `train` and `val`, if `root` is Kaggle's data set or a folder in it.
pub(crate) fn find(root: &Path) -> Option<Files<'static>> {
    let inner = DATA.map(|folder| root.join(folder));
    let itself = root.ends_with("CLS-LOC").then(|| root.to_owned());
    inner.into_iter().chain(itself).find(|folder| folder.is_dir()).map(Files::Folder)
}

/// The folder that holds `train` and `val` in an archive, if there are tables in it or beside it: without
/// them it is a tree of folders like any other.
pub(crate) fn find_in(archive: &Archive) -> Result<Option<Files<'_>>, SourceError> {
    let data = archive.members.iter().find_map(|member| {
        let (above, inside) = member.name.split_once("CLS-LOC/")?;
        let is_split = ["train/", "val/"].iter().any(|split| inside.starts_with(split));
        (is_split && (above.is_empty() || above.ends_with('/'))).then(|| format!("{above}CLS-LOC/"))
    });
    let Some(prefix) = data else { return Ok(None) };
    let files = Files::Tar { archive, prefix };
    let has_table = files.and_above(LEVELS)?.iter().any(|files| files.has(MAPPING));
    Ok(has_table.then_some(files))
}

/// Reads what [`find`] or [`find_in`] found: classes, training and validation images.
pub(crate) fn open(files: &Files<'_>) -> Result<(ClassList, Option<Found>, Option<Found>), SourceError> {
    let (path, text) = table(files, MAPPING)?;
    let classes = read_mapping(&path, &text)?;
    let mut train = files.images("train")?.map(TreeImages::in_classes).transpose()?;
    if let Some(train) = &mut train {
        train.notes.extend(files.note_on_test()?);
    }
    let val = match files.images("val")? {
        Some(TreeImages::Flat(mut found)) => {
            let (path, text) = table(files, SOLUTION)?;
            let labels = read_solution(&path, &text)?;
            found.label_by_name(&labels, |key| key.rsplit_once('.').map_or(key, |(stem, _)| stem))?;
            Some(found)
        }
        Some(TreeImages::Classes(found)) => Some(found),
        None => None,
    };
    Ok((classes, train, val))
}

/// The path and the content of a table.
fn table(files: &Files<'_>, name: &str) -> Result<(PathBuf, String), SourceError> {
    match files.and_above(LEVELS)?.iter().find(|files| files.has(name)) {
        Some(files) => Ok((files.path(name), files.text(name)?)),
        None => Err(SourceError::Missing {
            path: files.path(""),
            missing: name.to_owned(),
            remedy: "put it next to the folder ILSVRC or to the archive, where Kaggle has it".to_owned(),
        }),
    }
}

/// Lines of `n01440764 tench, Tinca tinca`.
fn read_mapping(path: &Path, text: &str) -> Result<ClassList, SourceError> {
    let mut classes = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let Some((wnid, name)) = line.trim().split_once(' ') else {
            return Err(SourceError::Line {
                path: path.to_owned(),
                line: i + 1,
                expected: "a WNID, a space and names".to_owned(),
                found: line.to_owned(),
            });
        };
        classes.push(Class { wnid: wnid.to_owned(), ilsvrc_id: None, name: name.trim().to_owned() });
    }
    ClassList::new(classes, path)
}

/// The WNID of each image id. A row is `ILSVRC2012_val_00048981,n03995372 85 1 499 272`: the id, and a class
/// and a box for each object; all objects of an image have the same class.
fn read_solution(path: &Path, text: &str) -> Result<ImageLabels, SourceError> {
    let mut labels = ImageLabels::new(path);
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row = line.split_once(',').map(|(id, boxes)| {
            (id.trim().trim_matches('"'), boxes.trim().trim_matches('"').split_whitespace().next())
        });
        match row {
            Some(("ImageId", _)) if i == 0 => {}
            Some((id, Some(wnid))) if !id.is_empty() => labels.insert(i + 1, id, wnid)?,
            _ => {
                return Err(SourceError::Line {
                    path: path.to_owned(),
                    line: i + 1,
                    expected: "an image id, a comma, a WNID and a box".to_owned(),
                    found: line.to_owned(),
                });
            }
        }
    }
    Ok(labels)
}
