//! Prepared data sets that lie elsewhere, in object storage or behind a web server, through a cache on disk.
//!
//! ```text
//! URL ─► dataset.json, mean image ─► Dataset ─► Loader
//!   └──► shards, when they are needed or before ─► *.partial ─► checked ─► cache ─► mapped as ever
//! ```
//!
//! ```no_run
//! use fovea_pipeline::Split;
//! use fovea_remote::{Cache, Settings, open};
//!
//! let cache = Cache { folder: "/scratch/cache".into(), limit: Some(100_000_000_000) };
//! let dataset = open("s3://bucket/imagenet", &cache, &Settings::default())?;
//! let records = dataset.records(Split::Train)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `docs/REMOTE.md` says which URLs there are, where credentials come from, and what is done about faults.
//!
//! # Features
//!
//! `object-store`, on by default, is for `s3://`, `gs://` and `az://`. The crate `object_store` signs requests
//! and finds credentials; what it asks for goes through the HTTP client that Fovea has anyway (`ureq`, TLS by
//! `rustls` with `ring`), so it brings no second one. Without the feature, `https://`, `hf://` and `file://`
//! are left.

mod address;
#[cfg(feature = "object-store")]
mod bucket;
mod cache;
mod download;
mod error;
mod fault;
mod folder;
mod http;
mod open;
mod retry;
mod settings;
mod shards;
mod source;
#[cfg(test)]
mod test_server;
#[cfg(test)]
mod tests;
mod upload;
mod web;

pub use address::is_url;
pub use cache::{Cache, folder_name};
pub use error::RemoteError;
pub use open::open;
pub use settings::{Settings, Stop};
pub use upload::{Upload, check_destination, upload};
