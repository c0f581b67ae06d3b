//! The inputs of a file, with the lengths of their axes.

use std::collections::{BTreeMap, HashSet};

use super::super::declarations::axis_lengths;
use super::super::file::Imported;
use super::super::limits::LENGTH;
use super::names::unknown;
use crate::onnx::GraphProto;
use crate::{ElementType, Result};

/// An input of a file.
pub(super) struct FileInput {
    pub name: String,
    pub element: ElementType,
    /// `None` for the first axis if its length is free.
    pub axes: Vec<Option<usize>>,
    /// Length of the first axis in the file, where it fixes it.
    pub own_batch: Option<usize>,
}

impl FileInput {
    /// Whether the length of its first axis is free.
    pub fn has_free_batch(&self) -> bool {
        self.axes.first() == Some(&None)
    }

    /// An argument of `--shape` for it, with `batch` as the length of the first axis if that is free.
    pub fn shape_argument(&self, batch: Option<usize>) -> String {
        let length = |(at, axis): (usize, &Option<usize>)| match (at, axis) {
            (_, Some(length)) => length.to_string(),
            (0, None) => batch.map_or_else(|| "N".to_owned(), |batch| batch.to_string()),
            (_, None) => "224".to_owned(),
        };
        let lengths: Vec<String> = self.axes.iter().enumerate().map(length).collect();
        format!("{}={}", self.name, lengths.join(","))
    }
}

/// The inputs of `graph` in their order; `shapes` has the lengths that the user gives.
pub(super) fn inputs(
    file: &Imported,
    graph: &GraphProto,
    shapes: &BTreeMap<String, Vec<Option<usize>>>,
) -> Result<Vec<FileInput>> {
    let declared: Vec<_> =
        graph.input.iter().filter(|input| !file.constants.contains_key(input.name())).collect();
    if let Some(name) = shapes.keys().find(|name| !declared.iter().any(|input| input.name() == *name)) {
        return Err(unknown(file, "input", name, declared.iter().map(|input| input.name())));
    }
    if declared.is_empty() {
        return Err(file.failed("it has no input".into()));
    }
    let (mut inputs, mut seen) = (Vec::new(), HashSet::new());
    for input in declared {
        let name = input.name();
        if !seen.insert(name) {
            return Err(file.failed(format!("it has two inputs `{name}`")));
        }
        let failed = |what: String| Err(file.failed(format!("its input `{name}` {what}")));
        let Some((element, axes)) = axis_lengths(input) else { return failed("is not a tensor".into()) };
        let Some(element) = ElementType::of_onnx(element as i32) else {
            let expected = "FLOAT, DOUBLE, FLOAT16, UINT8, INT32, INT64 or BOOL";
            return failed(format!("is {}, expected {expected}", element.as_str_name()));
        };
        let own_batch = axes.first().copied().flatten();
        let mut input = FileInput { name: name.to_owned(), element, axes, own_batch };
        if let Some(given) = shapes.get(name) {
            // The batch of a trace may become another.
            let fits = |(own, given): (&Option<usize>, &Option<usize>)| own.is_none() || own == given;
            let is_unknown = input.axes.is_empty();
            if !is_unknown && input.axes.len() != given.len()
                || !input.axes.iter().zip(given).skip(1).all(fits)
            {
                let argument = input.shape_argument(None);
                return failed(format!("has axes that do not fit --shape; expected as in {argument}"));
            }
            input.axes.clone_from(given);
        }
        if input.axes.iter().skip(1).any(Option::is_none) {
            let argument = input.shape_argument(None);
            return failed(format!("has axes of free length; give lengths, as in --shape {argument}"));
        }
        if let Some(length) = input.axes.iter().flatten().find(|&&length| length > LENGTH) {
            return failed(format!("has an axis of {length}, more than {LENGTH}"));
        }
        inputs.push(input);
    }
    Ok(inputs)
}
