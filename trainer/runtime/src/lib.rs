//! ONNX Runtime without set-up: find the shared library or fetch it, load it, make the one environment.
//!
//! [`locate`] looks at the path that the user gave, then in the cache, and then fetches the pinned wheels from a Python
//! package index: look-up in the index, download with resume, check of the sha256, and only the shared objects are
//! unpacked. [`environment`] checks the library before it is handed to `ort` (which would panic on a bad one), loads the
//! CUDA libraries that the provider needs, and makes the process-wide environment.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `ORT_DYLIB_PATH` | use this `libonnxruntime.so` and fetch nothing |
//! | `FOVEA_CACHE` | folder for what is fetched; else `$XDG_CACHE_HOME/fovea`, else `~/.cache/fovea` |
//! | `PIP_INDEX_URL` | package index to fetch from; else `https://pypi.org/simple` |
//! | `FOVEA_OFFLINE` | `1` forbids fetching |

pub mod copies;
mod device;
mod download;
mod driver;
mod environment;
mod error;
mod index;
mod library;
mod locate;
mod manifest;
mod options;
mod progress;
mod unpack;

#[cfg(test)]
mod test_server;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use device::{Device, DeviceChoice};
pub use driver::check_gpu;
pub use environment::{Loaded, environment};
pub use error::{FetchError, RuntimeError};
pub use library::check_library;
pub use locate::{Located, Source, locate};
pub use manifest::{Build, OLDEST_MINOR, ORT_VERSION, Wheel, wheels};
pub use options::{DEFAULT_INDEX_URL, Options, cache_folder};
pub use progress::Progress;
