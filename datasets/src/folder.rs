//! Folders of images: `<root>/{train,val}/<class>/*`, `<split>/<class>/*`, and the official validation images
//! side by side.

use std::fs;
use std::path::{Path, PathBuf};

use crate::SourceError;
use crate::positioned::io_error;
use crate::tree::Listing;

/// Lists the images below `root`; links are followed.
pub(crate) fn list(root: &Path) -> Result<Listing<'_>, SourceError> {
    let mut names = Vec::new();
    walk(root, "", &[], &mut names)?;
    Ok(Listing::in_folder(root, names))
}

/// Adds the files below `folder`. `above` has the real paths of the folders in which links were followed to
/// get there.
fn walk(folder: &Path, prefix: &str, above: &[PathBuf], names: &mut Vec<String>) -> Result<(), SourceError> {
    for entry in fs::read_dir(folder).map_err(io_error(folder, "list"))? {
        let entry = entry.map_err(io_error(folder, "list"))?;
        let path = entry.path();
        let name = entry.file_name();
        let Some(name) = name.to_str() else { return Err(SourceError::NameNotUtf8 { path }) };
        if name.starts_with('.') {
            continue;
        }
        let mut kind = entry.file_type().map_err(io_error(&path, "read its type"))?;
        let is_link = kind.is_symlink();
        if is_link {
            kind = fs::metadata(&path).map_err(io_error(&path, "follow the link"))?.file_type();
        }
        if kind.is_file() {
            names.push(format!("{prefix}{name}"));
        } else if kind.is_dir() {
            let inside = format!("{prefix}{name}/");
            if is_link {
                let target = path.canonicalize().map_err(io_error(&path, "follow the link"))?;
                let here = folder.canonicalize().map_err(io_error(folder, "find"))?;
                let above = [above, &[here]].concat();
                if above.iter().any(|folder| folder.starts_with(&target)) {
                    return Err(SourceError::EndlessLink { path, target });
                }
                walk(&path, &inside, &above, names)?;
            } else {
                walk(&path, &inside, above, names)?;
            }
        }
    }
    Ok(())
}
