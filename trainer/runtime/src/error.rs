//! What can go wrong between the user's wish and a loaded library.

use std::io;
use std::path::PathBuf;

use super::{Build, Wheel};

/// Why ONNX Runtime cannot be used; each text ends with what the user can do.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A wheel is neither in the cache nor to be had.
    #[error(
        "cannot fetch {}: {reason}; put that file ({} bytes, sha256 {}) at {}{} or set ORT_DYLIB_PATH to a \
         libonnxruntime.so of version 1.{} or newer",
        wheel.file, wheel.bytes, wheel.sha256, put_at.display(), also_needed(further), super::OLDEST_MINOR
    )]
    CannotFetch {
        /// The wheel.
        wheel: Wheel,
        /// Where a copy made by hand is looked for.
        put_at: PathBuf,
        /// Wheels that are needed besides and are not there either.
        further: Vec<Wheel>,
        /// What happened.
        reason: Box<FetchError>,
    },
    /// There is no folder to keep the library in.
    #[error("there is no cache folder: none of FOVEA_CACHE, XDG_CACHE_HOME and HOME is set; set FOVEA_CACHE")]
    NoCache,
    /// No wheel is pinned for this machine.
    #[error(
        "no {build} build of ONNX Runtime is pinned for {os} on {arch}; set ORT_DYLIB_PATH to a library of your own"
    )]
    NoWheel {
        /// What was wanted.
        build: Build,
        /// Operating system, as Rust names it.
        os: &'static str,
        /// Processor architecture, as Rust names it.
        arch: &'static str,
    },
    /// The given library is not there.
    #[error("there is no ONNX Runtime library at {}: {reason}; mend --ort-dylib or ORT_DYLIB_PATH", path.display())]
    Missing {
        /// What was given.
        path: PathBuf,
        /// What the file system said.
        reason: io::Error,
    },
    /// The given file is no shared library of this machine, or a damaged one.
    #[error("{} is not a usable shared library: {found}; give the path of a libonnxruntime.so", path.display())]
    NotALibrary {
        /// What was given.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// The dynamic linker refused the library.
    #[error("cannot load {}: {reason}", path.display())]
    CannotLoad {
        /// What was to be loaded.
        path: PathBuf,
        /// What the linker said.
        reason: String,
    },
    /// The shared library is some other one.
    #[error("{} is a shared library, but not ONNX Runtime 1.x; give the path of a libonnxruntime.so", path.display())]
    NotOnnxRuntime {
        /// What was given.
        path: PathBuf,
    },
    /// The library lacks functions that the trainer calls.
    #[error(
        "{} is ONNX Runtime 1.{found}, but 1.{oldest} or newer is needed; unset ORT_DYLIB_PATH to have a fitting one \
         fetched",
        path.display()
    )]
    TooOld {
        /// What was given.
        path: PathBuf,
        /// Its minor version.
        found: u32,
        /// The oldest that will do.
        oldest: u32,
    },
    /// The CUDA build needs the driver's library, which no wheel holds.
    #[error(
        "CUDA was asked for, but the NVIDIA driver cannot be loaded: {reason}; install it, or use --device cpu"
    )]
    NoDriver {
        /// What the linker said.
        reason: String,
    },
    /// There is a driver, but nothing to compute on.
    #[error("CUDA cannot be used: {reason}, or use --device cpu")]
    NoGpu {
        /// What the driver said, and the remedy.
        reason: String,
    },
    /// One process can load one library only, and another one is loaded.
    #[error(
        "the {loaded} build of ONNX Runtime ({}) is loaded already, and a process cannot load the {wanted} build beside it",
        library.display()
    )]
    OtherBuildLoaded {
        /// What is loaded.
        loaded: Build,
        /// From where.
        library: PathBuf,
        /// What was asked for.
        wanted: Build,
    },
    /// ONNX Runtime refused to start.
    #[error("ONNX Runtime ({}) does not start: {reason}", library.display())]
    Environment {
        /// The library.
        library: PathBuf,
        /// What it said.
        reason: ort::Error,
    },
}

/// Why one wheel could not be brought into the cache.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Fetching is forbidden, and the wheel is not in the cache.
    #[error("it is not in the cache and FOVEA_OFFLINE forbids fetching")]
    Offline,
    /// The server could not be reached, or the connection broke time and again.
    #[error("{url}: {reason}")]
    Transport {
        /// Address, without user name and password.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The server refused.
    #[error("{url}: HTTP status {status}")]
    Status {
        /// Address, without user name and password.
        url: String,
        /// Status code.
        status: u16,
    },
    /// The index is up but does not hold the wheel.
    #[error("the index page {url} does not list it")]
    NotListed {
        /// Address of the page.
        url: String,
    },
    /// The index page could not be understood.
    #[error("the index page {url} is not a package index: {reason}")]
    BadIndex {
        /// Address of the page.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The connection ended early and the server gave no more when asked again.
    #[error("{url}: the connection ended after {got_bytes} of {expected_bytes} bytes")]
    Truncated {
        /// Address.
        url: String,
        /// What came.
        got_bytes: u64,
        /// What should have come.
        expected_bytes: u64,
    },
    /// The server sends more than the wheel has.
    #[error("{url}: more than the expected {expected_bytes} bytes came")]
    TooLong {
        /// Address.
        url: String,
        /// Size of the wheel.
        expected_bytes: u64,
    },
    /// What came, or what lies there, is not the pinned file.
    #[error("{place} has sha256 {got}, expected {expected}")]
    WrongHash {
        /// Address or path.
        place: String,
        /// The pinned hash.
        expected: String,
        /// The hash of what came.
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
        /// What the file system said.
        reason: io::Error,
    },
}

impl FetchError {
    pub(super) fn disk(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |reason| Self::Disk { path, reason }
    }
}

/// What else to put into the folder of a wheel.
fn also_needed(further: &[Wheel]) -> String {
    let name = |wheel: &Wheel| format!("{} ({} bytes, sha256 {})", wheel.file, wheel.bytes, wheel.sha256);
    match further {
        [] => String::new(),
        further => format!(", beside it {},", further.iter().map(name).collect::<Vec<_>>().join(", ")),
    }
}
