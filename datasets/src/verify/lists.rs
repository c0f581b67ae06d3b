//! Checks of the small files next to the shards: what was prepared, of which images, and without which.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path;

use fovea_files::read_regular;
use fovea_pipeline::summary::count;
use fovea_pipeline::text::printable;
use fovea_pipeline::{Dataset, DatasetInfo, Split};

use super::{Problem, without_path};
use crate::prepare::{LIST_FILE, LIST_HEADER, Preparation, REJECTED_FILE, REJECTED_HEADER};

/// Compares `preparation.json`, `files.tsv` and `rejected.tsv`, where they are, with `dataset.json` and with
/// the keys in the shards.
pub(super) fn check(dataset: &Dataset, stored: &[HashSet<String>; 2]) -> Vec<Problem> {
    let mut problems = Problems { directory: dataset.directory(), found: Vec::new() };
    let preparation = problems.preparation(dataset.info());
    // The list of the images has all that are in shards or rejected, or more with a limit for each class.
    let is_limited = preparation.is_none_or(|preparation| preparation.limit_per_class.is_some());
    let listed = problems.table(LIST_FILE, LIST_HEADER);
    let rejected = problems.table(REJECTED_FILE, REJECTED_HEADER);
    for split in Split::ALL {
        let stored: HashSet<Cow<'_, str>> = stored[split as usize].iter().map(|key| printable(key)).collect();
        let [listed, rejected] =
            [&listed, &rejected].map(|table| table.as_deref().map(|text| keys(text, split)));
        if let Some(rejected) = &rejected {
            let both = rejected.iter().copied().filter(|&key| stored.contains(key));
            problems.about_images(REJECTED_FILE, split, both, "listed, but in a shard");
        }
        let Some(listed) = listed else { continue };
        let unlisted = stored.iter().map(|key| &**key).filter(|key| !listed.contains(key));
        problems.about_images(LIST_FILE, split, unlisted, "in a shard, but not listed");
        if let (false, Some(rejected)) = (is_limited, rejected) {
            let lost = listed.iter().copied().filter(|&key| !stored.contains(key) && !rejected.contains(key));
            problems.about_images(LIST_FILE, split, lost, "listed, but in no shard and not rejected");
        }
    }
    problems.found
}

/// The problems that were found.
struct Problems<'a> {
    directory: &'a Path,
    found: Vec<Problem>,
}

impl Problems<'_> {
    fn add(&mut self, file: &str, what: String) {
        self.found.push(Problem { path: self.directory.join(file), what });
    }

    /// The preparation, if it can be read and agrees with the description of the data set.
    fn preparation(&mut self, info: &DatasetInfo) -> Option<Preparation> {
        let file = DatasetInfo::PREPARATION_FILE_NAME;
        let preparation = match Preparation::read(self.directory) {
            Ok(preparation) => preparation?,
            Err(error) => {
                self.add(file, without_path(&error, &self.directory.join(file)));
                return None;
            }
        };
        let fields = [
            ("source", preparation.source.clone(), info.source.clone()),
            ("size", preparation.size.to_string(), info.image_size.to_string()),
            ("shape", preparation.resize.image_shape().to_string(), info.image_shape.to_string()),
            ("encoding", preparation.encoding.to_string(), info.encoding.to_string()),
        ];
        for (field, here, there) in fields {
            if here != there {
                self.add(file, format!("{field} is {here}, {} says {there}", DatasetInfo::FILE_NAME));
                return None;
            }
        }
        Some(preparation)
    }

    /// The text of a table with this header, if it is there and whole.
    fn table(&mut self, file: &str, header: &str) -> Option<String> {
        let bytes = match read_regular(&self.directory.join(file)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                self.add(file, format!("cannot read: {error}"));
                return None;
            }
        };
        let checked =
            String::from_utf8(bytes).map_err(|error| format!("not UTF-8: {error}")).and_then(|text| {
                let result = check_rows(&text, header);
                result.map(|()| text)
            });
        checked.map_err(|what| self.add(file, what)).ok()
    }

    fn about_images<'k>(
        &mut self,
        file: &str,
        split: Split,
        mut keys: impl Iterator<Item = &'k str>,
        what: &str,
    ) {
        if let Some(first) = keys.next() {
            let images = count(1 + keys.count() as u64, &format!("{split} image"));
            self.add(file, format!("{what}: {images}, such as {first}"));
        }
    }
}

/// Checks that each row has the columns of `header`, a split first.
fn check_rows(text: &str, header: &str) -> Result<(), String> {
    let columns = header.trim_end();
    if !text.starts_with(header) {
        let found = text.lines().next().unwrap_or_default();
        return Err(format!("line 1: found `{}`, expected `{}`", printable(found), printable(columns)));
    }
    if !text.ends_with('\n') {
        return Err("its last line is cut".into());
    }
    let expected = columns.split('\t').count();
    for (number, line) in (1..).zip(text.lines()).skip(1) {
        let found = line.split('\t').count();
        if found != expected {
            return Err(format!("line {number}: {}, expected {expected}", count(found as u64, "column")));
        }
        if !Split::ALL.iter().any(|split| line.split('\t').next() == Some(split.name())) {
            return Err(format!("line {number}: expected a split, train or val, found {}", printable(line)));
        }
    }
    Ok(())
}

/// The keys of a split in a table.
fn keys(table: &str, split: Split) -> HashSet<&str> {
    let of_split = |line: &'_ str| line.split('\t').next() == Some(split.name());
    table.lines().skip(1).filter(|line| of_split(line)).filter_map(|line| line.split('\t').nth(2)).collect()
}
