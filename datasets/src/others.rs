//! What lies in a folder or an archive beside the images.

use std::path::Path;

use fovea_pipeline::summary::count;

use crate::Note;

/// Paths, relative to the folder or archive, of what is not taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Others {
    /// Files without the name of an image, and files that systems leave.
    pub(crate) files: Vec<String>,
    /// Pipes, sockets and devices, whatever their names.
    pub(crate) special: Vec<String>,
    /// All folders, but those that systems leave.
    pub(crate) folders: Vec<String>,
}

impl Others {
    /// Those below `prefix`, with paths relative to it.
    pub(crate) fn below(&self, prefix: &str) -> Self {
        let below = |paths: &[String]| {
            paths.iter().filter_map(|path| path.strip_prefix(prefix)).map(str::to_owned).collect()
        };
        Self { files: below(&self.files), special: below(&self.special), folders: below(&self.folders) }
    }

    /// What is said of them where they lie below `path`.
    pub(crate) fn notes(&self, path: &Path) -> Vec<Note> {
        let mut notes: Vec<Note> = Note::passed_over(path, self.files.clone()).into_iter().collect();
        if !self.special.is_empty() {
            let special = count(self.special.len() as u64, "name");
            let message = format!("{special} passed over: pipes, sockets or devices");
            notes.push(Note::about("special-files", path, self.special.clone(), message));
        }
        notes
    }
}
