//! A folder of photos whose labels are in a table.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use fovea_pipeline::labels::{Label, LabelKind, Labels};
use fovea_pipeline::{Class, Split};

use crate::collection::{ClassList, Collection, Found, note_on_empty};
use crate::label_table::{LabelTable, Row};
use crate::{Entry, Note, Payload, Source, SourceError, Stamp, folder};

/// The photos, with their labels.
#[derive(Debug)]
pub(crate) struct LabelledFolder {
    photos: Collection,
    kind: LabelKind,
    classes: Vec<Class>,
    /// Of each split, in the order of its entries.
    labels: [Labels; 2],
    notes: Vec<Note>,
}

impl LabelledFolder {
    /// Opens the photos below `root`, each of which has a line in the table at `table_path`, and each line a
    /// photo.
    ///
    /// Without a column of splits, the folders `train` and `val` are splits if all photos are in them.
    ///
    /// # Errors
    /// When the table or the folder cannot be read, or they do not belong together.
    pub(crate) fn open(root: &Path, table_path: &Path) -> Result<Self, SourceError> {
        let mut table = LabelTable::read(table_path)?;
        if !root.is_dir() {
            return Err(SourceError::Layout {
                path: root.to_owned(),
                found: "a file".to_owned(),
                expected: "a folder with the photos of the table of labels; unpack an archive first"
                    .to_owned(),
            });
        }
        let mut listing = folder::list(root)?;
        listing.leave_out(table_path);
        let mut notes = listing.notes();
        check(&table, table_path, listing.into_image_names(), root)?;
        if !table.has_splits {
            split_by_folder(&mut table.rows);
        }
        let (kind, outputs) = (table.labels.kind(), table.classes.len());
        let mut labels = [Labels::new(kind, outputs), Labels::new(kind, outputs)];
        let mut found = Split::ALL.map(|_| Found::in_folder(root));
        // Labels of other kinds have no class in the list of entries.
        let names: Vec<&str> = match kind {
            LabelKind::Class => table.classes.iter().map(|class| class.wnid.as_str()).collect(),
            LabelKind::MultiHot | LabelKind::Values => vec![""],
        };
        for found in &mut found {
            names.iter().for_each(|name| _ = found.class(name));
        }
        let mut order: Vec<usize> = (0..table.rows.len()).collect();
        order.sort_by(|&a, &b| table.rows[a].file.cmp(&table.rows[b].file));
        for index in order {
            let Row { file, split, .. } = &table.rows[index];
            let label = table.labels.get(index);
            labels[*split as usize].push(label);
            found[*split as usize].push(file.clone(), label.class(), 0..0);
        }
        let class =
            |name: &&str| Class { wnid: (*name).to_owned(), ilsvrc_id: None, name: (*name).to_owned() };
        let list = ClassList { classes: names.iter().map(class).collect(), from: table_path.to_owned() };
        let [train, val] = found.map(|found| Some(found).filter(|found| found.len() > 0));
        let photos = Collection::build("labelled-folder", Some(list), train, val, Vec::new())?;
        match kind {
            LabelKind::Class => notes.extend(photos.notes().iter().cloned()),
            LabelKind::MultiHot => {
                for (split, called) in Split::ALL.into_iter().zip(["training", "validation"]) {
                    let images = photos.entries(split).len();
                    let is_empty = without_images(&labels[split as usize], images, outputs);
                    notes.extend(note_on_empty(table_path, &table.classes, &is_empty, called));
                }
            }
            LabelKind::Values => {}
        }
        Ok(Self { photos, kind, classes: table.classes, labels, notes })
    }
}

/// Which of the classes no image of a split has, if the split has images.
fn without_images(labels: &Labels, images: usize, classes: usize) -> Vec<bool> {
    let mut is_empty = vec![images > 0; classes];
    for index in 0..images {
        if let Label::MultiHot(marks) = labels.get(index) {
            is_empty.iter_mut().zip(marks).for_each(|(is_empty, mark)| *is_empty &= *mark == 0);
        }
    }
    is_empty
}

/// Checks that each line has a photo, each photo a line, and no two lines the same.
fn check(table: &LabelTable, table_path: &Path, photos: Vec<String>, root: &Path) -> Result<(), SourceError> {
    let mut unlisted: HashSet<&str> = photos.iter().map(String::as_str).collect();
    let mut lines: HashMap<&str, usize> = HashMap::new();
    for row in &table.rows {
        if let Some(first) = lines.insert(&row.file, row.line) {
            return Err(SourceError::Line {
                path: table_path.to_owned(),
                line: row.line,
                expected: "one line for each photo".to_owned(),
                found: format!("{}, as in line {first}", row.file),
            });
        }
    }
    let lost: Vec<&Row> = table.rows.iter().filter(|row| !unlisted.remove(row.file.as_str())).collect();
    if let Some(first) = lost.first() {
        return Err(SourceError::NoPhoto {
            path: table_path.to_owned(),
            line: first.line,
            file: first.file.clone(),
            folder: root.to_owned(),
            lost: lost.len(),
        });
    }
    match unlisted.iter().min() {
        Some(first) => Err(SourceError::NoLine {
            path: table_path.to_owned(),
            folder: root.to_owned(),
            unlisted: unlisted.len(),
            first: (*first).to_owned(),
        }),
        None => Ok(()),
    }
}

/// Takes the folders `train` and `val` for splits if all photos are in them.
fn split_by_folder(rows: &mut [Row]) {
    let of =
        |row: &Row| Split::ALL.into_iter().find(|split| row.file.split('/').next() == Some(split.name()));
    let is_in = |split| rows.iter().any(|row| of(row) == Some(split));
    if rows.iter().all(|row| of(row).is_some()) && is_in(Split::Train) {
        rows.iter_mut().for_each(|row| row.split = of(row).unwrap_or(row.split));
    }
}

impl Source for LabelledFolder {
    fn name(&self) -> &'static str {
        self.photos.name()
    }

    fn classes(&self) -> &[Class] {
        &self.classes
    }

    fn label_kind(&self) -> LabelKind {
        self.kind
    }

    fn entries(&self, split: Split) -> &[Entry] {
        self.photos.entries(split)
    }

    fn label(&self, split: Split, index: usize) -> Label<'_> {
        self.labels[split as usize].get(index)
    }

    fn notes(&self) -> &[Note] {
        &self.notes
    }

    fn stamp(&self, split: Split, index: usize) -> Result<Option<Stamp>, SourceError> {
        self.photos.stamp(split, index)
    }

    fn read<'b>(
        &self,
        split: Split,
        index: usize,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Payload<'b>, SourceError> {
        self.photos.read(split, index, buffer)
    }
}
