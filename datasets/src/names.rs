//! What names of files say.

/// Files of these names are images, which may turn out damaged; of other files the content decides.
const EXTENSIONS: [&str; 14] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff", "pnm", "ppm", "pgm", "pbm"];
/// The names that [`is_image_name`] accepts, for messages.
pub(crate) const IMAGE_FILES: &str = "image files (*.jpg, *.png, *.webp and the like)";

/// Whether a file of this name is an image for every source. Hidden files (`._photo.jpg` of macOS) are not.
pub(crate) fn is_image_name(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    !file.starts_with('.')
        && file
            .rsplit_once('.')
            .is_some_and(|(_, extension)| EXTENSIONS.iter().any(|e| e.eq_ignore_ascii_case(extension)))
}

/// Files and folders, beside hidden ones, that systems leave beside those of users.
const OF_SYSTEMS: [&str; 8] = [
    "__MACOSX",
    "Thumbs.db",
    "desktop.ini",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
    // Previews that Synology's systems make, and their bin.
    "@eaDir",
    "#recycle",
];

/// Whether a path is that of a file that systems leave beside those of users: hidden files and folders
/// (`.DS_Store` and resource forks of macOS, `._photo.jpg`), attributes that old tar programs unpacked as
/// files (`PaxHeader/photo.jpg`), previews and bins.
pub(crate) fn is_attribute_file(path: &str) -> bool {
    path.split('/').any(|part| {
        let pax = part.strip_prefix("PaxHeader").map(|rest| rest.strip_prefix('s').unwrap_or(rest));
        let pax = pax.map(|rest| rest.strip_prefix('.').unwrap_or(rest));
        part.starts_with('.')
            || pax.is_some_and(|process| process.bytes().all(|b| b.is_ascii_digit()))
            || OF_SYSTEMS.iter().any(|name| name.eq_ignore_ascii_case(part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_systems_leave_are_known_by_any_part_of_their_path() {
        for path in [
            "cat/._1.jpg",
            ".git/x.png",
            "__MACOSX/cat/1.jpg",
            "cat/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg",
            "cat/THUMBS.DB",
            "PaxHeaders.1234/1.jpg",
            "cat/PaxHeader/1.jpg",
            "$RECYCLE.BIN/a.jpg",
        ] {
            assert!(is_attribute_file(path), "{path}");
        }
        for path in ["cat/1.jpg", "Thumbs.db.jpg", "PaxHeaderless/1.jpg", "eaDir/1.jpg", "cat/_1.jpg"] {
            assert!(!is_attribute_file(path), "{path}");
        }
    }
}
