//! The classes of images by their names, as tables beside them have these.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::SourceError;

/// What a table says of images.
pub(crate) struct ImageLabels {
    table: PathBuf,
    classes: HashMap<String, String>,
}

impl ImageLabels {
    /// Nothing yet, of the table at `table`.
    pub(crate) fn new(table: &Path) -> Self {
        Self { table: table.to_owned(), classes: HashMap::new() }
    }

    /// Adds what a line says, counted from 1.
    ///
    /// # Errors
    /// When another line has another class for the image.
    pub(crate) fn insert(&mut self, line: usize, image: &str, class: &str) -> Result<(), SourceError> {
        match self.classes.insert(image.to_owned(), class.to_owned()) {
            Some(other) if other != class => Err(SourceError::Line {
                path: self.table.clone(),
                line,
                expected: "one class for each image".to_owned(),
                found: format!("{image} of {class}, and of {other} in a line before"),
            }),
            _ => Ok(()),
        }
    }

    /// The class of an image.
    pub(crate) fn class(&self, image: &str) -> Option<&str> {
        self.classes.get(image).map(String::as_str)
    }

    /// Names of all images, in no particular order.
    pub(crate) fn images(&self) -> impl Iterator<Item = &str> {
        self.classes.keys().map(String::as_str)
    }

    /// Where the table is.
    pub(crate) fn table(&self) -> &Path {
        &self.table
    }
}
