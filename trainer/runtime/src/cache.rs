//! The cache folder: only its owner writes to it, and links in it are not followed.

use std::fs::{self, Metadata};
use std::io;
use std::path::Path;

use super::RuntimeError;

/// Creates a folder, and its parents, for the owner alone, unless it exists.
///
/// # Errors
/// When it cannot be created.
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Refuses a folder of the cache that others could change, or that is a link; the cache itself may be one.
pub(super) fn check_private(path: &Path, is_cache: bool) -> Result<(), RuntimeError> {
    let metadata = if is_cache { fs::metadata(path) } else { fs::symlink_metadata(path) };
    // Where there is nothing, a folder is made; other errors show when it is used.
    let Ok(metadata) = metadata else { return Ok(()) };
    let refuse = |found: String, remedy: String| {
        Err(RuntimeError::UnsafeCache { path: path.to_owned(), found, remedy })
    };
    if metadata.is_symlink() {
        return refuse("it is a link".to_owned(), "remove it".to_owned());
    }
    match open_to(&metadata) {
        None => Ok(()),
        Some(found) => refuse(found, format!("chmod go-w {}", path.display())),
    }
}

/// Who else may change what has this metadata.
#[cfg(unix)]
pub(super) fn open_to(metadata: &Metadata) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    // SAFETY: asks for a number.
    let user = unsafe { libc::geteuid() };
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if owner != user && owner != 0 {
        return Some(format!("it belongs to the user {owner}, not to {user}"));
    }
    (mode & 0o022 != 0).then(|| format!("others may write to it (mode {mode:o})"))
}

#[cfg(not(unix))]
pub(super) fn open_to(_metadata: &Metadata) -> Option<String> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_folder_is_made_for_its_owner_and_refused_when_others_can_write_to_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b");
        check_private(&folder, false).unwrap();
        create_private_folder(&folder).unwrap();
        for made in [&folder, &root.path().join("a")] {
            assert_eq!(fs::metadata(made).unwrap().mode() & 0o777, 0o700);
        }
        for (mode, is_fine) in [(0o755, true), (0o775, false), (0o777, false), (0o702, false), (0o700, true)]
        {
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
            let result = check_private(&folder, false);
            assert_eq!(result.is_ok(), is_fine, "{mode:o}");
            if let Err(error) = result {
                let text = error.to_string();
                let parts = [format!("mode {mode:o}"), format!("chmod go-w {}", folder.display())];
                assert!(parts.iter().all(|part| text.contains(part)), "{text}");
            }
        }
    }

    #[test]
    fn a_link_is_refused_unless_it_is_the_cache_itself() {
        let root = tempfile::tempdir().unwrap();
        let (folder, link) = (root.path().join("folder"), root.path().join("link"));
        create_private_folder(&folder).unwrap();
        symlink(&folder, &link).unwrap();
        check_private(&link, true).unwrap();
        let error = check_private(&link, false).unwrap_err().to_string();
        assert!(error.contains("link: it is a link") && error.contains("remove it"), "{error}");
    }
}
