//! Tiny-ImageNet-200, a folder or a tar of it: `wnids.txt`, `words.txt`, `train/<wnid>/images/*.JPEG`, and
//! `val/images/*` with the labels in `val/val_annotations.txt`. The images of `test` have no labels.

use std::collections::HashMap;
use std::path::Path;

use fovea_pipeline::Class;

use crate::SourceError;
use crate::collection::{ClassList, Found};
use crate::files::Files;
use crate::image_labels::ImageLabels;
use crate::tar_folder::Archive;
use crate::tree::TreeImages;

const WNIDS: &str = "wnids.txt";
const WORDS: &str = "words.txt";
const VAL: &str = "val/";
const ANNOTATIONS: &str = "val_annotations.txt";

/// The data set's folder: `root` or the one in it with the usual name.
pub(crate) fn find(root: &Path) -> Option<Files<'static>> {
    let folders = [root.to_owned(), root.join("tiny-imagenet-200")];
    folders.into_iter().find(|folder| folder.join(WNIDS).is_file()).map(Files::Folder)
}

/// The data set in an archive, at its top or in a folder.
pub(crate) fn find_in(archive: &Archive) -> Option<Files<'_>> {
    let prefixes = archive.members.iter().filter_map(|member| member.name.strip_suffix(WNIDS));
    let is_top = |prefix: &&str| {
        let train = format!("{prefix}train/");
        (prefix.is_empty() || prefix.ends_with('/'))
            && archive.members.iter().any(|member| member.name.starts_with(&train))
    };
    prefixes.into_iter().find(is_top).map(|prefix| Files::Tar { archive, prefix: prefix.to_owned() })
}

/// Reads what [`find`] or [`find_in`] found: classes, training and validation images.
pub(crate) fn open(files: &Files) -> Result<(ClassList, Option<Found>, Option<Found>), SourceError> {
    let classes = read_classes(files)?;
    let mut train = files.images("train")?.map(TreeImages::in_classes).transpose()?;
    if let Some(train) = &mut train {
        train.notes.extend(files.note_on_test()?);
        let boxed = read_boxed(files, &classes)?;
        let boxed = boxed.iter().map(String::as_str);
        train.note_missing(&files.path("train"), boxed, |key| key.rsplit('/').next().unwrap_or(key));
    }
    Ok((classes, train, read_val(files, VAL)?))
}

/// Reads the validation images if `folder` is the data set's folder of these alone.
pub(crate) fn open_val(folder: &Path) -> Result<Option<Found>, SourceError> {
    let files = Files::Folder(folder.to_owned());
    if files.has(ANNOTATIONS) { read_val(&files, "") } else { Ok(None) }
}

/// The validation images, in a folder whose path ends with a slash, or at the top.
fn read_val(files: &Files, folder: &str) -> Result<Option<Found>, SourceError> {
    // Many people sort the images into folders of classes; then they need no annotations.
    let images = match files.images(&format!("{folder}images"))? {
        Some(images) => Some(images),
        None => files.images(folder.trim_end_matches('/'))?,
    };
    Ok(match images {
        Some(TreeImages::Flat(mut found)) => {
            found.label_by_name(&read_annotations(files, &format!("{folder}{ANNOTATIONS}"))?, |key| key)?;
            Some(found)
        }
        Some(TreeImages::Classes(found)) => Some(found),
        None => None,
    })
}

fn read_classes(files: &Files) -> Result<ClassList, SourceError> {
    let wnids = files.text(WNIDS)?;
    let words = if files.has(WORDS) { files.text(WORDS)? } else { String::new() };
    let names: HashMap<&str, &str> = words.lines().filter_map(|line| line.split_once('\t')).collect();
    let class = |wnid: &str| {
        let name = names.get(wnid).map_or(wnid, |name| name.trim());
        Class { wnid: wnid.to_owned(), ilsvrc_id: None, name: name.to_owned() }
    };
    ClassList::new(wnids.split_whitespace().map(class).collect(), &files.path(WNIDS))
}

/// The names of the training images that the files of boxes list: lines of a file name and a box.
fn read_boxed(files: &Files, classes: &ClassList) -> Result<Vec<String>, SourceError> {
    let mut names = Vec::new();
    for class in &classes.classes {
        let boxes = format!("train/{wnid}/{wnid}_boxes.txt", wnid = class.wnid);
        if files.has(&boxes) {
            let text = files.text(&boxes)?;
            names.extend(text.lines().filter_map(|line| Some(line.split_once('\t')?.0.to_owned())));
        }
    }
    Ok(names)
}

/// The WNID of each file: lines of a file name, a WNID and a box, separated by tabs.
fn read_annotations(files: &Files, name: &str) -> Result<ImageLabels, SourceError> {
    let text = files.text(name)?;
    let mut labels = ImageLabels::new(&files.path(name));
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let mut columns = line.split('\t');
        let (Some(file), Some(wnid)) = (columns.next(), columns.next()) else {
            return Err(SourceError::Line {
                path: files.path(name),
                line: i + 1,
                expected: "a file name, a tab and a WNID".to_owned(),
                found: line.to_owned(),
            });
        };
        labels.insert(i + 1, file, wnid.trim())?;
    }
    Ok(labels)
}
