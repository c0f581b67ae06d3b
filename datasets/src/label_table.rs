//! A table of labels: a CSV file with a line for each image.
//!
//! | header | label of an image |
//! | --- | --- |
//! | `file,label` | one class |
//! | `file,labels` | any number of classes, separated by `;` or `|` |
//! | `file,NAME,NAME,…` | a number for each name |
//!
//! One more column, `split`, says `train` or `val`.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::Path;

use csv::{ReaderBuilder, StringRecord, Trim};
use fovea_pipeline::labels::{Label, LabelKind, Labels};
use fovea_pipeline::{Class, Split};

use crate::SourceError;
use crate::positioned::{io_error, open_file};

const FILE: &str = "file";
const SPLIT: &str = "split";
const LABEL: &str = "label";
const LABELS: &str = "labels";
/// Between the classes of an image.
const SEPARATORS: [char; 2] = [';', '|'];
/// Far more classes, or numbers, than any network has outputs; and so few that a label fits into memory.
const MOST_OUTPUTS: usize = 100_000;

/// A message shows so much of a long line.
const SHOWN_CHARS: usize = 120;

/// What a table says.
#[derive(Debug)]
pub(crate) struct LabelTable {
    /// The classes, sorted, or the names of the numbers in the order of their columns.
    pub classes: Vec<Class>,
    pub rows: Vec<Row>,
    /// The label of each row.
    pub labels: Labels,
    /// Whether there is a column of splits.
    pub has_splits: bool,
}

/// A line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    /// Path of the image, as the table has it.
    pub file: String,
    pub split: Split,
    /// Counted from 1.
    pub line: usize,
}

/// The columns of a table.
struct Columns {
    file: usize,
    split: Option<usize>,
    kind: LabelKind,
    /// The column of classes, or those of numbers.
    labels: Vec<usize>,
}

impl LabelTable {
    /// Reads the table at `path`.
    ///
    /// # Errors
    /// When it cannot be read, or a line of it is not of the form that its header demands.
    pub(crate) fn read(path: &Path) -> Result<Self, SourceError> {
        let mut text = Vec::new();
        open_file(path)?.read_to_end(&mut text).map_err(io_error(path, "read"))?;
        // A byte order mark, as spreadsheets write.
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
        let mut reader =
            ReaderBuilder::new().has_headers(false).flexible(true).trim(Trim::All).from_reader(text);
        let mut lines = reader.records().map(|line| line.map_err(|error| unreadable(path, &error)));
        let header = lines.next().transpose()?.unwrap_or_default();
        let columns = Columns::of(path, &header)?;
        let names = columns.labels.iter().map(|&column| header[column].to_owned());
        let mut read = Reading { path, columns: &columns, names: Names::default() };
        if columns.kind == LabelKind::Values {
            read.names.in_order = names.collect();
        }
        let (mut rows, mut found) = (Vec::new(), Vec::new());
        for line in lines {
            let line = line?;
            let number = line.position().map_or(0, |position| position.line() as usize);
            if line.len() != header.len() {
                let expected = format!("{} fields, as the header has", header.len());
                return Err(wrong(path, number, expected, &format!("{} fields", line.len())));
            }
            rows.push(read.row(&line, number)?);
            found.push(read.label(&line, number)?);
        }
        if rows.is_empty() {
            return Err(wrong(path, 2, "a line for each image".to_owned(), "the end of the file"));
        }
        let Names { in_order, .. } = read.names;
        let (classes, labels) = labelled(columns.kind, in_order, &found);
        if classes.is_empty() {
            return Err(wrong(path, 2, "a class in some line".to_owned(), "none in the whole table"));
        }
        if classes.len() > MOST_OUTPUTS {
            return Err(too_many(path, &format!("{} of them", classes.len())));
        }
        Ok(Self { classes, rows, labels, has_splits: columns.split.is_some() })
    }
}

impl Columns {
    fn of(path: &Path, header: &StringRecord) -> Result<Self, SourceError> {
        let wrong = |found: &str| {
            let expected = "a header `file,label` (a class), `file,labels` (classes, separated by ; or |) or \
                            `file,NAME,NAME,…` (numbers), perhaps with a column `split`";
            wrong(path, 1, expected.to_owned(), found)
        };
        if header.len() > MOST_OUTPUTS + 2 {
            return Err(too_many(path, &format!("{} columns", header.len())));
        }
        let all = header.iter().collect::<Vec<_>>().join(",");
        let place = |name: &str| header.iter().position(|column| column == name);
        let Some(file) = place(FILE) else { return Err(wrong(&all)) };
        let mut names = HashSet::new();
        for name in header {
            if name.is_empty() || !names.insert(name) {
                let found =
                    if name.is_empty() { "a column without a name" } else { "two columns of one name" };
                return Err(wrong(&format!("{found} in {all}")));
            }
        }
        let split = place(SPLIT);
        let labels: Vec<usize> =
            (0..header.len()).filter(|&column| column != file && Some(column) != split).collect();
        let kind = match (place(LABEL), place(LABELS), labels.len()) {
            (_, _, 0) => return Err(wrong(&all)),
            (Some(_), None, 1) => LabelKind::Class,
            (None, Some(_), 1) => LabelKind::MultiHot,
            (None, None, _) => LabelKind::Values,
            _ => return Err(wrong(&format!("{all}: classes and other columns"))),
        };
        Ok(Self { file, split, kind, labels })
    }
}

/// Names in the order in which they were found.
#[derive(Default)]
struct Names {
    in_order: Vec<String>,
    numbers: HashMap<String, usize>,
}

impl Names {
    fn number(&mut self, name: &str) -> usize {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        self.numbers.insert(name.to_owned(), self.in_order.len());
        self.in_order.push(name.to_owned());
        self.in_order.len() - 1
    }
}

/// The label in a line.
enum Found {
    /// Numbers of names.
    Classes(Vec<usize>),
    Values(Vec<f32>),
}

struct Reading<'a> {
    path: &'a Path,
    columns: &'a Columns,
    names: Names,
}

impl Reading<'_> {
    fn row(&self, fields: &StringRecord, line: usize) -> Result<Row, SourceError> {
        let file = &fields[self.columns.file];
        let file = file.strip_prefix("./").unwrap_or(file).to_owned();
        if file.is_empty() {
            return Err(wrong(self.path, line, "the path of an image".to_owned(), ""));
        }
        let split = match self.columns.split.map(|column| &fields[column]) {
            None | Some("train") => Split::Train,
            Some("val") => Split::Val,
            Some(other) => {
                return Err(wrong(self.path, line, "the split `train` or `val`".to_owned(), other));
            }
        };
        Ok(Row { file, split, line })
    }

    fn label(&mut self, fields: &StringRecord, line: usize) -> Result<Found, SourceError> {
        let columns = &self.columns.labels;
        match self.columns.kind {
            LabelKind::Class => {
                let class = &fields[columns[0]];
                if class.is_empty() || class.contains(SEPARATORS) {
                    let expected = "one class (several are in a column `labels`)";
                    return Err(wrong(self.path, line, expected.to_owned(), class));
                }
                Ok(Found::Classes(vec![self.names.number(class)]))
            }
            LabelKind::MultiHot => {
                let given = &fields[columns[0]];
                let mut classes = Vec::new();
                // No classes at all are a label too.
                for class in given.split(SEPARATORS).map(str::trim).filter(|_| !given.is_empty()) {
                    let number = self.names.number(class);
                    if class.is_empty() || classes.contains(&number) {
                        let problem = if class.is_empty() { "an empty class" } else { "a class twice" };
                        let expected = "different classes, separated by ; or |".to_owned();
                        return Err(wrong(self.path, line, expected, &format!("{problem} in {given}")));
                    }
                    classes.push(number);
                }
                Ok(Found::Classes(classes))
            }
            LabelKind::Values => {
                let number = |&column: &usize| {
                    let field = &fields[column];
                    let value = field.parse::<f32>().ok().filter(|value| value.is_finite());
                    value.ok_or_else(|| {
                        let name =
                            &self.names.in_order[columns.iter().position(|at| *at == column).unwrap_or(0)];
                        wrong(self.path, line, format!("a finite number for `{name}`"), field)
                    })
                };
                Ok(Found::Values(columns.iter().map(number).collect::<Result<_, _>>()?))
            }
        }
    }
}

/// The classes in their order, and the labels.
fn labelled(kind: LabelKind, names: Vec<String>, found: &[Found]) -> (Vec<Class>, Labels) {
    let mut order: Vec<usize> = (0..names.len()).collect();
    if kind != LabelKind::Values {
        order.sort_by(|&a, &b| names[a].cmp(&names[b]));
    }
    let mut index = vec![0; names.len()];
    (0..).zip(&order).for_each(|(place, &number)| index[number] = place);
    let class =
        |&number: &usize| Class { wnid: names[number].clone(), ilsvrc_id: None, name: names[number].clone() };
    let mut labels = Labels::new(kind, names.len());
    let mut marks = vec![0; names.len()];
    for found in found {
        match (found, kind) {
            (Found::Values(values), _) => labels.push(Label::Values(values)),
            (Found::Classes(numbers), LabelKind::Class) => {
                labels.push(Label::Class(index[numbers[0]] as u32))
            }
            (Found::Classes(numbers), _) => {
                marks.fill(0);
                numbers.iter().for_each(|&number| marks[index[number]] = 1);
                labels.push(Label::MultiHot(&marks));
            }
        }
    }
    (order.iter().map(class).collect(), labels)
}

fn too_many(path: &Path, found: &str) -> SourceError {
    wrong(path, 1, format!("at most {MOST_OUTPUTS} classes or numbers"), found)
}

fn wrong(path: &Path, line: usize, expected: String, found: &str) -> SourceError {
    let more = if found.chars().nth(SHOWN_CHARS).is_some() { "…" } else { "" };
    let found = found.chars().take(SHOWN_CHARS).chain(more.chars()).collect();
    SourceError::Line { path: path.to_owned(), line, expected, found }
}

fn unreadable(path: &Path, error: &csv::Error) -> SourceError {
    let line = error.position().map_or(1, |position| position.line() as usize);
    wrong(path, line, "a line of a CSV file in UTF-8".to_owned(), &error.to_string())
}
