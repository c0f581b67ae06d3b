//! What the user of a source should know about it, though nothing needs to stop.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fovea_pipeline::summary::count;
use fovea_pipeline::text::printable;

use crate::names::is_attribute_file;

/// Names that a message shows before it says how many more there are.
const SHOWN: usize = 5;

/// Kinds of files that a message counts one by one.
const KINDS_SHOWN: usize = 10;

/// Something about a source that is said, not refused: what was passed over, what differs from what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// A word for programs: `passed-over`, `taken-by-content`, `empty-classes`, `missing-images` and others.
    pub kind: &'static str,
    /// The folder, archive or table.
    pub path: PathBuf,
    /// How many files, members or classes it is about.
    pub count: u64,
    /// One sentence without a full stop, in which the number stands.
    pub message: String,
    /// The names of what it is about, as far as they are known: paths relative to `path`, or classes.
    pub names: Vec<String>,
}

impl Note {
    /// A note about what `names` lists.
    pub(crate) fn about(kind: &'static str, path: &Path, names: Vec<String>, message: String) -> Self {
        Self { kind, path: path.to_owned(), count: names.len() as u64, message, names }
    }

    /// The files `names` of a folder or archive that are not taken, counted by their extensions; `None` if
    /// there are none.
    #[must_use]
    pub fn passed_over(path: &Path, names: Vec<String>) -> Option<Self> {
        Self::counted("passed-over", path, names, "passed over")
    }

    /// The files `names` of a folder or archive that are taken though they have not the name of an image,
    /// counted by their extensions; `None` if there are none.
    #[must_use]
    pub fn taken_by_content(path: &Path, names: Vec<String>) -> Option<Self> {
        Self::counted("taken-by-content", path, names, "taken for an image by content")
    }

    fn counted(kind: &'static str, path: &Path, mut names: Vec<String>, done: &str) -> Option<Self> {
        if names.is_empty() {
            return None;
        }
        names.sort();
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        for name in &names {
            *kinds.entry(kind_of_file(name)).or_default() += 1;
        }
        let mut kinds: Vec<(String, usize)> = kinds.into_iter().collect();
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let rest: usize = kinds.iter().skip(KINDS_SHOWN).map(|(_, count)| count).sum();
        kinds.truncate(KINDS_SHOWN);
        let mut kinds: Vec<String> =
            kinds.iter().map(|(kind, count)| format!("{count} {}", printable(kind))).collect();
        if rest > 0 {
            kinds.push(format!("{rest} of other kinds"));
        }
        let (files, verb) =
            (count(names.len() as u64, "file"), if names.len() == 1 { "was" } else { "were" });
        let message = format!("{files} {verb} {done}: {}", kinds.join(", "));
        Some(Self::about(kind, path, names, message))
    }
}

/// The kind of a file that has not the name of an image, by its name.
fn kind_of_file(name: &str) -> String {
    let file = name.rsplit('/').next().unwrap_or(name);
    match file.rsplit_once('.') {
        _ if name.starts_with('.') || name.contains("/.") => "hidden".to_owned(),
        _ if is_attribute_file(name) => "of the system".to_owned(),
        Some((_, extension)) if !extension.is_empty() => format!(".{}", extension.to_lowercase()),
        _ => "without an extension".to_owned(),
    }
}

/// The first few of `total` names, and how many more there are.
pub(crate) fn listed<S: AsRef<str>>(names: impl IntoIterator<Item = S>, total: usize) -> String {
    let mut shown: Vec<String> =
        names.into_iter().take(SHOWN).map(|name| printable(name.as_ref()).into_owned()).collect();
    if total > shown.len() {
        shown.push(format!("and {} more", total - shown.len()));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_by_extension_the_most_frequent_first() {
        let names = ["a/x.TXT", "a/y.txt", "b/z.mp4", "c/README", "c/.hidden.jpg", "d/dot."];
        let mut names: Vec<String> = names.map(str::to_owned).into();
        let note = Note::passed_over(Path::new("set"), names.clone()).expect("there are some");
        names.sort();
        assert_eq!(
            note.message,
            "6 files were passed over: 2 .txt, 2 without an extension, 1 .mp4, 1 hidden"
        );
        assert_eq!((note.count, note.names), (6, names));
        let one = Note::passed_over(Path::new("set"), vec!["a.gif".to_owned()]).expect("there is one");
        assert_eq!(one.message, "1 file was passed over: 1 .gif");
        assert_eq!(Note::passed_over(Path::new("set"), vec![]), None);
    }

    #[test]
    fn of_many_kinds_the_rest_is_one_number() {
        let names: Vec<String> = (0..13).map(|i| format!("a.x{}", i.max(1))).collect();
        let note = Note::passed_over(Path::new("set"), names).expect("there are some");
        assert!(note.message.starts_with("13 files were passed over: 2 .x1, 1 .x10"), "{}", note.message);
        assert!(note.message.ends_with(", 2 of other kinds"), "{}", note.message);
    }

    #[test]
    fn long_lists_end_with_the_number_of_the_rest() {
        assert_eq!(listed(["a", "b"], 2), "a, b");
        let many: Vec<String> = (0..9).map(|i| format!("c{i}")).collect();
        assert_eq!(listed(&many, many.len()), "c0, c1, c2, c3, c4, and 4 more");
    }
}
