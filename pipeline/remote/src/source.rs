//! Where files come from.

use std::fmt::Debug;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use crate::fault::Fault;

/// A place with files.
pub(crate) trait Source: Debug + Send + Sync {
    /// The file `name`, or this range of it.
    ///
    /// The answer may begin with the first byte in spite of a range, and may end early.
    fn get(&self, name: &str, range: Option<Range<u64>>) -> Result<Answer, Fault>;

    /// Takes credentials from where they come from once more.
    fn look_again(&self) {}

    /// What helps when the server refuses.
    fn remedy(&self) -> &'static str;

    /// The length of the file `name` and the BLAKE3 digest that it was uploaded with; `None` if there is no
    /// such file.
    fn uploaded(&self, name: &str) -> Result<Option<Uploaded>, Fault>;

    /// Uploads `file` as `name`, whose BLAKE3 digest is `blake3`.
    fn put(&self, name: &str, file: &Path, blake3: &str) -> Result<(), Fault>;

    /// Removes the file `name`, if it is there.
    fn remove(&self, name: &str) -> Result<(), Fault>;
}

/// A file, or a range of it.
pub(crate) struct Answer {
    /// Where in the file the body begins.
    pub start: u64,
    /// Length of the whole file, if the server says it.
    pub total: Option<u64>,
    pub body: Box<dyn Read + Send>,
}

/// What is known of an uploaded file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Uploaded {
    pub bytes: u64,
    pub blake3: Option<String>,
}
