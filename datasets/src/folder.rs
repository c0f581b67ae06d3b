//! Folders of images: `<root>/{train,val}/<class>/*`, `<split>/<class>/*`, and the official validation images
//! side by side.

use std::fs;
use std::path::Path;

use crate::SourceError;
use crate::positioned::io_error;
use crate::tree::Listing;

/// A link to a folder above itself would never end.
const MAX_DEPTH: usize = 16;

/// Lists the images below `root`; links are followed.
pub(crate) fn list(root: &Path) -> Result<Listing<'_>, SourceError> {
    let mut names = Vec::new();
    walk(root, "", 0, &mut names)?;
    Ok(Listing::of_folder(root, names))
}

fn walk(folder: &Path, prefix: &str, depth: usize, names: &mut Vec<String>) -> Result<(), SourceError> {
    for entry in fs::read_dir(folder).map_err(io_error(folder, "list"))? {
        let entry = entry.map_err(io_error(folder, "list"))?;
        let path = entry.path();
        let name = entry.file_name();
        let Some(name) = name.to_str() else { return Err(SourceError::NameNotUtf8 { path }) };
        if name.starts_with('.') {
            continue;
        }
        let mut kind = entry.file_type().map_err(io_error(&path, "read its type"))?;
        if kind.is_symlink() {
            kind = fs::metadata(&path).map_err(io_error(&path, "follow the link"))?.file_type();
        }
        if kind.is_file() {
            names.push(format!("{prefix}{name}"));
        } else if kind.is_dir() && depth < MAX_DEPTH {
            walk(&path, &format!("{prefix}{name}/"), depth + 1, names)?;
        }
    }
    Ok(())
}
