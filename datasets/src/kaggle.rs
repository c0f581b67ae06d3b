//! ImageNet as Kaggle distributes it: `ILSVRC/Data/CLS-LOC/{train,val}`, with the validation labels in
//! `LOC_val_solution.csv` and the names of the classes in `LOC_synset_mapping.txt`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use fovea_pipeline::Class;

use crate::collection::{ClassList, Found};
use crate::files::read_text;
use crate::positioned::io_error;
use crate::tree::TreeImages;
use crate::{SourceError, folder};

const SOLUTION: &str = "LOC_val_solution.csv";
const MAPPING: &str = "LOC_synset_mapping.txt";

/// The folder that holds `train` and `val`, if `root` is Kaggle's data set or a folder in it.
pub(crate) fn find(root: &Path) -> Option<PathBuf> {
    let inner = ["ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "CLS-LOC"].map(|folder| root.join(folder));
    let itself = root.ends_with("CLS-LOC").then(|| root.to_owned());
    inner.into_iter().chain(itself).find(|folder| folder.is_dir())
}

/// Reads the folder that [`find`] found: classes, training and validation images.
pub(crate) fn open(data: &Path) -> Result<(ClassList, Option<Found>, Option<Found>), SourceError> {
    let classes = read_mapping(&table(data, MAPPING)?)?;
    let images = |name: &str| {
        let folder = data.join(name);
        if folder.is_dir() { folder::list(&folder)?.images().map(Some) } else { Ok(None) }
    };
    let mut train = images("train")?.map(TreeImages::in_classes).transpose()?;
    if let Some(train) = &mut train {
        train.notes.extend(folder::note_on_test(&data.join("test"))?);
    }
    let val = match images("val")? {
        Some(TreeImages::Flat(mut found)) => {
            let path = table(data, SOLUTION)?;
            let labels = read_solution(&path)?;
            found.label_by_key(&path, |key| {
                let id = key.rsplit_once('.').map_or(key, |(stem, _)| stem);
                labels.get(id).cloned()
            })?;
            Some(found)
        }
        Some(TreeImages::Classes(found)) => Some(found),
        None => None,
    };
    Ok((classes, train, val))
}

/// The path of a table: it lies at the top of the data set, up to three folders above the images.
fn table(data: &Path, name: &str) -> Result<PathBuf, SourceError> {
    let absolute = data.canonicalize().map_err(io_error(data, "find"))?;
    absolute.ancestors().take(4).map(|folder| folder.join(name)).find(|path| path.is_file()).ok_or_else(
        || SourceError::Missing {
            path: data.to_owned(),
            missing: name.to_owned(),
            remedy: "put it next to the folder ILSVRC, where Kaggle's archive has it".to_owned(),
        },
    )
}

/// Lines of `n01440764 tench, Tinca tinca`.
fn read_mapping(path: &Path) -> Result<ClassList, SourceError> {
    let text = read_text(path)?;
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
fn read_solution(path: &Path) -> Result<HashMap<String, String>, SourceError> {
    let text = read_text(path)?;
    let mut labels = HashMap::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row = line.split_once(',').map(|(id, boxes)| {
            (id.trim().trim_matches('"'), boxes.trim().trim_matches('"').split_whitespace().next())
        });
        match row {
            Some(("ImageId", _)) if i == 0 => {}
            Some((id, Some(wnid))) if !id.is_empty() => {
                labels.insert(id.to_owned(), wnid.to_owned());
            }
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
