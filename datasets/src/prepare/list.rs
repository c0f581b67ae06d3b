//! The list of the images that a folder is prepared from, by which the next run notices what has changed.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write;
use std::io::ErrorKind;
use std::path::Path;

use fovea_files::read_regular_text;
use fovea_pipeline::text::printable;
use fovea_pipeline::{Label, Split};

use super::{PrepareError, durable};
use crate::{Source, SourceError};

/// Name of the list, next to the shards.
pub(crate) const LIST_FILE: &str = "files.tsv";

/// Its first line.
pub(crate) const LIST_HEADER: &str = "split\tclass\tkey\tbytes\tchanged\n";

/// The list of the images of `source`: for each its split, class, key, size in bytes, and the seconds from
/// the Unix epoch to its last change. What the source does not know of it is `-`.
pub(crate) fn of(source: &dyn Source) -> Result<String, SourceError> {
    let mut text = String::from(LIST_HEADER);
    for split in Split::ALL {
        for (index, entry) in source.entries(split).iter().enumerate() {
            let class = class_of(source, split, index);
            let (class, key) = (printable(&class), printable(&entry.key));
            // Writing to a string does not fail.
            let _ = match source.stamp(split, index)? {
                Some(stamp) => {
                    let (bytes, (seconds, nanoseconds)) = (stamp.bytes, stamp.changed);
                    writeln!(text, "{split}\t{class}\t{key}\t{bytes}\t{seconds}.{nanoseconds:09}")
                }
                None => writeln!(text, "{split}\t{class}\t{key}\t-\t-"),
            };
        }
    }
    Ok(text)
}

/// The class of an image, its classes, or its numbers.
fn class_of(source: &dyn Source, split: Split, index: usize) -> Cow<'_, str> {
    let classes = source.classes();
    match source.label(split, index) {
        Label::Class(class) => Cow::Borrowed(&classes[class as usize].wnid),
        Label::MultiHot(marks) => {
            let marked = classes.iter().zip(marks).filter(|(_, mark)| **mark == 1);
            let names: Vec<&str> = marked.map(|(class, _)| class.wnid.as_str()).collect();
            Cow::Owned(names.join(";"))
        }
        Label::Values(values) => {
            let numbers: Vec<String> = values.iter().map(f32::to_string).collect();
            Cow::Owned(numbers.join(";"))
        }
    }
}

/// The list in `directory`; `None` if an earlier version has prepared it.
pub(crate) fn read(directory: &Path) -> Result<Option<String>, PrepareError> {
    let path = directory.join(LIST_FILE);
    match read_regular_text(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PrepareError::io(&path, "read")(error)),
    }
}

/// Stores the list in `directory`.
pub(crate) fn write(directory: &Path, list: &str) -> Result<(), PrepareError> {
    durable::write(&directory.join(LIST_FILE), list.as_bytes())
}

/// In what two lists differ: split and key of each image.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Differences<'a> {
    pub added: Vec<(&'a str, &'a str)>,
    pub removed: Vec<(&'a str, &'a str)>,
    /// Of another class.
    pub moved: Vec<(&'a str, &'a str)>,
    /// Of another size, or changed at another time.
    pub touched: Vec<(&'a str, &'a str)>,
}

/// Compares the list `before` with that of `now`.
pub(crate) fn compare<'a>(before: &'a str, now: &'a str) -> Differences<'a> {
    let mut differences = Differences::default();
    if before == now {
        return differences;
    }
    let mut before: HashMap<(&str, &str), Row<'_>> = rows(before).map(|row| (row.name(), row)).collect();
    for row in rows(now) {
        match before.remove(&row.name()) {
            None => differences.added.push(row.name()),
            Some(other) if other.class != row.class => differences.moved.push(row.name()),
            Some(other) if other.stamp != row.stamp => differences.touched.push(row.name()),
            Some(_) => {}
        }
    }
    differences.removed = before.into_keys().collect();
    differences.removed.sort_unstable();
    differences
}

/// How a message names an image, from its split and key.
pub(crate) fn name((split, key): (&str, &str)) -> String {
    if split == Split::Train.name() { key.to_owned() } else { format!("{key} ({split})") }
}

/// A line of the list.
struct Row<'a> {
    split: &'a str,
    class: &'a str,
    key: &'a str,
    stamp: &'a str,
}

impl<'a> Row<'a> {
    fn name(&self) -> (&'a str, &'a str) {
        (self.split, self.key)
    }
}

/// A line that is damaged is left out, as if its image had been added since.
fn rows(list: &str) -> impl Iterator<Item = Row<'_>> {
    list.lines().skip(1).filter_map(|line| {
        let mut fields = line.splitn(4, '\t');
        let (split, class, key, stamp) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        Some(Row { split, class, key, stamp })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_differ_by_what_was_added_removed_moved_and_touched() {
        let list = |rows: &[&str]| format!("{LIST_HEADER}{}\n", rows.join("\n"));
        let before = list(&[
            "train\ta\ta/1\t5\t7.0",
            "train\ta\ta/2\t5\t7.0",
            "val\ta\ta/2\t5\t7.0",
            "val\tb\tb/3\t5\t7.0",
        ]);
        let now = list(&[
            "train\ta\ta/0\t5\t7.0",
            "train\tb\ta/2\t6\t7.0",
            "val\ta\ta/2\t5\t7.1",
            "val\tb\tb/3\t5\t7.0",
        ]);
        let expected = Differences {
            added: vec![("train", "a/0")],
            removed: vec![("train", "a/1")],
            moved: vec![("train", "a/2")],
            touched: vec![("val", "a/2")],
        };
        assert_eq!(compare(&before, &now), expected);
        assert_eq!(compare(&now, &now), Differences::default());
        assert_eq!(compare(&list(&["damaged"]), &list(&["val\ta\tx\t1\t2.0"])).added, [("val", "x")]);
    }
}
