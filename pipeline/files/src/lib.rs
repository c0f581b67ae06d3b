//! Files that are whole or absent, locks that die with their holder, and hashes.
//!
//! A process can be killed, a disk can fill up and the power can fail at any moment. A file written through
//! this crate has its final name only when all of its bytes are on the disk; until then it has a temporary
//! name:
//!
//! ```text
//! write ──► temporary name ──► sync the file ──► rename to the final name ──► sync the folder
//!                 │                  │
//!                 └──── an error or a panic: the temporary file is removed
//! ```
//!
//! | what is written | by | its temporary name |
//! | --- | --- | --- |
//! | a file in one go | [`write_atomically`] | `.NAME.tmp-…`, hidden |
//! | a file that is streamed for a while | [`PartialFile`] | `NAME.partial` |
//! | a folder of several files | [`PartialFolder`] | `.NAME`, hidden |
//!
//! A JSON file that [`seal`] has given a hash of its content is checked by [`unseal`].
//!
//! What is read comes from regular files only ([`open_regular`]).
//!
//! A process that is killed cannot remove its temporary files. The next one calls [`remove_temporary_files`]
//! or [`remove_partial_files`], usually while it holds a [`FileLock`] on the folder, so that it removes no
//! file of a process that still runs.
//!
//! ```
//! use std::io::Write;
//!
//! use fovea_files::{FileLock, PartialFile, remove_partial_files, sha256_of, write_atomically};
//!
//! # let temporary = tempfile::tempdir()?;
//! # let folder = temporary.path();
//! let Some(_lock) = FileLock::try_acquire_folder(folder)? else {
//!     return Err("another process is writing here".into());
//! };
//! remove_partial_files(folder)?;
//!
//! // A long file grows next to its final name.
//! let numbers = folder.join("numbers.txt");
//! let mut file = PartialFile::create(&numbers)?;
//! for number in 0..10 {
//!     writeln!(file, "{number}")?;
//! }
//! assert!(!numbers.exists());
//! file.finish()?;
//!
//! // A short file is replaced as a whole.
//! let hash = sha256_of(&numbers)?;
//! write_atomically(&folder.join("numbers.sha256"), |out| writeln!(out, "{hash}"))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod atomic;
mod cache;
mod durable;
mod error;
mod folder;
mod hash;
mod lock;
mod partial;
mod regular;
mod sealed;
#[cfg(test)]
mod test_support;

pub use atomic::{remove_temporary_files, write_atomically};
pub use cache::{cache_folder, cache_folder_by};
pub use durable::sync_folder;
pub use error::FileError;
pub use folder::PartialFolder;
pub use hash::{hexadecimal, sha256_of};
pub use lock::FileLock;
pub use partial::{PartialFile, remove_partial_files};
pub use regular::{kind_of, open_regular, read_regular, read_regular_text};
pub use sealed::{SealError, Sealed, canonical_json, seal, unseal};
