//! Folders of images: `<root>/{train,val}/<class>/*`, `<split>/<class>/*`, and the official validation images
//! side by side.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fovea_pipeline::summary::count;

use crate::names::is_attribute_file;
use crate::others::Others;
use crate::positioned::io_error;
use crate::tree::Listing;
use crate::{Note, SourceError};

/// More links than this to the same folder are taken for a mistake: a few links in each of a few folders name
/// millions of paths.
const MAX_LINKS_TO_A_FOLDER: u32 = 1000;

/// Lists the images below `root`; links are followed.
pub(crate) fn list(root: &Path) -> Result<Listing<'_>, SourceError> {
    list_without(root, None)
}

/// Lists the images below `root`, but those in the folder `other`.
pub(crate) fn list_without<'a>(root: &'a Path, other: Option<&Path>) -> Result<Listing<'a>, SourceError> {
    let mut walk = Walk { left_out: other.map(identity).transpose()?, ..Walk::default() };
    walk.folder(root, "", &[])?;
    Ok(Listing::in_folder(root, walk.names, walk.others))
}

/// What is said of test images in the folder `test` beside those of the other splits.
pub(crate) fn note_on_test(test: &Path) -> Result<Option<Note>, SourceError> {
    if !test.is_dir() {
        return Ok(None);
    }
    Ok(about_test(test, list(test)?.into_image_names()))
}

/// What is said of the images `names` without labels in the folder `test`.
pub(crate) fn about_test(test: &Path, names: Vec<String>) -> Option<Note> {
    let message = format!("{} without labels passed over", count(names.len() as u64, "test image"));
    (!names.is_empty()).then(|| Note::about("unlabelled-test", test, names, message))
}

/// Device and inode of a folder.
fn identity(folder: &Path) -> Result<(u64, u64), SourceError> {
    let about = fs::metadata(folder).map_err(io_error(folder, "open"))?;
    Ok((about.dev(), about.ino()))
}

#[derive(Default)]
struct Walk {
    /// The folder that is not listed.
    left_out: Option<(u64, u64)>,
    names: Vec<String>,
    others: Others,
    /// How often a link has led to a folder, by its device and inode.
    links_to: HashMap<(u64, u64), u32>,
}

impl Walk {
    /// Adds what lies below `folder`. `above` has the real paths of the folders in which links were followed
    /// to get there.
    fn folder(&mut self, folder: &Path, prefix: &str, above: &[PathBuf]) -> Result<(), SourceError> {
        for entry in fs::read_dir(folder).map_err(io_error(folder, "list"))? {
            let entry = entry.map_err(io_error(folder, "list"))?;
            let path = entry.path();
            let name = entry.file_name();
            let Some(name) = name.to_str() else { return Err(SourceError::NameNotUtf8 { path }) };
            let relative = format!("{prefix}{name}");
            if is_attribute_file(name) {
                self.others.files.push(relative);
                continue;
            }
            let mut kind = entry.file_type().map_err(io_error(&path, "read its type"))?;
            let is_link = kind.is_symlink();
            if is_link {
                kind = fs::metadata(&path).map_err(io_error(&path, "follow the link"))?.file_type();
            }
            if kind.is_file() {
                self.names.push(relative);
            } else if kind.is_dir() {
                if self.left_out.is_some() && self.left_out == Some(identity(&path)?) {
                    continue;
                }
                let inside = format!("{relative}/");
                self.others.folders.push(relative);
                if is_link {
                    self.link(&path, folder, &inside, above)?;
                } else {
                    self.folder(&path, &inside, above)?;
                }
            } else {
                self.others.special.push(relative);
            }
        }
        Ok(())
    }

    /// Follows the link `path` in `folder`.
    fn link(
        &mut self,
        path: &Path,
        folder: &Path,
        prefix: &str,
        above: &[PathBuf],
    ) -> Result<(), SourceError> {
        let target = path.canonicalize().map_err(io_error(path, "follow the link"))?;
        let here = folder.canonicalize().map_err(io_error(folder, "find"))?;
        let above = [above, &[here]].concat();
        if above.iter().any(|folder| folder.starts_with(&target)) {
            return Err(SourceError::EndlessLink { path: path.to_owned(), target });
        }
        let links = self.links_to.entry(identity(&target)?).or_default();
        *links += 1;
        if *links > MAX_LINKS_TO_A_FOLDER {
            return Err(SourceError::TooManyLinks {
                path: path.to_owned(),
                target,
                limit: MAX_LINKS_TO_A_FOLDER,
            });
        }
        self.folder(path, prefix, &above)
    }
}
