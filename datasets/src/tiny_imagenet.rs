//! Tiny-ImageNet-200: `wnids.txt`, `words.txt`, `train/<wnid>/images/*.JPEG`, and `val/images/*` with the
//! labels in `val/val_annotations.txt`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use fovea_pipeline::Class;

use crate::collection::{ClassList, Found};
use crate::positioned::io_error;
use crate::tree::TreeImages;
use crate::{SourceError, folder};

/// The data set's folder: `root` or the one in it with the usual name.
pub(crate) fn find(root: &Path) -> Option<PathBuf> {
    [root.to_owned(), root.join("tiny-imagenet-200")]
        .into_iter()
        .find(|folder| folder.join("wnids.txt").is_file())
}

/// Reads the folder that [`find`] found: classes, training and validation images.
pub(crate) fn open(root: &Path) -> Result<(ClassList, Option<Found>, Option<Found>), SourceError> {
    let classes = read_classes(root)?;
    let images = |folder: &Path| {
        if folder.is_dir() { folder::list(folder)?.images().map(Some) } else { Ok(None) }
    };
    let mut train = images(&root.join("train"))?.map(TreeImages::in_classes).transpose()?;
    if let Some(train) = &mut train {
        train.notes.extend(folder::note_on_test(&root.join("test"))?);
    }
    let val = root.join("val");
    let annotations = val.join("val_annotations.txt");
    // Many people sort the validation images into folders of classes; then they need no annotations.
    let folder = if val.join("images").is_dir() { val.join("images") } else { val };
    let val = match images(&folder)? {
        Some(TreeImages::Flat(mut found)) => {
            let labels = read_annotations(&annotations)?;
            found.label_by_key(&annotations, |key| labels.get(key).cloned())?;
            Some(found)
        }
        Some(TreeImages::Classes(found)) => Some(found),
        None => None,
    };
    Ok((classes, train, val))
}

fn read_classes(root: &Path) -> Result<ClassList, SourceError> {
    let (wnids_path, words_path) = (root.join("wnids.txt"), root.join("words.txt"));
    let wnids = fs::read_to_string(&wnids_path).map_err(io_error(&wnids_path, "read"))?;
    let words = if words_path.is_file() {
        fs::read_to_string(&words_path).map_err(io_error(&words_path, "read"))?
    } else {
        String::new()
    };
    let names: HashMap<&str, &str> = words.lines().filter_map(|line| line.split_once('\t')).collect();
    let class = |wnid: &str| {
        let name = names.get(wnid).map_or(wnid, |name| name.trim());
        Class { wnid: wnid.to_owned(), ilsvrc_id: None, name: name.to_owned() }
    };
    ClassList::new(wnids.split_whitespace().map(class).collect(), &wnids_path)
}

/// The WNID of each file: lines of a file name, a WNID and a box, separated by tabs.
fn read_annotations(path: &Path) -> Result<HashMap<String, String>, SourceError> {
    let text = fs::read_to_string(path).map_err(io_error(path, "read"))?;
    let mut labels = HashMap::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let mut columns = line.split('\t');
        let (Some(file), Some(wnid)) = (columns.next(), columns.next()) else {
            return Err(SourceError::Line {
                path: path.to_owned(),
                line: i + 1,
                expected: "a file name, a tab and a WNID".to_owned(),
                found: line.to_owned(),
            });
        };
        labels.insert(file.to_owned(), wnid.trim().to_owned());
    }
    Ok(labels)
}
