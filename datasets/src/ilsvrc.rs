//! The official archives of ILSVRC-2010 and ILSVRC-2012, read in place.
//!
//! The training archive is a tar of one tar per class, `n01440764.tar`; the validation archive holds the
//! images side by side, labelled by the development kit.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::collection::Found;
use crate::compression::{strip_ignoring_case, strip_suffix};
use crate::names::is_image_name;
use crate::note::listed;
use crate::others::Others;
use crate::positioned::{PositionedFile, io_error};
use crate::tar_folder::notes_on;
use crate::tar_index;
use crate::tar_members::Member;
use crate::{Note, SourceError, splits};

/// The class that an inner archive is named after. A compressed archive counts too: it cannot be read in
/// place, but must not be ignored.
fn class_of(member: &Member) -> Option<&str> {
    let name = member.name.rsplit('/').next().unwrap_or(&member.name);
    strip_ignoring_case(name, ".tar").or_else(|| strip_suffix(name))
}

/// Whether an archive with these members is a tar of tars. Archives may also lie next to images by chance.
pub(crate) fn is_tar_of_tars(members: &[Member]) -> bool {
    members.iter().any(|member| class_of(member).is_some())
        && !members.iter().any(|member| is_image_name(&member.name))
}

/// Indexes the inner archives. Keys are `<class>/<file>`, as in a folder tree of the same images.
pub(crate) fn index_train(
    file: &Arc<PositionedFile>,
    members: Vec<Member>,
    mut others: Others,
) -> Result<(Found, Vec<Note>), SourceError> {
    let (archives, files): (Vec<Member>, Vec<Member>) =
        members.into_iter().partition(|member| class_of(member).is_some());
    others.files.extend(files.into_iter().map(|member| member.name));
    let folders: BTreeSet<&str> =
        archives.iter().filter_map(|archive| Some(archive.name.rsplit_once('/')?.0)).collect();
    let is_split = |folder: &&str| splits::is_called_like_split(folder.rsplit('/').next().unwrap_or(folder));
    if folders.len() > 1 && folders.iter().any(is_split) {
        return Err(mixed_splits(
            file,
            format!("archives of classes in {}", listed(&folders, folders.len())),
        ));
    }
    let images = tar_index::index_inner(file, &archives)?;
    let mut notes = notes_on(file.path(), &images);
    let mut unnamed = Vec::new();
    let mut found = Found::in_tar(file);
    for (archive, images) in archives.iter().zip(images) {
        let wnid = class_of(archive).unwrap_or_default();
        let has_folders =
            images.files.iter().any(|image| is_image_name(&image.name) && image.name.contains('/'));
        if has_folders && splits::is_called_like_split(wnid) {
            return Err(mixed_splits(file, format!("{:?} with folders of images in it", archive.name)));
        }
        let class = found.class(wnid);
        let place = |name: &str| format!("{wnid}/{name}");
        others.files.extend(images.others.files.iter().map(|name| place(name)));
        others.special.extend(images.others.special.iter().map(|name| place(name)));
        for member in images.files {
            let name = member.name.rsplit('/').next().unwrap_or(&member.name);
            let key = format!("{wnid}/{name}");
            if is_image_name(name) {
                found.push(key, class, member.range());
            } else if member.is_unnamed_image(file) {
                unnamed.push(key.clone());
                found.push(key, class, member.range());
            } else {
                others.files.push(place(&member.name));
            }
        }
    }
    notes.extend(Note::taken_by_content(file.path(), unnamed));
    notes.extend(others.notes(file.path()));
    Ok((found, notes))
}

fn mixed_splits(file: &PositionedFile, found: String) -> SourceError {
    SourceError::Layout {
        path: file.path().to_owned(),
        found,
        expected: "the archives of the classes of one split; unpack it and give its parts as training and \
                   validation images"
            .to_owned(),
    }
}

/// The official files in one folder.
#[derive(Debug, Default)]
pub(crate) struct Tars {
    /// `ILSVRC2012_img_train.tar`.
    pub(crate) train: Option<PathBuf>,
    /// `ILSVRC2012_img_val.tar`.
    pub(crate) val: Option<PathBuf>,
    /// `ILSVRC2012_devkit_t12.tar.gz`, or the folder that it was unpacked to.
    pub(crate) devkit: Option<PathBuf>,
}

impl Tars {
    /// Looks for the official files by name; `None` if there is no archive of images.
    pub(crate) fn find(folder: &Path) -> Result<Option<Self>, SourceError> {
        let mut tars = Self::default();
        for entry in fs::read_dir(folder).map_err(io_error(folder, "list"))? {
            let path = entry.map_err(io_error(folder, "list"))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if !name.starts_with("ILSVRC20") {
                continue;
            }
            if name.ends_with("_img_train.tar") {
                tars.train = Some(path);
            } else if name.ends_with("_img_val.tar") {
                tars.val = Some(path);
            } else if name.contains("_devkit") && (name.ends_with(".tar.gz") || tars.devkit.is_none()) {
                tars.devkit = Some(path);
            }
        }
        Ok((tars.train.is_some() || tars.val.is_some()).then_some(tars))
    }
}
